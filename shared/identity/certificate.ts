/**
 * Certificates as values: what a workload presents (chain, key, roots) and what one certificate says.
 * Reading only; `issue.ts` writes them.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { inspect } from 'node:util'
import { parseSpiffeId, type SpiffeId } from './spiffe-id.ts'

/**
 * One workload's credentials. A plain value, so that it can be posted to a worker thread; printing it
 * (JSON, inspect) leaves the key out on the thread that made it.
 */
export interface WorkloadCertificate {
  readonly identity: SpiffeId
  /** PEM, one certificate an element: leaf first, then intermediates, no root. */
  readonly chainPem: readonly string[]
  /** PEM, PKCS#8. */
  readonly keyPem: string
  /** PEM, one certificate an element: every root that peers may be signed by. */
  readonly rootsPem: readonly string[]
  /** Validity of the leaf in milliseconds since the epoch. */
  readonly notBefore: number
  readonly notAfter: number
  /** Serial number of the leaf, decimal. */
  readonly serial: string
}

/** What one certificate says. */
export interface CertificateFacts {
  readonly pem: string
  /** Decimal. */
  readonly serial: string
  readonly notBefore: number
  readonly notAfter: number
  /** URI SANs in the order of the certificate, whatever they are. */
  readonly uris: readonly string[]
  /** The first URI SAN that is a workload's identity. */
  readonly identity: SpiffeId | undefined
}

/** A certificate, chain or key that cannot be used; the text says which part and why. */
export class CertificateError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'CertificateError'
  }
}

/** The certificates of a text that holds any number of PEM blocks, one text each with a trailing newline. */
export function splitPem(text: string): readonly string[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
  return blocks.map(block => `${block.replaceAll('\r', '')}\n`)
}

/** Throws a {@link CertificateError} when the text is no certificate. */
export function readCertificate(pem: string): CertificateFacts {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(pem)
  } catch (cause) {
    throw new CertificateError('not a PEM certificate', { cause })
  }
  const uris = uriNames(certificate.subjectAltName)
  return {
    pem,
    serial: BigInt(`0x${certificate.serialNumber}`).toString(),
    notBefore: Date.parse(certificate.validFrom),
    notAfter: Date.parse(certificate.validTo),
    uris,
    identity: uris.map(parseSpiffeId).find(id => id !== undefined)
  }
}

/** As {@link alternativeNames}. */
export function uriNames(subjectAltName: string | undefined): readonly string[] {
  return alternativeNames(subjectAltName, 'URI')
}

/**
 * Entries of one type of the text form that Node gives a subjectAltName: `TYPE:value, TYPE:value`, values with special
 * characters as quoted JSON. Read entry by entry, so that no name can pretend to be another; none at all when the
 * text has another form.
 */
export function alternativeNames(
  subjectAltName: string | undefined,
  wanted: 'URI' | 'DNS'
): readonly string[] {
  const text = subjectAltName ?? ''
  const entry = /([A-Za-z ]+):(?:("(?:[^"\\]|\\.)*")|([^",]*))(?:, |$)/y
  const found: string[] = []
  while (entry.lastIndex < text.length) {
    const [, type, quoted, plain = ''] = entry.exec(text) ?? []
    if (type === undefined) return []
    if (type === wanted) found.push(quoted === undefined ? plain : (JSON.parse(quoted) as string))
  }
  return found
}

export interface Credentials {
  /** As an Istio CA answers: leaf first, one certificate an element. */
  readonly chainPem: readonly string[]
  readonly rootsPem: readonly string[]
  readonly keyPem: string
}

/**
 * Checks that the parts belong together and says whose they are. Throws a {@link CertificateError}: no
 * chain, no root, no identity in the leaf, key of another certificate.
 */
export function workloadCertificate({ chainPem, rootsPem, keyPem }: Credentials): WorkloadCertificate {
  const [leafPem] = chainPem
  if (leafPem === undefined) throw new CertificateError('the chain holds no certificate')
  if (rootsPem.length === 0) throw new CertificateError('there is no root certificate')
  const leaf = readCertificate(leafPem)
  if (leaf.identity === undefined) {
    throw new CertificateError(
      `the certificate names no workload identity (URI SANs: ${leaf.uris.join(', ') || 'none'})`
    )
  }
  if (!new X509Certificate(leafPem).checkPrivateKey(createPrivateKey(keyPem))) {
    throw new CertificateError('the certificate was made for another key')
  }
  for (const pem of [...chainPem.slice(1), ...rootsPem]) readCertificate(pem)
  const { identity, notBefore, notAfter, serial } = leaf
  return withoutKeyInPrint({ identity, chainPem, keyPem, rootsPem, notBefore, notAfter, serial })
}

function withoutKeyInPrint(certificate: WorkloadCertificate): WorkloadCertificate {
  const { keyPem: _, ...rest } = certificate
  const printed = (): unknown => ({ ...rest, keyPem: '[redacted]' })
  return Object.defineProperties(certificate, {
    toJSON: { value: printed, enumerable: false },
    [inspect.custom]: { value: printed, enumerable: false }
  })
}
