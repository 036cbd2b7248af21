/** Who sends a request, by its bearer token. */
import { timingSafeEqual, createHash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { ApiError } from '../api-error.ts'
import { apiAudiences, type TokenAuthority, type User } from './tokens.ts'

const admin: User = { name: 'kubernetes-admin', groups: ['system:masters', 'system:authenticated'] }

export class Authenticator {
  readonly #adminToken: string
  readonly #tokens: TokenAuthority

  constructor(adminToken: string, tokens: TokenAuthority) {
    this.#adminToken = adminToken
    this.#tokens = tokens
  }

  /** Throws 401: nobody is anonymous here. */
  authenticate(headers: IncomingHttpHeaders): User {
    const token = bearerToken(headers)
    if (token === undefined) throw unauthorized()
    const user = this.userOf(token)
    if (user === undefined) throw unauthorized()
    return user
  }

  userOf(token: string): User | undefined {
    if (sameText(token, this.#adminToken)) return admin
    const verified = this.#tokens.verify(token, apiAudiences)
    return verified.kind === 'user' ? verified.user : undefined
  }
}

function unauthorized(): ApiError {
  return new ApiError('Unauthorized', 'Unauthorized')
}

const tokenProtocol = 'base64url.bearer.authorization.k8s.io.'

/** From the Authorization header, or for browsers' WebSockets from a sub-protocol. */
function bearerToken(headers: IncomingHttpHeaders): string | undefined {
  const header = /^Bearer\s+(\S+)$/i.exec(headers.authorization ?? '')?.[1]
  if (header !== undefined) return header
  const protocol = (headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map(text => text.trim())
    .find(text => text.startsWith(tokenProtocol))
  return protocol === undefined
    ? undefined
    : Buffer.from(protocol.slice(tokenProtocol.length), 'base64url').toString('utf8')
}

/** Compares in a time that does not depend on where the texts differ. */
function sameText(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}
