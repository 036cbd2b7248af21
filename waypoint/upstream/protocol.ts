/** What a service's pods are spoken to in, whatever the client speaks. */
import type { Service } from '../../shared/mesh/model.ts'
import type { Cluster } from './cluster.ts'
import type { UpstreamProtocol } from './place.ts'

/** HTTP/2 where the port or the traffic policy says so. */
export function protocolTowards(
  service: Service,
  port: number,
  cluster: Cluster | undefined
): UpstreamProtocol {
  if (cluster?.policy.connections.upgradeToHttp2 === true) return 'http2'
  const protocol = service.protocols.get(port)
  return protocol === 'HTTP2' || protocol === 'GRPC' ? 'http2' : 'http1'
}
