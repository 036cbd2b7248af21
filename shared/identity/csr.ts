/** Certificate signing requests (RFC 2986): what a ztunnel sends to a CA, and how strictly our CA reads one. */
import { createPublicKey, generateKeyPairSync, verify, type KeyObject } from 'node:crypto'
import { messageOf } from '../runtime/errors.ts'
import type { SpiffeId } from './spiffe-id.ts'
import {
  bytesOf,
  children,
  contents,
  fromDer,
  isTagged,
  oid,
  oidOf,
  oids,
  sequence,
  set,
  signatureHashes,
  signed,
  smallInteger,
  subjectPublicKeyInfo,
  tagged,
  toDer,
  toPem,
  uriName,
  type Der
} from './x509.ts'

export interface SigningRequest {
  readonly csrPem: string
  /** PKCS#8; never leaves this process. */
  readonly keyPem: string
}

/** A request for one workload's certificate with a key of its own: P-256, empty subject, one critical URI SAN. */
export function createCsr(identity: SpiffeId): SigningRequest {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const extensions = sequence(uriName(identity, true))
  const body = sequence(
    smallInteger(0),
    sequence(),
    subjectPublicKeyInfo(publicKey),
    tagged(0, [sequence(oid(oids.extensionRequest), set(extensions))])
  )
  return {
    csrPem: toPem('CERTIFICATE REQUEST', signed(body, privateKey)),
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  }
}

export type ReadCsr =
  | {
      readonly kind: 'csr'
      readonly publicKey: KeyObject
      /** URI SANs that the request asks for; who gets what is the CA's decision, by authentication. */
      readonly uris: readonly string[]
      readonly emptySubject: boolean
    }
  | { readonly kind: 'problem'; readonly problem: string }

/** Longest request taken, in characters; an RSA 8192 request has about 3,000. */
const maxLength = 16_384

/** Reads and verifies a request. A problem is named for the one who sent it. */
export function readCsr(pem: string): ReadCsr {
  const problem = (text: string): ReadCsr => ({ kind: 'problem', problem: text })
  if (pem.length > maxLength) return problem(`the request is longer than ${maxLength} characters`)
  const base64 =
    /^\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----\s+([A-Za-z0-9+/=\s]+)-----END \1?CERTIFICATE REQUEST-----\s*$/.exec(
      pem
    )?.[2]
  if (base64 === undefined) return problem('not one PEM block of type CERTIFICATE REQUEST')
  try {
    return readBody(fromDer(Buffer.from(base64, 'base64')))
  } catch (error) {
    return problem(`not a PKCS #10 request: ${messageOf(error)}`)
  }
}

function readBody(request: Der): ReadCsr {
  const problem = (text: string): ReadCsr => ({ kind: 'problem', problem: text })
  const [body, algorithm, signature, ...more] = children(request)
  const [version, subject, keyInfo, attributes] = children(body)
  if (body === undefined || keyInfo === undefined || more.length > 0) return problem('parts are missing')
  if (!contents(version).equals(Buffer.of(0))) return problem('the version is not 0')
  const publicKey = createPublicKey({ key: toDer(keyInfo), type: 'spki', format: 'der' })
  const weakness = weaknessOf(publicKey)
  if (weakness !== undefined) return problem(weakness)
  const algorithmId = oidOf(children(algorithm)[0])
  const hash = signatureHashes[algorithmId]
  const rsaSignature = algorithmId.startsWith('1.2.840.113549.1.1.')
  if (hash === undefined || rsaSignature !== (publicKey.asymmetricKeyType === 'rsa')) {
    return problem(`signature algorithm ${algorithmId} is not accepted for this key`)
  }
  if (!verify(hash, toDer(body), publicKey, bytesOf(signature))) {
    return problem('the signature does not verify with the key of the request')
  }
  return {
    kind: 'csr',
    publicKey,
    uris: requestedUris(attributes),
    emptySubject: children(subject).length === 0
  }
}

/** Accepted: P-256, and RSA from 2048 bits. */
function weaknessOf(key: KeyObject): string | undefined {
  const details = key.asymmetricKeyDetails
  if (key.asymmetricKeyType === 'ec') {
    return details?.namedCurve === 'prime256v1'
      ? undefined
      : `curve ${details?.namedCurve} is not accepted; use P-256`
  }
  if (key.asymmetricKeyType === 'rsa') {
    const length = details?.modulusLength ?? 0
    return length >= 2048
      ? undefined
      : `an RSA key of ${length} bits is too short; use 2048 or more, or P-256`
  }
  return `key type ${key.asymmetricKeyType} is not accepted; use ECDSA P-256 or RSA`
}

function requestedUris(attributes: Der | undefined): readonly string[] {
  if (!isTagged(attributes, 0)) return []
  const uris: string[] = []
  for (const attribute of children(attributes, 'tag')) {
    const [id, values] = children(attribute)
    if (oidOf(id) !== oids.extensionRequest) continue
    for (const extension of children(children(values, 'set')[0])) {
      const parts = children(extension)
      if (oidOf(parts[0]) !== oids.subjectAltName) continue
      for (const name of children(fromDer(contents(parts.at(-1))))) {
        if (isTagged(name, 6)) uris.push(contents(name).toString('latin1'))
      }
    }
  }
  return uris
}
