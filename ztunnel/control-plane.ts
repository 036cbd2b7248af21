/** How ztunnel proves itself to a control plane. */
import type { ControlPlaneTarget } from '../shared/xds/grpc-client.ts'
import type { Config, ControlPlaneAddress } from './config.ts'

export function controlPlaneTarget(
  config: Config,
  server: ControlPlaneAddress,
  address: string
): ControlPlaneTarget {
  const { rootCa, altHostname, headers } = server
  return {
    address,
    roots: rootCa,
    altHostname,
    token: config.authToken,
    clusterId: config.clusterId,
    headers
  }
}
