/**
 * Certificates that their issuers took back (CRL, RFC 5280 section 5). Immutable; another text is another list.
 *
 * A list counts only against certificates of the issuer that signed it. A certificate that no list covers is
 * accepted, and lists do not expire: an old one is better than none.
 */
import { verify, X509Certificate } from 'node:crypto'
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls'
import { MeshError, messageOf } from '../runtime/errors.ts'
import { CertificateError, type WorkloadCertificate } from './certificate.ts'
import {
  bytesOf,
  children,
  contents,
  fromDer,
  isInteger,
  isSequence,
  isTagged,
  isTrue,
  oidOf,
  signatureHashes,
  toDer,
  type Der
} from './x509.ts'

const longestChain = 10

interface Crl {
  /** Name of the issuer, DER. */
  readonly issuer: Buffer
  /** Serial numbers, decimal. */
  readonly serials: ReadonlySet<string>
  readonly signedPart: Buffer
  readonly hash: string
  readonly signature: Buffer
}

export class RevocationList {
  /** Takes nothing back. */
  static readonly empty = new RevocationList([])

  readonly #crls: readonly Crl[]
  /** Whose signatures verified, so that each is checked once. */
  readonly #verified = new WeakMap<Crl, Map<string, boolean>>()

  private constructor(crls: readonly Crl[]) {
    this.#crls = crls
  }

  /** PEM, any number of lists, or DER, one. Nothing at all is an empty list. Throws a {@link CertificateError}. */
  static read(bytes: Uint8Array): RevocationList {
    const text = Buffer.from(bytes).toString('latin1')
    if (text.trim() === '') return RevocationList.empty
    const blocks = text.match(/-----BEGIN X509 CRL-----[\s\S]*?-----END X509 CRL-----/g)
    if (blocks === null && text.includes('-----BEGIN')) {
      throw new CertificateError('there is no PEM block of type X509 CRL')
    }
    const lists = blocks?.map(block => Buffer.from(block.replaceAll(/-----[^-]*-----|\s/g, ''), 'base64'))
    return new RevocationList((lists ?? [bytes]).map(readCrl))
  }

  /** How many certificates are taken back. */
  get size(): number {
    return this.#crls.reduce((sum, { serials }) => sum + serials.size, 0)
  }

