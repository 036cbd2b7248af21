/** The store's certificate authority and serving certificate, made anew at each start. */
import {
  createRoot,
  issueServerCertificate,
  issuerOf,
  type SigningPair
} from '../../../shared/identity/issue.ts'

export interface ServingCertificate extends SigningPair {
  readonly caPem: string
}

/** The lab lives for hours; clocks of its clients are its own. */
const lifetimeMs = 365 * 24 * 3600_000
const skewMs = 3600_000

/** A certificate for these DNS names and addresses, signed by an authority whose key is then forgotten. */
export function createServingCertificate(names: readonly string[], now: number): ServingCertificate {
  const valid = { notBefore: now - skewMs, notAfter: now + lifetimeMs }
  const root = createRoot({ organization: 'underpass-lab', ...valid })
  const issuer = issuerOf({ ...root, rootsPem: root.certificatePem })
  return { caPem: root.certificatePem, ...issueServerCertificate({ names, issuer, ...valid }) }
}
