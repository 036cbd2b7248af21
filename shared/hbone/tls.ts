/** Mutual TLS between workloads: TLS 1.3, `h2`, no SNI, no resumption, SPIFFE identities on both sides. */
import type net from 'node:net'
import type { Duplex } from 'node:stream'
import type tls from 'node:tls'
import type { WorkloadCertificate } from '../identity/certificate.ts'
import type { SpiffeId } from '../identity/spiffe-id.ts'

export type PeerVerdict =
  | { readonly kind: 'trusted'; readonly identity: SpiffeId }
  | { readonly kind: 'refused'; readonly reason: string }

export interface SecurePeer {
  readonly socket: tls.TLSSocket
  readonly peer: SpiffeId
}

export interface HandshakeOptions {
  /** Milliseconds; default 10 s. */
  readonly timeoutMs?: number
}

/** The server's handshake and every check of the peer. Throws MeshError TLS_FAILED; the socket is gone then. */
export function acceptTls(
  _socket: net.Socket | Duplex,
  _certificate: WorkloadCertificate,
  _signal: AbortSignal,
  _options: HandshakeOptions = {}
): Promise<SecurePeer> {
  throw new Error('in progress')
}

/** The client's handshake on a connected stream. Throws MeshError TLS_FAILED; the socket is gone then. */
export function connectTls(
  _socket: net.Socket | Duplex,
  _certificate: WorkloadCertificate,
  _expected: readonly SpiffeId[],
  _signal: AbortSignal,
  _options: HandshakeOptions = {}
): Promise<SecurePeer> {
  throw new Error('in progress')
}

/** Every check of a client's certificate, after the handshake and before one byte of HTTP/2. */
export function verifyPeer(_socket: tls.TLSSocket, _trustDomain: string): PeerVerdict {
  throw new Error('in progress')
}
