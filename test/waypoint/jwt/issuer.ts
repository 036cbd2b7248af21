/** An issuer of tokens for tests: real keys of every algorithm, signed by node:crypto, so that nothing here is what it tests. */
import { createHmac, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import type { Algorithm } from '../../../waypoint/jwt/token.ts'

export interface Signer {
  /** Public, or the secret where that is what there is. */
  readonly jwk: Readonly<Record<string, unknown>>
  /** `header`: more of it, or other values. */
  token(claims: unknown, header?: Readonly<Record<string, unknown>>): string
  /** Of a text that is sent as it is. */
  signed(input: string): string
}

const rsa = new Map<string, { readonly privateKey: KeyObject; readonly publicKey: KeyObject }>()

/** `kid`: undefined for a key without one. RSA keys with the same `kid` are the same: making one takes long. */
export function signer(algorithm: Algorithm, kid: string | undefined = 'k1'): Signer {
  const named = { alg: algorithm, ...(kid === undefined ? {} : { kid }) }
  if (algorithm.startsWith('HS')) {
    const secret = randomBytes(64)
    const jwk = { ...named, kty: 'oct', k: secret.toString('base64url') }
    return make(named, jwk, input =>
      createHmac(`sha${algorithm.slice(2)}`, secret)
        .update(input)
        .digest()
    )
  }
  const { privateKey, publicKey } = keyPair(algorithm, kid ?? '')
  const jwk = { ...named, use: 'sig', ...publicKey.export({ format: 'jwk' }) }
  const digest = algorithm === 'EdDSA' ? null : `sha${algorithm.slice(2)}`
  const options = {
    key: privateKey,
    dsaEncoding: 'ieee-p1363' as const,
    ...(algorithm.startsWith('PS') ? { padding: 6, saltLength: Number(algorithm.slice(2)) / 8 } : {})
  }
  return make(named, jwk, input => sign(digest, Buffer.from(input), options))
}

function keyPair(
  algorithm: Algorithm,
  kid: string
): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } {
  if (algorithm === 'EdDSA') return generateKeyPairSync('ed25519')
  const curve = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }[algorithm as string]
  if (curve !== undefined) return generateKeyPairSync('ec', { namedCurve: curve })
  const made = rsa.get(kid) ?? generateKeyPairSync('rsa', { modulusLength: 2048 })
  rsa.set(kid, made)
  return made
}

function make(
  named: Readonly<Record<string, unknown>>,
  jwk: Signer['jwk'],
  signature: (input: string) => Buffer
): Signer {
  const signed = (input: string): string => `${input}.${signature(input).toString('base64url')}`
  return {
    jwk,
    signed,
    token: (claims, header = {}) =>
      signed(`${section({ typ: 'JWT', ...named, ...header })}.${section(claims)}`)
  }
}

/** Of a token; a text is taken for JSON already. */
export function section(value: unknown): string {
  const json = typeof value === 'string' ? value : JSON.stringify(value)
  return Buffer.from(json).toString('base64url')
}

/** As a `jwks` field has it. */
export function jwks(...signers: readonly Signer[]): string {
  return JSON.stringify({ keys: signers.map(({ jwk }) => jwk) })
}
