/** A client's connection as HTTP: its requests, one by one or many at once, go the path of requests. */
import type { ByteStream } from '../shared/net/byte-stream.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Exchange } from './http/exchange.ts'
import { Http1ServerConnection } from './http1/server-connection.ts'
import { Http2ServerConnection } from './http2/server-connection.ts'
import { serveRequest } from './request.ts'
import type { Arrival, Waypoint } from './waypoint.ts'

/** Owns the stream from now on. `scheme`: of all requests, where the connection tells it. */
export function serveHttp(
  waypoint: Waypoint,
  arrival: Arrival,
  version: 'http1' | 'http2',
  stream: ByteStream,
  scheme?: 'http' | 'https'
): void {
  const { clients, log } = waypoint
  const { authority, client, peer } = arrival
  const who = { 'src.identity': peer, 'src.addr': peer === undefined ? client.ip : undefined, authority }
  const onDefect = (error: unknown): void => {
    log.error('a request could not be served', { authority, error: messageOf(error) })
    stream.destroy()
  }
  const serve = (exchange: Exchange): void => {
    try {
      serveRequest(waypoint, arrival, exchange, onDefect)
    } catch (error) {
      onDefect(error) // one client's connection, not everybody's
    }
  }
  const Connection = version === 'http2' ? Http2ServerConnection : Http1ServerConnection
  const connection = new Connection(stream, serve, {
    ...(scheme === undefined ? {} : { scheme }),
    onOver: () => clients.delete(connection),
    onRefused: ({ status, reason }) => log.warn('a request was refused', { ...who, status, reason })
  })
  clients.set(connection, arrival)
}
