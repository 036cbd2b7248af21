/** A token's text, taken apart; nothing of it is to be trusted before its signature is. RFC 7515 section 7.1, RFC 7519. */
import { isObject, own, type Claims } from './claims.ts'
import { refusals, type Refusal } from './refusals.ts'

export interface Token {
  readonly text: string
  readonly algorithm: Algorithm
  /** Which key signed it, where it says so. */
  readonly keyId: string | undefined
  /** The second section, in base64url. */
  readonly encodedPayload: string
  readonly claims: Claims
  readonly issuer: string
  /** Empty where there is none. */
  readonly subject: string
  readonly audiences: readonly string[]
  /** Seconds since the epoch. */
  readonly expires: number | undefined
  readonly notBefore: number | undefined
}

/** What verifies a signature of that name. RFC 7518 section 3.1, RFC 8037 section 3.1. */
export const algorithms = {
  RS256: { kty: 'RSA' },
  RS384: { kty: 'RSA' },
  RS512: { kty: 'RSA' },
  PS256: { kty: 'RSA' },
  PS384: { kty: 'RSA' },
  PS512: { kty: 'RSA' },
  ES256: { kty: 'EC', crv: 'P-256' },
  ES384: { kty: 'EC', crv: 'P-384' },
  ES512: { kty: 'EC', crv: 'P-521' },
  EdDSA: { kty: 'OKP', crv: 'Ed25519' },
  HS256: { kty: 'oct' },
  HS384: { kty: 'oct' },
  HS512: { kty: 'oct' }
} as const satisfies Record<string, { readonly kty: string; readonly crv?: string }>

export type Algorithm = keyof typeof algorithms

/** The token, or why it is none. Never throws. */
export function parseToken(text: string): Token | Refusal {
  const [head = '', payload = '', signature = '', ...more] = text.split('.')
  if (head === '' || payload === '' || signature === '' || more.length > 0) return refusals.form
  const header = readSection(head)
  if (header === 'encoding') return refusals.headerEncoding
  if (header === 'json') return refusals.headerJson
  const alg = own(header, 'alg')
  if (typeof alg !== 'string') return refusals.algorithmMissing
  if (!isAlgorithm(alg)) return refusals.algorithm
  const keyId = own(header, 'kid')
  if (keyId !== undefined && typeof keyId !== 'string') return refusals.keyId
  // What must be understood (RFC 7515 section 4.1.11): we know of no such member.
  if (own(header, 'crit') !== undefined) return refusals.signature
  const claims = readSection(payload)
  if (claims === 'encoding') return refusals.payloadEncoding
  if (claims === 'json') return refusals.payloadJson
  if (!isBase64url(signature)) return refusals.signatureEncoding
  return readClaims(claims, { text, algorithm: alg, keyId, encodedPayload: payload })
}

function readClaims(
  claims: Claims,
  parts: Pick<Token, 'text' | 'algorithm' | 'keyId' | 'encodedPayload'>
): Token | Refusal {
  const issuer = own(claims, 'iss') ?? ''
  if (typeof issuer !== 'string') return refusals.issuerType
  const subject = own(claims, 'sub') ?? ''
  if (typeof subject !== 'string') return refusals.subjectType
  const audiences = stringList(own(claims, 'aud') ?? [])
  if (audiences === undefined) return refusals.audienceType
  const expires = own(claims, 'exp')
  if (!isTime(expires)) return refusals.expiryType
  const notBefore = own(claims, 'nbf')
  if (!isTime(notBefore)) return refusals.notBeforeType
  return { ...parts, claims, issuer, subject, audiences, expires, notBefore }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** A member that is there twice counts as it is written last (RFC 7519 section 4). */
function readSection(encoded: string): Claims | 'encoding' | 'json' {
  if (!isBase64url(encoded)) return 'encoding'
  try {
    const value: unknown = JSON.parse(utf8.decode(Buffer.from(encoded, 'base64url')))
    return isObject(value) ? value : 'json'
  } catch {
    // No UTF-8 or no JSON, which is what the caller is told.
    return 'json'
  }
}

/** Without padding, as RFC 7515 section 2 has it. */
function isBase64url(text: string): boolean {
  return text.length % 4 !== 1 && /^[A-Za-z0-9_-]*$/.test(text)
}

/** One text counts as a list of one. */
function stringList(value: unknown): readonly string[] | undefined {
  if (typeof value === 'string') return [value]
  return Array.isArray(value) && value.every(item => typeof item === 'string') ? value : undefined
}

function isTime(value: unknown): value is number | undefined {
  return value === undefined || (typeof value === 'number' && Number.isFinite(value) && value >= 0)
}

function isAlgorithm(name: string): name is Algorithm {
  return Object.hasOwn(algorithms, name)
}
