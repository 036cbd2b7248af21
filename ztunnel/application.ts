/** The connection to the pod's own application, from its client's address where that is possible. */
import type net from 'node:net'
import { ip, ipFamily, type SocketAddress } from '../shared/net/address.ts'
import { dial } from '../shared/net/dial.ts'
import type { Pod } from './pod.ts'

export interface ApplicationDial {
  readonly client: SocketAddress
  readonly target: SocketAddress
  /** The application takes PROXY headers: a sandboxed waypoint, which listens on loopback. */
  readonly proxied: boolean
}

/** Throws MeshError CONNECT_FAILED, or the signal's reason. */
export function connectApplication(
  pod: Pod,
  { client, target, proxied }: ApplicationDial,
  signal: AbortSignal
): Promise<net.Socket> {
  const { place, config, spoofer, description, dialOptions: tcp } = pod
  const to = proxied && config.localhostAppTunnel ? { ip: loopbackLike(target), port: target.port } : target
  const options = { place, to, tcp, timeoutMs: config.connectTimeoutMs }
  // A pod that calls itself, and what arrives for ztunnel itself, comes from our own address anyway.
  const spoof = spoofer !== undefined && to === target && client.ip !== target.ip && !description.self
  return spoof ? spoofer.dial(options, client, signal) : dial(options, signal)
}

function loopbackLike(target: SocketAddress): SocketAddress['ip'] {
  return ip(ipFamily(target.ip) === 4 ? '127.0.0.1' : '::1')
}
