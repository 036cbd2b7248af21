/** What runs a gateway: a Service with the ports of its listeners, open to the outside unless it says otherwise. */
import type { GatewayObject } from '../cluster/objects.ts'
import { serviceTypeAnnotation } from '../read/gateway.ts'
import { listenerStates } from './listener.ts'
import type { ClusterView } from '../cluster/cluster.ts'
import { proxyWorkload, serviceName, type ProxySettings, type ProxyWorkload } from './proxy-workload.ts'

export const gatewayManager = 'istio.io-gateway-controller'

export const serviceTypes: readonly string[] = ['LoadBalancer', 'NodePort', 'ClusterIP']

export function gatewayWorkload(
  view: ClusterView,
  gateway: GatewayObject,
  settings: ProxySettings
): ProxyWorkload {
  const type = serviceTypeOf(gateway)
  const [wanted] = gateway.requestedAddresses
  const role = {
    name: gatewayWorkloadName(gateway),
    managedBy: gatewayManager,
    env: {
      UNDERPASS_ROLE: 'gateway',
      UNDERPASS_GATEWAY: gateway.meta.name,
      UNDERPASS_GATEWAY_CLASS: gateway.className
    },
    // Its user may bind port 80 then, without a capability.
    podSecurity: { sysctls: [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '0' }] },
    containerPorts: [],
    service: {
      type,
      annotations: {},
      ports: servicePorts(view, gateway),
      loadBalancerIp: type === 'LoadBalancer' ? (wanted?.value ?? '') : ''
    }
  }
  return proxyWorkload(gateway, role, settings)
}

/** Of all of its objects; as Istio's. */
export function gatewayWorkloadName({ meta, className }: GatewayObject): string {
  return serviceName(`${meta.name}-${className}`)
}

/** By its annotation; one that is unknown counts as none. Source: Istio's published annotation. */
export function serviceTypeOf({ meta }: GatewayObject): string {
  const written = meta.annotations[serviceTypeAnnotation]
  return serviceTypes.find(type => type === written) ?? 'LoadBalancer'
}

/** One for each port of listeners that are taken, whether or not their certificates are there. */
function servicePorts(
  view: ClusterView,
  gateway: GatewayObject
): readonly { name: string; port: number; protocol: 'TCP'; appProtocol: string }[] {
  const ports = new Map<number, string>()
  for (const { listener, refused } of listenerStates(view, gateway)) {
    if (refused === undefined && !ports.has(listener.port)) {
      ports.set(listener.port, listener.protocol.toLowerCase())
    }
  }
  return [...ports].map(([port, protocol]) => ({
    name: `${protocol}-${port}`,
    port,
    protocol: 'TCP',
    appProtocol: protocol
  }))
}
