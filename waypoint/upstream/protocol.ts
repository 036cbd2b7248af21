/** What a service's pods are spoken to in, whatever the client speaks. */
import type { Service } from '../../shared/mesh/model.ts'
import type { HeaderList } from '../http/header-list.ts'
import type { Cluster } from './cluster.ts'
import type { UpstreamProtocol } from './place.ts'

/** HTTP/2 where the port or the traffic policy says so; and for gRPC, which is nothing else, where nobody said HTTP/1.1. */
export function protocolTowards(
  service: Service,
  port: number,
  cluster: Pick<Cluster, 'policy'> | undefined,
  headers: HeaderList
): UpstreamProtocol {
  if (cluster?.policy.connections.upgradeToHttp2 === true) return 'http2'
  const protocol = service.protocols.get(port)
  if (protocol === 'HTTP2' || protocol === 'GRPC') return 'http2'
  return protocol !== 'HTTP11' && isGrpc(headers) ? 'http2' : 'http1'
}

/** gRPC-Web is HTTP/1.1. Source: gRPC over HTTP/2, Content-Type. */
function isGrpc(headers: HeaderList): boolean {
  return /^application\/grpc(?:\+|;|$)/.test(headers.get('content-type') ?? '')
}
