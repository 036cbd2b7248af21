/** What runs a waypoint: it is reached inside the mesh alone. */
import type { GatewayObject } from '../cluster/objects.ts'
import { proxyWorkload, serviceName, type ProxySettings, type ProxyWorkload } from './proxy-workload.ts'

export const waypointManager = 'istio.io-mesh-controller'

const hbonePort = 15008

export function waypointWorkload(gateway: GatewayObject, settings: ProxySettings): ProxyWorkload {
  const role = {
    name: serviceName(gateway.meta.name),
    managedBy: waypointManager,
    env: {},
    podSecurity: {},
    containerPorts: [{ name: 'mesh', containerPort: hbonePort, protocol: 'TCP' }],
    service: {
      type: 'ClusterIP',
      annotations: { 'networking.istio.io/traffic-distribution': 'PreferClose' },
      ports: [{ name: 'mesh', port: hbonePort, protocol: 'TCP' as const, appProtocol: 'all' }],
      loadBalancerIp: ''
    }
  }
  return proxyWorkload(gateway, role, settings)
}
