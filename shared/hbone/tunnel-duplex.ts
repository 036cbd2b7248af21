/** A tunnel as a Node stream, for TLS or HTTP inside it. Not for the hot path. */
import type { Duplex } from 'node:stream'
import type { Tunnel } from './tunnel.ts'

export function tunnelDuplex(_tunnel: Tunnel): Duplex {
  throw new Error('in progress')
}
