/** Where clients come in: HBONE of ztunnels to a waypoint, whatever its listeners take to a gateway. */
import net from 'node:net'
import type { SocketAddress } from '../shared/net/address.ts'
import { openListener } from '../shared/net/sockets.ts'
import { wildcard } from '../shared/runtime/admin-http.ts'
import { Edge } from './gateway/edge.ts'
import { acceptHbone } from './tunnel.ts'
import type { Waypoint } from './waypoint.ts'

export interface Entrance {
  /** Undefined: as many as there are listeners. */
  readonly address: SocketAddress | undefined
  /** What is connected: sessions of ztunnels, or clients of a gateway. */
  open(): number
  /** What is connected goes on. */
  stopListening(): void
  destroy(): void
}

export async function openHbone(waypoint: Waypoint): Promise<Entrance> {
  const { config, sessions } = waypoint
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, socket => {
    void acceptHbone(waypoint, socket)
  })
  const address = await listen(server, config.ports.hbone, config.ipv6)
  const stopListening = (): void => void server.close()
  return {
    address,
    open: () => sessions.size,
    stopListening,
    destroy: () => {
      stopListening()
      for (const session of sessions) session.destroy(new Error('the waypoint is ending'))
    }
  }
}

/** Its ports come and go with its listeners. */
export function openGateway(waypoint: Waypoint): Entrance {
  const edge = new Edge(waypoint)
  waypoint.gateway.watch(() => edge.update())
  edge.update()
  return {
    address: undefined,
    open: () => edge.open,
    stopListening: () => {
      waypoint.gateway.watch(() => undefined)
      edge.stopListening()
    },
    destroy: () => edge.destroy()
  }
}

async function listen(server: net.Server, port: number, ipv6: boolean): Promise<SocketAddress> {
  const [address] = wildcard(port, ipv6)
  if (address === undefined) throw new Error('no address to listen at')
  const fd = openListener({}, { address, dualStack: ipv6, reusePort: true, noDelay: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ fd }, () => resolve())
  })
  const bound = server.address()
  return typeof bound === 'object' && bound !== null ? { ip: address.ip, port: bound.port } : address
}
