/** Where certificates come from: the CA, the fake CA of local meshes, or nowhere. Loaded when it is known which. */
import {
  controlPlaneTarget,
  type ControlPlaneAddress,
  type ProxyCredentials
} from '../xds/control-plane-config.ts'
import type { CertificateSource } from './certificate-store.ts'

export interface CertificateSourceOptions {
  readonly ca: ControlPlaneAddress & { readonly fake: boolean; readonly secretTtlMs: number }
  readonly credentials: ProxyCredentials
  /** A shared proxy asks for others in their names; one of its own has the token of its own workload. */
  readonly impersonate: boolean
}

export async function certificateSource({
  ca,
  credentials,
  impersonate
}: CertificateSourceOptions): Promise<CertificateSource> {
  const ttlSeconds = Math.round(ca.secretTtlMs / 1000)
  if (ca.fake) {
    const { FakeCa } = await import('./fake-ca.ts')
    return new FakeCa({ ttlSeconds })
  }
  if (ca.address === undefined) {
    return {
      fetch: () => Promise.reject(new Error('there is no certificate authority: CA_ADDRESS is empty'))
    }
  }
  const { CaClient } = await import('./ca-client.ts')
  return new CaClient({ target: controlPlaneTarget(ca, ca.address, credentials), ttlSeconds, impersonate })
}
