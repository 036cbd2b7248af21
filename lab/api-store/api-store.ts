/** Starts the API store and says how to reach it. */
import type { Cidr, SocketAddress } from '../../shared/net/address.ts'
import type { Clock } from '../../shared/runtime/clock.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { ObjectAccess } from './object-access.ts'
import type { PodRuntime } from './pod-runtime.ts'

/** Where the store listens: a socket that listens already, or an address (port 0 = any). */
export type ApiListener = { readonly fd: number } | { readonly host: string; readonly port: number }

export interface ApiStoreOptions {
  readonly listeners: readonly ApiListener[]
  /** DNS names and addresses of the serving certificate, beyond localhost and the cluster's own names. */
  readonly names?: readonly string[]
  /** Where pods reach the store: the endpoint behind Service `kubernetes` (whose address is the first of serviceCidr). */
  readonly advertise?: SocketAddress
  /** Addresses of Services; default 10.96.0.0/16. */
  readonly serviceCidr?: Cidr
  /** Without one, logs, exec and port-forward are refused. */
  readonly pods?: PodRuntime
  readonly clock?: Clock
  readonly logger?: Logger
}

/** Claims of a token for a service account. */
export interface TokenOptions {
  readonly audiences?: readonly string[]
  readonly expirationSeconds?: number
  /** Bound to this pod: not valid any more once the pod is gone. */
  readonly pod?: string
}

export interface ApiStore {
  readonly objects: ObjectAccess
  /** One for each listener, in order. */
  readonly addresses: readonly SocketAddress[]
  /** Certificate authority of the store's serving certificate, PEM. */
  readonly caPem: string
  readonly adminToken: string
  /** JSON Web Key Set with which others verify the tokens. */
  jwks(): string
  /** A token as `kubectl create token` returns it; for projected volumes. */
  issueToken(namespace: string, serviceAccount: string, options?: TokenOptions): string
  /** A kubeconfig of an administrator for the store at `server`, such as `https://127.0.0.1:6443`. */
  kubeconfig(server: string): string
  /** Ends every connection and watch. Idempotent. */
  close(): Promise<void>
}
