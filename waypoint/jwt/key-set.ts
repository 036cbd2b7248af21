/** The keys of an issuer (RFC 7517 section 5), and the tokens that they were found to have signed. */
import { isObject } from './claims.ts'
import { algorithms, type Token } from './token.ts'

/** RFC 7517 section 4: the members that we look at; the rest is for who verifies with it. */
export interface Jwk {
  readonly kty: string
  readonly kid?: string
  readonly alg?: string
  readonly use?: string
  readonly crv?: string
  readonly [member: string]: unknown
}

/** Most tokens, and the longest of them in characters, that a set remembers. */
const maxRemembered = 1000
const maxLength = 4096

export class KeySet {
  readonly #keys: readonly Jwk[]
  /** Whether they may be secrets that signer and verifier share. */
  readonly #secrets: boolean
  /** Signed by one of these keys. The set is replaced when keys are fetched again, and what it remembers with it. */
  readonly #verified = new Map<string, Token>()

  constructor(keys: readonly Jwk[], { secrets }: { readonly secrets: boolean }) {
    this.#keys = keys
    this.#secrets = secrets
  }

  /** Keys that may have signed it: its `kid` where both name one, and made for its algorithm. */
  candidates({ algorithm, keyId }: Pick<Token, 'algorithm' | 'keyId'>): readonly Jwk[] {
    const wanted: { readonly kty: string; readonly crv?: string } = algorithms[algorithm]
    if (wanted.kty === 'oct' && !this.#secrets) return []
    return this.#keys.filter(
      ({ kty, crv, kid, alg, use, key_ops: operations }) =>
        kty === wanted.kty &&
        (wanted.crv === undefined || crv === wanted.crv) &&
        (keyId === undefined || kid === undefined || kid === keyId) &&
        (alg === undefined || alg === algorithm) &&
        (use === undefined || use === 'sig') &&
        (!Array.isArray(operations) || operations.includes('verify'))
    )
  }

  remembered(text: string): Token | undefined {
    return this.#verified.get(text)
  }

  remember(token: Token): void {
    if (token.text.length > maxLength) return
    if (this.#verified.size >= maxRemembered) {
      const oldest = this.#verified.keys().next().value
      if (oldest !== undefined) this.#verified.delete(oldest)
    }
    this.#verified.set(token.text, token)
  }

  forget(token: Token): void {
    this.#verified.delete(token.text)
  }
}

/**
 * Throws an Error that says what is wrong. Keys of kinds that nobody here knows are none of our business
 * (RFC 7517 section 5); a set without any key is an error, as it cannot be meant.
 */
export function parseKeySet(text: string, options: { readonly secrets: boolean }): KeySet {
  const value: unknown = JSON.parse(text)
  const keys = isObject(value) ? value['keys'] : undefined
  if (!Array.isArray(keys)) throw new Error('expected a JSON object with the list "keys"')
  const known = keys.filter(isJwk)
  if (known.length === 0) throw new Error('there is no key in the list "keys"')
  return new KeySet(known, options)
}

function isJwk(value: unknown): value is Jwk {
  if (!isObject(value) || typeof value['kty'] !== 'string') return false
  return ['kid', 'alg', 'use', 'crv'].every(
    name => value[name] === undefined || typeof value[name] === 'string'
  )
}
