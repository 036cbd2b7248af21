/** Where certificates come from: the CA, the fake CA of local meshes, or nowhere. Loaded when it is known which. */
import type { CertificateSource } from '../shared/identity/certificate-store.ts'
import type { Config } from './config.ts'

export async function certificateSource(config: Config): Promise<CertificateSource> {
  const { ca } = config
  if (ca.fake) {
    const { FakeCa } = await import('../shared/identity/fake-ca.ts')
    return new FakeCa({ ttlSeconds: Math.round(ca.secretTtlMs / 1000) })
  }
  if (ca.address === undefined) {
    return {
      fetch: () => Promise.reject(new Error('there is no certificate authority: CA_ADDRESS is empty'))
    }
  }
  throw new Error('in progress')
}
