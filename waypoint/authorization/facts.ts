/** What policies look at: a request, or a connection that is carried as it is. */
import type { SpiffeId } from '../../shared/identity/spiffe-id.ts'
import type { Ip } from '../../shared/net/address.ts'
import type { HeaderList } from '../http/header-list.ts'
import type { Claims } from '../jwt/claims.ts'

export interface RequestFacts {
  /** Of the tunnel, from its certificate; undefined where the client has none. */
  readonly peer: SpiffeId | undefined
  readonly clientIp: Ip
  /** As the client addressed it; a hostname has no address. */
  readonly destination: { readonly ip?: Ip | undefined; readonly port: number }
  /** Of TLS inside of the tunnel. */
  readonly sni?: string | undefined
  /** Absent for a connection whose bytes are nobody's business. */
  readonly http?: HttpFacts | undefined
}

export interface HttpFacts {
  /** As sent: methods have upper case. */
  readonly method: string
  /** In its normal form, without query; what is forwarded has to begin with it. */
  readonly path: string
  /** With the port where one was sent; empty where there is none. */
  readonly authority: string
  readonly headers: HeaderList
  /** Of the verified token, where there is one, with lists where claims are lists of words. */
  readonly claims?: Claims | undefined
}

/** Whether one condition holds. Made when a policy is read, so that a request makes nothing. */
export type Test = (facts: RequestFacts) => boolean