  /**
   * The first certificate of a peer's chain that was taken back; undefined when none was. `shown` is what the peer
   * showed, leaf first; `known` are our own chain and roots, where issuers that it did not show are looked for.
   */
  revokedIn(
    shown: readonly X509Certificate[],
    known: readonly X509Certificate[]
  ): X509Certificate | undefined {
    if (this.#crls.length === 0) return undefined
    const chain = completed(shown, known)
    return chain.find(certificate => {
      const serial = BigInt(`0x${certificate.serialNumber}`).toString()
      const suspects = this.#crls.filter(({ serials }) => serials.has(serial))
      if (suspects.length === 0) return false
      const issuerName = issuerNameOf(certificate)
      const issuers = [...chain, ...known].filter(issuer => certificate.checkIssued(issuer))
      // The list is the operator's: one whose signature nobody here can check counts.
      return suspects.some(
        crl =>
          crl.issuer.equals(issuerName) &&
          (issuers.length === 0 || issuers.some(issuer => this.#isBy(crl, issuer)))
      )
    })
  }

  #isBy(crl: Crl, issuer: X509Certificate): boolean {
    const known = this.#verified.get(crl) ?? new Map<string, boolean>()
    this.#verified.set(crl, known)
    const held = known.get(issuer.fingerprint256)
    if (held !== undefined) return held
    const right = verify(crl.hash, crl.signedPart, issuer.publicKey, crl.signature)
    known.set(issuer.fingerprint256, right)
    return right
  }
}

/** Own chains and roots, parsed once: a pure function's memory. */
const known = new WeakMap<WorkloadCertificate, readonly X509Certificate[]>()

/**
 * Throws MeshError PEER_REVOKED when a certificate of the peer's chain was taken back. For every new session, and
 * for every live one when the list changed. `shown` is the peer's chain ({@link chainOf}), `own` the certificate that
 * we showed it.
 */
export function checkRevoked(
  list: RevocationList,
  shown: readonly X509Certificate[],
  own: WorkloadCertificate
): void {
  if (list.size === 0) return
  const issuers = known.get(own) ?? [...own.chainPem, ...own.rootsPem].map(pem => new X509Certificate(pem))
  known.set(own, issuers)
  const revoked = list.revokedIn(shown, issuers)
  if (revoked === undefined) return
  const serial = BigInt(`0x${revoked.serialNumber}`).toString()
  throw new MeshError(
    'PEER_REVOKED',
    `connection closed: peer certificate revoked by CRL: serial ${serial}, ${revoked.subjectAltName ?? revoked.subject}`
  )
}

/** Chains that Node tells only once; each goes with its socket. */
const kept = new WeakMap<TLSSocket, readonly X509Certificate[]>()

/**
 * Reads a client's chain for {@link chainOf}. Call in a server socket's first listener for `secure`: to authorize the
 * client, Node takes the intermediates out of what it would tell later (nodejs/node#65579).
 */
export function keepChain(socket: TLSSocket): void {
  kept.set(socket, readChain(socket))
}

/**
 * The certificates that a peer's handshake brought, leaf first. Of a client only the leaf, unless {@link keepChain}
 * was in time; the rest is then looked for among what we know ourselves. Keep the answer: a client's socket
 * forgets its peer once getPeerX509Certificate was called on it. Empty when the socket knows of no peer.
 */
export function chainOf(socket: TLSSocket): readonly X509Certificate[] {
  return kept.get(socket) ?? readChain(socket)
}

function readChain(socket: TLSSocket): readonly X509Certificate[] {
  const chain: X509Certificate[] = []
  let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
  // A root is its own issuer; the limit is for whatever else may go round.
  while (next?.raw !== undefined && chain.length < longestChain) {
    chain.push(new X509Certificate(next.raw))
    next = next.issuerCertificate === next ? undefined : next.issuerCertificate
  }
  return chain
}

/** Goes on from the last certificate shown to those that issued it. */
function completed(
  shown: readonly X509Certificate[],
  known: readonly X509Certificate[]
): readonly X509Certificate[] {
  const chain = [...shown]
  for (let last = chain.at(-1); last !== undefined && chain.length < longestChain;) {
    const certificate = last
    if (certificate.checkIssued(certificate)) break
    last = known.find(issuer => certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey))
    if (last !== undefined) chain.push(last)
  }
  return chain
}

function readCrl(bytes: Uint8Array): Crl {
  try {
    const [body, algorithm, signature] = children(fromDer(bytes))
    if (body === undefined) throw new Error('it is empty')
    const parts = [...children(body)]
    if (isInteger(parts[0])) parts.shift() // version
    const [, issuer, , ...rest] = parts // signature, issuer, thisUpdate
    if (issuer === undefined) throw new Error('it has no issuer')
    refuseUnknownExtensions(rest.find(part => isTagged(part, 0)))
    const hash = signatureHashes[oidOf(children(algorithm)[0])]
    if (hash === undefined)
      throw new Error(`signature algorithm ${oidOf(children(algorithm)[0])} is not accepted`)
    return {
      issuer: toDer(issuer),
      serials: new Set(serialsOf(rest.find(isSequence))),
      signedPart: toDer(body),
      hash,
      signature: bytesOf(signature)
    }
  } catch (error) {
    throw new CertificateError(`not a certificate revocation list: ${messageOf(error)}`, { cause: error })
  }
}

function serialsOf(revoked: Der | undefined): string[] {
  if (revoked === undefined) return []
  return children(revoked).map(entry =>
    BigInt(`0x${contents(children(entry)[0]).toString('hex')}`).toString()
  )
}

/** A critical extension may turn the meaning round (a list of changes only, of another issuer): RFC 5280, 5.2. */
function refuseUnknownExtensions(extensions: Der | undefined): void {
  if (extensions === undefined) return
  for (const extension of children(children(extensions, 'tag')[0])) {
    const [id, critical] = children(extension)
    if (isTrue(critical)) throw new Error(`its critical extension ${oidOf(id)} is not supported`)
  }
}

function issuerNameOf(certificate: X509Certificate): Buffer {
  const [body] = children(fromDer(certificate.raw))
  const issuer = children(body)[3] // version, serial, signature, issuer
  return issuer === undefined ? Buffer.alloc(0) : toDer(issuer)
}
