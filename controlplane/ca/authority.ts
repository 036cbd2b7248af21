/**
 * The certificate authority: who signs now, and every root that workloads shall trust. Signers and roots
 * change in an order in which nobody ever meets a certificate that it cannot verify: a new root is in the
 * bundle for as long as leaves live before anything is signed below it, and an old one stays as long after.
 */
import { X509Certificate } from 'node:crypto'
import { splitPem } from '../../shared/identity/certificate.ts'
import { issueCertificate, type Issued, type Issuer } from '../../shared/identity/issue.ts'
import type { SpiffeId } from '../../shared/identity/spiffe-id.ts'
import type { Clock } from '../../shared/runtime/clock.ts'

export interface AuthorityOptions {
  readonly issuer: Issuer
  readonly clock: Clock
  /** Longest life of a leaf that is issued, in seconds; it also bounds what clients may ask for. */
  readonly maxTtlSeconds: number
  /** How long a new root is announced before it signs, and an old one kept after; milliseconds. */
  readonly overlapMs: number
}

/** What became of a new signer. */
export type Adoption =
  /** It signs from now on. */
  | { readonly kind: 'adopted' }
  /** Its root is new to everybody: it is announced now and signs from `at` (milliseconds). */
  | { readonly kind: 'announced'; readonly at: number }
  | { readonly kind: 'unchanged' }

interface RetiredRoot {
  readonly pem: string
  readonly until: number
}

export class CertificateAuthority {
  readonly #options: AuthorityOptions
  #issuer: Issuer
  /** Waits for its root to be known everywhere. */
  #next: { readonly issuer: Issuer; readonly at: number } | undefined
  #retired: readonly RetiredRoot[] = []
  readonly #listeners: (() => void)[] = []

  constructor(options: AuthorityOptions) {
    this.#options = options
    this.#issuer = options.issuer
  }

  get issuer(): Issuer {
    this.#advance()
    return this.#issuer
  }

  /** Every root that somebody may need, each once, concatenated PEM. */
  get bundlePem(): string {
    const now = this.#options.clock.now()
    const roots = [
      ...splitPem(this.issuer.rootsPem),
      ...splitPem(this.#next?.issuer.rootsPem ?? ''),
      ...this.#retired.filter(({ until }) => until > now).map(({ pem }) => pem)
    ]
    return [...new Map(roots.map(pem => [fingerprint(pem), pem])).values()].join('')
  }

  /** `listener` runs after the signer or the bundle changed. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener)
  }

  issue(request: {
    readonly csrPem: string
    readonly identity: SpiffeId
    readonly ttlSeconds: number
  }): Issued {
    const { clock, maxTtlSeconds } = this.#options
    const issued = issueCertificate({ ...request, issuer: this.issuer, now: clock.now(), maxTtlSeconds })
    if (issued.kind === 'refused') return issued
    return { ...issued, certChain: [...issued.certChain.slice(0, -1), this.bundlePem] }
  }

  /** Takes over a new signer or new roots as soon as nobody is harmed. */
  adopt(issuer: Issuer): Adoption {
    const { clock, overlapMs } = this.#options
    const now = clock.now()
    const latest = this.#next?.issuer ?? this.#issuer
    if (sameIssuer(issuer, latest)) return { kind: 'unchanged' }
    if (verifies(issuer, this.bundlePem)) {
      this.#next = undefined
      this.#become(issuer, now)
      return { kind: 'adopted' }
    }
    const at = now + overlapMs
    this.#next = { issuer, at }
    this.#changed()
    return { kind: 'announced', at }
  }

  /** Does what is due by now, so that it happens without anybody asking for a certificate. */
  settle(): void {
    this.#advance()
    const now = this.#options.clock.now()
    const left = this.#retired.filter(({ until }) => until > now)
    if (left.length === this.#retired.length) return
    this.#retired = left
    this.#changed()
  }

  #advance(): void {
    const now = this.#options.clock.now()
    if (this.#next === undefined || this.#next.at > now) return
    const { issuer } = this.#next
    this.#next = undefined
    this.#become(issuer, now)
  }

  #become(issuer: Issuer, now: number): void {
    const until = now + this.#options.overlapMs
    const retired = splitPem(this.#issuer.rootsPem).map(pem => ({ pem, until }))
    this.#retired = [...this.#retired.filter(root => root.until > now), ...retired]
    this.#issuer = issuer
    this.#changed()
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }
}

/** Why nothing that it signs would be accepted at this time (milliseconds); undefined when all is well. */
export function issuerProblem(issuer: Issuer, now: number): string | undefined {
  for (const { subject, validFrom, validTo } of certificatesOf(issuer)) {
    if (Date.parse(validTo) <= now) return `${subject} expired on ${validTo}; renew it`
    if (Date.parse(validFrom) > now) return `${subject} is valid from ${validFrom} only; check the clocks`
  }
  if (verifies(issuer, issuer.rootsPem)) return undefined
  return 'it does not lead to a root that is given with it; add what is between to its chain, or the right root'
}

/** Which of its certificates is in the last fifth of its life, and when it ends. */
export function endsSoon(issuer: Issuer, now: number): string | undefined {
  const ending = certificatesOf(issuer).find(({ validFrom, validTo }) => {
    const [from, to] = [Date.parse(validFrom), Date.parse(validTo)]
    return to - now < (to - from) / 5
  })
  return ending === undefined ? undefined : `${ending.subject} on ${ending.validTo}`
}

/** What signs and what leads from it to the root. */
function certificatesOf({ signerPem, chainPem }: Issuer): readonly X509Certificate[] {
  return [...new Set([signerPem, ...chainPem])].map(pem => new X509Certificate(pem))
}

function sameIssuer(a: Issuer, b: Issuer): boolean {
  return (
    a.signerPem === b.signerPem && a.rootsPem === b.rootsPem && a.chainPem.join('') === b.chainPem.join('')
  )
}

/** Whether a leaf of this issuer leads to one of the roots. */
function verifies(issuer: Issuer, rootsPem: string): boolean {
  const roots = splitPem(rootsPem).map(pem => new X509Certificate(pem))
  let last = new X509Certificate(issuer.signerPem)
  for (const pem of issuer.chainPem.slice(1)) {
    const above = new X509Certificate(pem)
    if (!isIssuedBy(last, above)) return false
    last = above
  }
  return roots.some(root => root.fingerprint256 === last.fingerprint256 || isIssuedBy(last, root))
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
}

function fingerprint(pem: string): string {
  return new X509Certificate(pem).fingerprint256
}
