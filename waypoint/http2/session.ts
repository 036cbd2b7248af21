/** What both ends of our HTTP/2 connections have in common. */
import type { SessionOptions } from '../../shared/hbone/session-options.ts'
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import { MAX_HEAD_BYTES } from '../http1/head-reader.ts'
import { readTrailers, type FieldSection } from './fields.ts'

/** So that a list somewhat beyond its limit is read to its end and answered, and only a far larger one is a fault. */
const headerBlocks = 4

/** Smaller windows than HBONE's: a request's bytes wait in the sender's memory, not in ours. */
export function httpSession(maxHeaderListSize = MAX_HEAD_BYTES): SessionOptions {
  return {
    streamWindow: 256 << 10,
    connectionWindow: 4 << 20,
    maxHeaderListSize,
    maxHeaderBlock: headerBlocks * maxHeaderListSize,
    connectProtocol: true
  }
}

/** Keeps them with the stream; what is wrong with them otherwise. */
export function keepTrailers(tunnel: Tunnel, section: FieldSection | undefined): string | undefined {
  const trailers = readTrailers(section)
  if ('kind' in trailers) return trailers.reason
  tunnel.trailers = section
  return undefined
}
