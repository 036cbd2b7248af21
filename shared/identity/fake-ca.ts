/**
 * `FAKE_CA=true`: certificates without a CA, for meshes of local test proxies. Every process derives the same
 * root key, so that they trust one another; anybody can derive it, so it protects nothing.
 */
import { createECDH, createHash, createPrivateKey } from 'node:crypto'
import { systemClock, type Clock } from '../runtime/clock.ts'
import { CertificateError, splitPem, workloadCertificate, type WorkloadCertificate } from './certificate.ts'
import type { CertificateSource } from './certificate-store.ts'
import { createCsr } from './csr.ts'
import { createRoot, issueCertificate, issuerOf, type Issuer } from './issue.ts'
import type { SpiffeId } from './spiffe-id.ts'

export interface FakeCaOptions {
  readonly clock?: Clock
  /** Lifetime of the certificates; a day when left out. */
  readonly ttlSeconds?: number
}

export class FakeCa implements CertificateSource {
  readonly #clock: Clock
  readonly #ttlSeconds: number
  #issuer: Issuer | undefined

  constructor({ clock = systemClock, ttlSeconds = 0 }: FakeCaOptions = {}) {
    this.#clock = clock
    this.#ttlSeconds = ttlSeconds
  }

  async fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    signal.throwIfAborted()
    const issuer = (this.#issuer ??= fakeIssuer())
    const { csrPem, keyPem } = createCsr(identity)
    const issued = issueCertificate({
      csrPem,
      identity,
      ttlSeconds: this.#ttlSeconds,
      issuer,
      now: this.#clock.now()
    })
    if (issued.kind === 'refused') throw new CertificateError(issued.problem)
    return workloadCertificate({
      chainPem: issued.certChain.slice(0, -1),
      rootsPem: splitPem(issued.certChain.at(-1) ?? ''),
      keyPem
    })
  }
}

/** The issuer behind {@link FakeCa}, for test servers that play a CA. */
export function fakeIssuer(): Issuer {
  const root = createRoot({
    organization: 'Underpass fake CA, for tests only',
    notBefore: Date.UTC(2020, 0, 1),
    notAfter: Date.UTC(2080, 0, 1),
    keyPem: derivedKey()
  })
  return issuerOf({ ...root, rootsPem: root.certificatePem })
}

function derivedKey(): string {
  const scalar = createHash('sha256').update('Underpass fake CA, for tests only').digest()
  const pair = createECDH('prime256v1')
  pair.setPrivateKey(scalar)
  const point = pair.getPublicKey()
  const jwk = {
    kty: 'EC',
    crv: 'P-256',
    d: scalar.toString('base64url'),
    x: point.subarray(1, 33).toString('base64url'),
    y: point.subarray(33).toString('base64url')
  }
  return createPrivateKey({ key: jwk, format: 'jwk' }).export({ type: 'pkcs8', format: 'pem' }).toString()
}
