/**
 * The few ASN.1 structures of X.509 (RFC 5280) and PKCS #10 (RFC 2986) that Underpass writes and reads.
 * The only file that imports node-forge, and of it only the DER codec: signing and hashing are node:crypto's.
 */
import asn1, { type Asn1 } from 'node-forge/lib/asn1.js'
import { createHash, sign, type KeyObject } from 'node:crypto'

export type Der = Asn1

export const oids = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  ecdsaWithSha384: '1.2.840.10045.4.3.3',
  ecdsaWithSha512: '1.2.840.10045.4.3.4',
  rsaWithSha256: '1.2.840.113549.1.1.11',
  rsaWithSha384: '1.2.840.113549.1.1.12',
  rsaWithSha512: '1.2.840.113549.1.1.13',
  extensionRequest: '1.2.840.113549.1.9.14',
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2'
} as const

/** Hashes of the signature algorithms that are accepted. */
export const signatureHashes: Readonly<Record<string, string>> = {
  [oids.ecdsaWithSha256]: 'sha256',
  [oids.ecdsaWithSha384]: 'sha384',
  [oids.ecdsaWithSha512]: 'sha512',
  [oids.rsaWithSha256]: 'sha256',
  [oids.rsaWithSha384]: 'sha384',
  [oids.rsaWithSha512]: 'sha512'
}

const universal = (type: number, constructed: boolean, value: string | Der[]): Der =>
  asn1.create(asn1.Class.UNIVERSAL, type, constructed, value)
const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

export const sequence = (...items: Der[]): Der => universal(asn1.Type.SEQUENCE, true, items)
export const set = (...items: Der[]): Der => universal(asn1.Type.SET, true, items)
export const oid = (dotted: string): Der => universal(asn1.Type.OID, false, asn1.oidToDer(dotted).getBytes())
export const smallInteger = (value: number): Der =>
  universal(asn1.Type.INTEGER, false, asn1.integerToDer(value).getBytes())
export const boolean = (value: boolean): Der => universal(asn1.Type.BOOLEAN, false, value ? '\xff' : '\x00')
export const nothing = (): Der => universal(asn1.Type.NULL, false, '')
export const octets = (bytes: Uint8Array): Der => universal(asn1.Type.OCTETSTRING, false, latin1(bytes))
export const bits = (bytes: Uint8Array, unused = 0): Der =>
  universal(asn1.Type.BITSTRING, false, String.fromCharCode(unused) + latin1(bytes))
export const utf8 = (text: string): Der => universal(asn1.Type.UTF8, false, latin1(Buffer.from(text)))

/** `[number]`, constructed around items or primitive around bytes. */
export function tagged(number: number, value: Der[] | Uint8Array): Der {
  const constructed = Array.isArray(value)
  return asn1.create(asn1.Class.CONTEXT_SPECIFIC, number, constructed, constructed ? value : latin1(value))
}

/** A positive INTEGER of any size from its big-endian bytes. */
export function integer(bytes: Uint8Array): Der {
  let start = 0
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1
  const minimal = bytes.subarray(start)
  const padded = (minimal[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), minimal]) : minimal
  return universal(asn1.Type.INTEGER, false, latin1(padded))
}

/** RFC 5280, 4.1.2.5: UTCTime up to 2049, GeneralizedTime after. Whole seconds. */
export function time(ms: number): Der {
  const digits = new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, '')
  const short = Number(digits.slice(0, 4)) < 2050
  return universal(
    short ? asn1.Type.UTCTIME : asn1.Type.GENERALIZEDTIME,
    false,
    short ? digits.slice(2) : digits
  )
}

/** The name that consists of one organization; without one, the empty name. */
export function organizationName(organization?: string): Der {
  if (organization === undefined) return sequence()
  return sequence(set(sequence(oid(oids.organization), utf8(organization))))
}

export function extension(id: string, critical: boolean, value: Der): Der {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(toDer(value)))
}

/** The value of an extension of a certificate's body; undefined where it has none. */
export function extensionOf(body: Der | undefined, id: string): Buffer | undefined {
  const tag = children(body).find(item => isTag(item) && item.type === 3)
  if (tag === undefined) return undefined
  const found = children(children(tag, 'tag')[0]).find(item => oidOf(children(item)[0]) === id)
  return found === undefined ? undefined : contents(children(found).at(-1))
}

