/**
 * Tokens of service accounts: JSON Web Tokens signed with the store's key, bound to pods where that is asked
 * for. Sources: RFC 7519; Kubernetes API reference, TokenRequest and TokenReview.
 */
import { createHash, generateKeyPairSync, randomUUID, sign, verify, type KeyObject } from 'node:crypto'
import type { Clock } from '../../../shared/runtime/clock.ts'
import { at, isObject, listOf, numberOf, textOf, type JsonObject } from '../json.ts'
import type { ApiObject } from '../object.ts'

export const issuer = 'https://kubernetes.default.svc.cluster.local'
/** RFC 7518, 3.4: ECDSA with P-256, the signature as two numbers of 32 bytes. */
const algorithm = 'ES256'
const dsaEncoding = 'ieee-p1363'
/** What a token without audience is for. */
export const apiAudiences = [issuer, 'https://kubernetes.default.svc', 'kubernetes']

/** Who sent a request. */
export interface User {
  readonly name: string
  readonly uid?: string
  readonly groups: readonly string[]
  readonly extra?: Readonly<Record<string, readonly string[]>>
}

export interface BoundObject {
  readonly kind: 'Pod' | 'Secret' | 'Node'
  readonly name: string
  readonly uid: string
}

export interface TokenSubject {
  readonly account: ApiObject
  readonly audiences: readonly string[]
  readonly expirationSeconds: number
  readonly bound?: BoundObject
  /** Node of the bound pod. */
  readonly node?: { readonly name: string; readonly uid: string }
}

export type Verified =
  | { readonly kind: 'user'; readonly user: User; readonly audiences: readonly string[] }
  | { readonly kind: 'refused'; readonly reason: string }

/** Finds the objects that a token is bound to. */
export type Find = (collection: string, namespace: string, name: string) => ApiObject | undefined

export class TokenAuthority {
  readonly #privateKey: KeyObject
  readonly #publicKey: KeyObject
  readonly #keyId: string
  readonly #find: Find
  readonly #clock: Clock

  constructor(find: Find, clock: Clock) {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    this.#privateKey = privateKey
    this.#publicKey = publicKey
    this.#keyId = createHash('sha256')
      .update(publicKey.export({ type: 'spki', format: 'der' }))
      .digest('base64url')
    this.#find = find
    this.#clock = clock
  }

  issue({ account, audiences, expirationSeconds, bound, node }: TokenSubject): {
    token: string
    expiresAt: number
  } {
    const now = Math.floor(this.#clock.now() / 1000)
    const { namespace = '', name, uid } = account.metadata
    const claims = {
      aud: audiences.length === 0 ? [issuer] : audiences,
      exp: now + expirationSeconds,
      iat: now,
      iss: issuer,
      jti: randomUUID(),
      'kubernetes.io': {
        namespace,
        ...(node === undefined ? {} : { node }),
        ...(bound === undefined ? {} : { [bound.kind.toLowerCase()]: { name: bound.name, uid: bound.uid } }),
        serviceaccount: { name, uid }
      },
      nbf: now,
      sub: `system:serviceaccount:${namespace}:${name}`
    }
    const signedPart = `${encode({ alg: algorithm, kid: this.#keyId })}.${encode(claims)}`
    const signature = sign('sha256', Buffer.from(signedPart), {
      key: this.#privateKey,
      dsaEncoding
    }).toString('base64url')
    return { token: `${signedPart}.${signature}`, expiresAt: claims.exp * 1000 }
  }

  /** Whose token it is, when it is valid for one of the audiences now. */
  verify(token: string, audiences: readonly string[]): Verified {
    const claims = this.#claims(token)
    if (claims === undefined) return refused('the token is not signed by this server')
    const now = Math.floor(this.#clock.now() / 1000)
    if (claims['iss'] !== issuer) return refused('the token was issued by another server')
    if ((numberOf(claims['exp']) ?? 0) <= now) return refused('token has expired')
    if ((numberOf(claims['nbf']) ?? 0) > now) return refused('token is not valid yet')
    const shared = listOf(claims['aud'])
      .map(textOf)
      .filter(audience => audiences.includes(audience))
    if (shared.length === 0) {
      return refused(
        `token audiences ${JSON.stringify(claims['aud'])} is invalid for the target audiences ${JSON.stringify(audiences)}`
      )
    }
    return this.#boundUser(claims, shared)
  }

  jwks(): string {
    const key = this.#publicKey.export({ format: 'jwk' })
    return JSON.stringify({
      keys: [{ ...key, use: 'sig', alg: algorithm, kid: this.#keyId }]
    })
  }

  #claims(token: string): JsonObject | undefined {
    const [header = '', body = '', signature = '', ...more] = token.split('.')
    if (signature === '' || more.length > 0) return undefined
    // whatever the header says, only this server's key and algorithm count
    if (decode(header)?.['alg'] !== algorithm) return undefined
    const valid = verify(
      'sha256',
      Buffer.from(`${header}.${body}`),
      { key: this.#publicKey, dsaEncoding },
      Buffer.from(signature, 'base64url')
    )
    return valid ? decode(body) : undefined
  }

  /** A token ends with the account and with what it is bound to. */
  #boundUser(claims: JsonObject, audiences: readonly string[]): Verified {
    const own = claims['kubernetes.io']
    const namespace = textOf(at(own, 'namespace'))
    const account = textOf(at(own, 'serviceaccount', 'name'))
    const uid = textOf(at(own, 'serviceaccount', 'uid'))
    if (this.#find('/serviceaccounts', namespace, account)?.metadata.uid !== uid) {
      return refused('service account token has been invalidated')
    }
    const extra: Record<string, readonly string[]> = {
      'authentication.kubernetes.io/credential-id': [`JTI=${textOf(claims['jti'])}`]
    }
    for (const [claim, collection] of [
      ['pod', '/pods'],
      ['secret', '/secrets']
    ] as const) {
      const bound = at(own, claim)
      if (!isObject(bound)) continue
      const found = this.#find(collection, namespace, textOf(bound['name']))
      if (found?.metadata.uid !== bound['uid']) return refused('service account token has been invalidated')
      if (claim === 'pod') {
        extra['authentication.kubernetes.io/pod-name'] = [textOf(bound['name'])]
        extra['authentication.kubernetes.io/pod-uid'] = [textOf(bound['uid'])]
      }
    }
    const node = at(own, 'node')
    if (isObject(node)) {
      extra['authentication.kubernetes.io/node-name'] = [textOf(node['name'])]
      if (textOf(node['uid']) !== '') extra['authentication.kubernetes.io/node-uid'] = [textOf(node['uid'])]
    }
    const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated']
    const user = { name: `system:serviceaccount:${namespace}:${account}`, uid, groups, extra }
    return { kind: 'user', user, audiences }
  }
}

function refused(reason: string): Verified {
  return { kind: 'refused', reason }
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function decode(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'))
    return isObject(value) ? value : undefined
  } catch {
    return undefined // not a token: the caller says so
  }
}
