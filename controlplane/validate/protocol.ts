/** The protocols that a port may name, in any case. Source: Istio's published protocol selection. */
import type { Problem } from './finding.ts'

const http = new Set(['http', 'http2', 'http_proxy', 'grpc', 'grpc-web'])
const tls = new Set(['https', 'tls'])
const tcp = new Set(['tcp', 'https', 'tls', 'mongo', 'redis', 'mysql'])

export const isHttp = (protocol: string): boolean => http.has(protocol.toLowerCase())
export const isTls = (protocol: string): boolean => tls.has(protocol.toLowerCase())
/** Carried as a stream of bytes, encrypted or not. */
export const isTcp = (protocol: string): boolean => tcp.has(protocol.toLowerCase())

export function isProtocol(protocol: string): boolean {
  return isHttp(protocol) || isTcp(protocol) || protocol.toLowerCase() === 'udp'
}

/** An empty one is found out by looking at the traffic. */
export function portProtocol(protocol: string): Problem | undefined {
  if (protocol === '' || isProtocol(protocol)) return undefined
  return {
    message: `${JSON.stringify(protocol)} is no protocol`,
    remedy: 'use one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, UDP, MONGO, MYSQL, REDIS'
  }
}