/** A subjectAltName of one URI; critical where there is no subject (RFC 5280, 4.2.1.6). */
export function uriName(uri: string, critical: boolean): Der {
  return extension(oids.subjectAltName, critical, sequence(tagged(6, Buffer.from(uri, 'latin1'))))
}

export function subjectPublicKeyInfo(key: KeyObject): Der {
  return fromDer(key.export({ type: 'spki', format: 'der' }))
}

/** RFC 5280, 4.2.1.2, method 1: SHA-1 of the subjectPublicKey bits. */
export function keyIdentifier(key: KeyObject): Buffer {
  const [, keyBits] = children(subjectPublicKeyInfo(key))
  return createHash('sha1').update(bytesOf(keyBits)).digest()
}

/** Signs with SHA-256 and joins `body`, the algorithm and the signature: a certificate or a request. */
export function signed(body: Der, key: KeyObject): Der {
  return sequence(body, signatureAlgorithm(key), bits(sign('sha256', toDer(body), key)))
}

/** The AlgorithmIdentifier of the signatures that {@link signed} makes with this key. */
export function signatureAlgorithm(key: KeyObject): Der {
  return key.asymmetricKeyType === 'rsa'
    ? sequence(oid(oids.rsaWithSha256), nothing())
    : sequence(oid(oids.ecdsaWithSha256))
}

export function toDer(value: Der): Buffer {
  return Buffer.from(asn1.toDer(value).getBytes(), 'latin1')
}

export function toPem(label: string, value: Der): string {
  const lines =
    toDer(value)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** Throws an Error when the bytes are not one DER value. */
export function fromDer(bytes: Uint8Array): Der {
  // Bit strings stay bytes, whatever they seem to hold.
  return asn1.fromDer(latin1(bytes), { strict: true, parseAllBytes: true, decodeBitStrings: false })
}

/** The items of a SEQUENCE, of a SET, or of what stands in a tag; throws an Error for anything else. */
export function children(
  value: Der | undefined,
  form: 'sequence' | 'set' | 'tag' = 'sequence'
): readonly Der[] {
  if (value === undefined || !Array.isArray(value.value) || formOf(value) !== form) {
    throw new Error(`expected a ${form}`)
  }
  return value.value
}

function formOf(value: Der): 'sequence' | 'set' | 'tag' | undefined {
  if (isTag(value)) return 'tag'
  if (isA(value, asn1.Type.SEQUENCE)) return 'sequence'
  return isA(value, asn1.Type.SET) ? 'set' : undefined
}

/** The bytes of an INTEGER, OCTET STRING or tagged primitive; throws an Error for anything else. */
export function contents(value: Der | undefined): Buffer {
  const { INTEGER, OCTETSTRING } = asn1.Type
  if (
    value === undefined ||
    typeof value.value !== 'string' ||
    !(isA(value, INTEGER) || isA(value, OCTETSTRING) || isTag(value))
  ) {
    throw new Error('expected an integer or octet string')
  }
  return Buffer.from(value.value, 'latin1')
}

/** The bytes of a BIT STRING of whole bytes; throws an Error for anything else. */
export function bytesOf(value: Der | undefined): Buffer {
  if (
    value === undefined ||
    !isA(value, asn1.Type.BITSTRING) ||
    typeof value.value !== 'string' ||
    value.value.charCodeAt(0) !== 0
  ) {
    throw new Error('expected a bit string of whole bytes')
  }
  return Buffer.from(value.value.slice(1), 'latin1')
}

export function oidOf(value: Der | undefined): string {
  if (value === undefined || !isA(value, asn1.Type.OID) || typeof value.value !== 'string') {
    throw new Error('expected an object identifier')
  }
  return asn1.derToOid(value.value)
}

function isA(value: Der, type: number): boolean {
  return value.tagClass === asn1.Class.UNIVERSAL && value.type === type
}

function isTag(value: Der): boolean {
  return value.tagClass === asn1.Class.CONTEXT_SPECIFIC
}

export function isInteger(value: Der | undefined): value is Der {
  return value !== undefined && isA(value, asn1.Type.INTEGER)
}

export function isSequence(value: Der | undefined): value is Der {
  return value !== undefined && isA(value, asn1.Type.SEQUENCE)
}

/** A BOOLEAN that is true. */
export function isTrue(value: Der | undefined): boolean {
  return value !== undefined && isA(value, asn1.Type.BOOLEAN) && value.value !== '\x00'
}

export function isTagged(value: Der | undefined, number: number): value is Der {
  return value !== undefined && isTag(value) && value.type === number
}
