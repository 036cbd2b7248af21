/** Issuing: roots, intermediates and workload certificates as Istio's CA makes them (X.509, RFC 5280). */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  X509Certificate,
  type KeyObject
} from 'node:crypto'
import { ipToBytes, parseIp } from '../net/address.ts'
import { CertificateError, splitPem } from './certificate.ts'
import { readCsr } from './csr.ts'
import type { SpiffeId } from './spiffe-id.ts'
import {
  boolean,
  bits,
  children,
  contents,
  extension,
  extensionOf,
  fromDer,
  integer,
  keyIdentifier,
  octets,
  oid,
  oids,
  organizationName,
  sequence,
  signatureAlgorithm,
  signed,
  smallInteger,
  subjectPublicKeyInfo,
  tagged,
  time,
  toPem,
  uriName,
  type Der
} from './x509.ts'

/** Who signs: as what a certificate names it, byte for byte as its own certificate has it. */
interface Signer {
  readonly name: Der
  /** What the signer's certificate says of its key; whoever verifies finds the signer by it. */
  readonly keyId: Buffer
  readonly key: KeyObject
}

/** A certificate that may sign others, and what leads from it to the roots. */
export interface Issuer extends Signer {
  /** The signing certificate first, then what signed it, without the root. Empty when a root signs itself. */
  readonly chainPem: readonly string[]
  readonly signerPem: string
  /** Every root that clients shall trust, concatenated PEM. */
  readonly rootsPem: string
}

export interface SigningPair {
  readonly certificatePem: string
  readonly keyPem: string
}

export interface AuthorityOptions {
  /** `O` of the subject; Istio writes the trust domain. */
  readonly organization: string
  readonly notBefore: number
  readonly notAfter: number
  readonly keyType?: 'ec' | 'rsa'
  /** PKCS#8 PEM of a key to keep, for a renewed certificate that verifies old chains; else a new one is made. */
  readonly keyPem?: string
}

/** A self-signed root, ECDSA P-256 unless asked otherwise. */
export function createRoot(options: AuthorityOptions): SigningPair {
  const key = keyFor(options)
  const keyId = keyIdentifier(createPublicKey(key))
  return authority(options, key, { name: organizationName(options.organization), key, keyId })
}

/** A signing certificate below `issuer`; it may sign workloads but no further authorities. */
export function createIntermediate(options: AuthorityOptions & { readonly issuer: Issuer }): SigningPair {
  return authority(options, keyFor(options), options.issuer, 0)
}

function authority(
  options: AuthorityOptions,
  key: KeyObject,
  signer: Signer,
  pathLength?: number
): SigningPair {
  const publicKey = createPublicKey(key)
  const constraints = pathLength === undefined ? [] : [smallInteger(pathLength)]
  const certificate = certificateOf({
    signer,
    subject: organizationName(options.organization),
    publicKey,
    notBefore: options.notBefore,
    notAfter: options.notAfter,
    extensions: [
      extension(oids.keyUsage, true, bits(Buffer.of(0b0000_0110), 1)), // keyCertSign, cRLSign
      extension(oids.basicConstraints, true, sequence(boolean(true), ...constraints)),
      extension(oids.subjectKeyIdentifier, false, octets(keyIdentifier(publicKey)))
    ]
  })
  return { certificatePem: certificate, keyPem: key.export({ type: 'pkcs8', format: 'pem' }).toString() }
}

/** Throws a {@link CertificateError} when the parts do not belong together or the first certificate may not sign. */
export function issuerOf(parts: {
  readonly certificatePem: string
  readonly keyPem: string
  /** What leads from the signing certificate to a root, in order; empty when a root signs. */
  readonly intermediatesPem?: readonly string[]
  readonly rootsPem: string
}): Issuer {
  const certificate = new X509Certificate(parts.certificatePem)
  const key = createPrivateKey(parts.keyPem)
  if (!certificate.checkPrivateKey(key))
    throw new CertificateError('the CA key belongs to another certificate')
  if (!certificate.ca)
    throw new CertificateError('the CA certificate may not sign (basicConstraints CA=false)')
  if (splitPem(parts.rootsPem).length === 0) throw new CertificateError('there is no root certificate')
  const selfSigned = certificate.checkIssued(certificate)
  return {
    chainPem: selfSigned
      ? []
      : [...splitPem(parts.certificatePem), ...(parts.intermediatesPem ?? []).flatMap(splitPem)],
    signerPem: parts.certificatePem,
    ...signerOf(certificate, key),
    rootsPem: parts.rootsPem.endsWith('\n') ? parts.rootsPem : `${parts.rootsPem}\n`
  }
}

export const DEFAULT_TTL_SECONDS = 24 * 3600
export const MAX_TTL_SECONDS = 90 * 24 * 3600
/** How far back a certificate is valid, for clocks that run behind. */
const skewMs = 2 * 60_000

export interface IssueRequest {
  readonly csrPem: string
  /** The authenticated identity; what the request itself asks for does not count. */
  readonly identity: SpiffeId
  /** 0 asks for the default of a day. */
  readonly ttlSeconds: number
  readonly issuer: Issuer
  readonly now: number
  readonly maxTtlSeconds?: number
}

