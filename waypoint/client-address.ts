/** Where a client's connection comes from. */
import type net from 'node:net'
import { ip, parseIp, type SocketAddress } from '../shared/net/address.ts'

const unknown = ip('0.0.0.0')

/** 0.0.0.0 once it is gone. */
export function clientAddress(socket: net.Socket): SocketAddress {
  return { ip: parseIp(socket.remoteAddress ?? '') ?? unknown, port: socket.remotePort ?? 0 }
}
