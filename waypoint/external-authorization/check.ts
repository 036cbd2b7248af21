/** What is asked of an authorizer, by what means, and what it says. */
import type { SpiffeId } from '../../shared/identity/spiffe-id.ts'
import type { SocketAddress } from '../../shared/net/address.ts'
import type { RequestHead } from '../http/exchange.ts'
import type { HeaderList } from '../http/header-list.ts'
import type { Changes } from './changes.ts'
import type { MeshService } from '../extension-provider.ts'

/** A request, or a connection that is carried as it is. */
export interface Subject {
  /** Of the tunnel, from its certificate; undefined where the client has none. */
  readonly peer: SpiffeId | undefined
  readonly client: SocketAddress
  /** As the client addressed it: an IP address or a hostname. */
  readonly destination: { readonly address: string; readonly port: number }
  readonly receivedMs: number
  /** Absent for a connection. `target`: in the form in which it is forwarded. */
  readonly http?: RequestHead | undefined
}

/** How authorizers are reached. A call that comes to no whole answer throws; an aborted one must let go. */
export interface Sender {
  readonly sendHttp: (to: MeshService, request: HttpCheck, signal: AbortSignal) => Promise<HttpAnswer>
  /** A unary call: one message there and one back, both without the framing of gRPC. Throws unless its status is OK. */
  readonly sendGrpc: (
    to: MeshService,
    path: string,
    message: Buffer,
    signal: AbortSignal
  ) => Promise<Uint8Array>
}

/** A request without a body. */
export interface HttpCheck {
  readonly method: string
  readonly target: string
  /** Of the request that is asked about. */
  readonly authority: string
  readonly headers: HeaderList
  /** Bytes of the answer's body that are of use; the rest may be left unread. */
  readonly maxBody: number
}

export interface HttpAnswer {
  readonly status: number
  readonly headers: HeaderList
  readonly body: Uint8Array
  /** Whether the body is all of it. */
  readonly whole: boolean
}

export type Outcome =
  | { readonly kind: 'allowed'; readonly changes: Changes }
  | {
      readonly kind: 'denied'
      readonly status: number
      readonly headers: HeaderList
      readonly body: string
    }
