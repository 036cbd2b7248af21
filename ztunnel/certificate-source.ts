/** Where certificates come from: the CA, the fake CA of local meshes, or nowhere. Loaded when it is known which. */
import type { CertificateSource } from '../shared/identity/certificate-store.ts'
import type { Config } from './config.ts'
import { controlPlaneTarget } from './control-plane.ts'

export async function certificateSource(config: Config): Promise<CertificateSource> {
  const { ca, proxyMode } = config
  const ttlSeconds = Math.round(ca.secretTtlMs / 1000)
  if (ca.fake) {
    const { FakeCa } = await import('../shared/identity/fake-ca.ts')
    return new FakeCa({ ttlSeconds })
  }
  if (ca.address === undefined) {
    return {
      fetch: () => Promise.reject(new Error('there is no certificate authority: CA_ADDRESS is empty'))
    }
  }
  const { CaClient } = await import('../shared/identity/ca-client.ts')
  const target = controlPlaneTarget(config, ca, ca.address)
  // A dedicated proxy has the token of its own workload; a shared one asks for others in their names.
  return new CaClient({ target, ttlSeconds, impersonate: proxyMode === 'shared' })
}
