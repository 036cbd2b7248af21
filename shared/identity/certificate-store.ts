/** The workload certificates that a ztunnel holds: one per identity, fetched once, renewed at half their life. */
import type { SpiffeId } from './spiffe-id.ts'
import type { CertificateFacts, WorkloadCertificate } from './certificate.ts'

/** Where certificates come from: the CA client, or the fake CA. Errors say why the CA refused. */
export interface CertificateSource {
  fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate>
}

export type CertificateState =
  | { readonly kind: 'initializing' }
  | { readonly kind: 'available'; readonly certificate: WorkloadCertificate }
  | { readonly kind: 'unavailable'; readonly error: string }

/** One held identity, for config dumps; no keys. */
export interface CertificateEntry {
  readonly identity: SpiffeId
  readonly state: 'Initializing' | 'Available' | `Unavailable: ${string}`
  /** Leaf first. */
  readonly chain: readonly CertificateFacts[]
  readonly roots: readonly CertificateFacts[]
}

/** What workers and listeners need of the store. */
export interface Certificates {
  /** The certificate at hand, else the fetch's outcome; a failed identity answers with its error at once. */
  get(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate>
}