export type Issued =
  | {
      readonly kind: 'issued'
      /** As the CA answers: leaf, then each intermediate, last all roots in one element. */
      readonly certChain: readonly string[]
      readonly notAfter: number
    }
  | { readonly kind: 'refused'; readonly problem: string }

export function issueCertificate(request: IssueRequest): Issued {
  const { identity, issuer, now, maxTtlSeconds = MAX_TTL_SECONDS } = request
  const refused = (problem: string): Issued => ({ kind: 'refused', problem })
  const csr = readCsr(request.csrPem)
  if (csr.kind === 'problem') return refused(`the signing request is not accepted: ${csr.problem}`)
  const ttlSeconds = request.ttlSeconds === 0 ? DEFAULT_TTL_SECONDS : request.ttlSeconds
  if (!(ttlSeconds > 0)) return refused(`validity_duration ${request.ttlSeconds} is not a positive time`)
  if (ttlSeconds > maxTtlSeconds) {
    return refused(`validity_duration ${ttlSeconds} s is above the maximum of ${maxTtlSeconds} s`)
  }
  const signer = new X509Certificate(issuer.signerPem)
  const signerEnd = Date.parse(signer.validTo)
  if (signerEnd <= now) return refused(`the CA's own certificate expired at ${signer.validTo}`)
  const notAfter = Math.min(now + ttlSeconds * 1000, signerEnd)
  const leaf = certificateOf({
    signer: issuer,
    subject: organizationName(),
    publicKey: csr.publicKey,
    notBefore: now - skewMs,
    notAfter,
    extensions: [
      extension(oids.keyUsage, true, bits(Buffer.of(0b1010_0000), 5)), // digitalSignature, keyEncipherment
      extension(oids.extendedKeyUsage, false, sequence(oid(oids.serverAuth), oid(oids.clientAuth))),
      extension(oids.basicConstraints, true, sequence()),
      uriName(identity, true)
    ]
  })
  return { kind: 'issued', certChain: [leaf, ...issuer.chainPem, issuer.rootsPem], notAfter }
}

export interface ServerCertificateOptions {
  /** DNS names and IP addresses that clients may call the server. */
  readonly names: readonly string[]
  readonly issuer: Issuer
  readonly notBefore: number
  readonly notAfter: number
}

/** A TLS server's certificate with a new P-256 key; `certificatePem` holds the chain, leaf first. */
export function issueServerCertificate(options: ServerCertificateOptions): SigningPair {
  const { issuer, names } = options
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const leaf = certificateOf({
    signer: issuer,
    subject: organizationName(),
    publicKey,
    notBefore: options.notBefore,
    notAfter: Math.min(options.notAfter, Date.parse(new X509Certificate(issuer.signerPem).validTo)),
    extensions: [
      extension(oids.keyUsage, true, bits(Buffer.of(0b1000_0000), 7)), // digitalSignature
      extension(oids.extendedKeyUsage, false, sequence(oid(oids.serverAuth))),
      extension(oids.basicConstraints, true, sequence()),
      extension(oids.subjectAltName, true, sequence(...names.map(serverName)))
    ]
  })
  return {
    certificatePem: [leaf, ...issuer.chainPem].join(''),
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  }
}

/** GeneralName: dNSName [2] or iPAddress [7]. */
function serverName(name: string): Der {
  const address = parseIp(name)
  return address === undefined ? tagged(2, Buffer.from(name)) : tagged(7, ipToBytes(address))
}

interface CertificateBody {
  readonly signer: Signer
  readonly subject: Der
  readonly publicKey: KeyObject
  readonly notBefore: number
  readonly notAfter: number
  readonly extensions: readonly Der[]
}

function certificateOf({ signer, ...body }: CertificateBody): string {
  const issuerKeyId = extension(oids.authorityKeyIdentifier, false, sequence(tagged(0, signer.keyId)))
  const tbs = sequence(
    tagged(0, [smallInteger(2)]),
    integer(randomBytes(16)),
    signatureAlgorithm(signer.key),
    signer.name,
    sequence(time(body.notBefore), time(body.notAfter)),
    body.subject,
    subjectPublicKeyInfo(body.publicKey),
    tagged(3, [sequence(...body.extensions, issuerKeyId)])
  )
  return toPem('CERTIFICATE', signed(tbs, signer.key))
}

function keyFor({ keyPem, keyType = 'ec' }: AuthorityOptions): KeyObject {
  if (keyPem !== undefined) return createPrivateKey(keyPem)
  return keyType === 'rsa'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
    : generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
}

/** Name and key identifier as they stand in the certificate: both may be made in other ways than ours. */
function signerOf(certificate: X509Certificate, key: KeyObject): Signer {
  const [tbs] = children(fromDer(certificate.raw))
  const name = children(tbs)[5] // version, serial, signature, issuer, validity, subject
  if (name === undefined) throw new CertificateError('the CA certificate has no subject')
  const keyId = extensionOf(tbs, oids.subjectKeyIdentifier)
  return {
    name,
    key,
    keyId: keyId === undefined ? keyIdentifier(certificate.publicKey) : contents(fromDer(keyId))
  }
}
