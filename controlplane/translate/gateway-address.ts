/** Which addresses a gateway has: those of its Service. Source: Gateway API v1, `status.addresses`. */
import { parseIp } from '../../shared/net/address.ts'
import { gatewayNameLabel, type ClusterView } from '../cluster/cluster.ts'
import type { GatewayAddress, GatewayObject } from '../cluster/objects.ts'
import { gatewayWorkloadName, serviceTypeOf } from './gateway-workload.ts'
import type { Problem } from './listener.ts'
import { labelValue } from './proxy-workload.ts'

export type AssignedAddresses =
  | { readonly kind: 'assigned'; readonly addresses: readonly GatewayAddress[]; readonly message: string }
  | {
      readonly kind: 'pending'
      readonly problem: Problem
      /** When to look again, milliseconds from now; undefined: a change of the Service tells. */
      readonly againMs: number | undefined
    }

/** After which a cluster in which nothing ever got an address from a load balancer is taken to have none, milliseconds. */
const loadBalancerPatienceMs = 10_000

/** `now` in milliseconds. */
export function assignedAddresses(view: ClusterView, gateway: GatewayObject, now: number): AssignedAddresses {
  const name = gatewayWorkloadName(gateway)
  const service = view.get('Service', `${gateway.meta.namespace}/${name}`)
  // One without its name on it is not its own.
  if (service?.meta.labels[gatewayNameLabel] !== labelValue(gateway.meta.name)) {
    return pending('AddressNotAssigned', `Service ${name} is not there yet`)
  }
  const balanced = serviceTypeOf(gateway) === 'LoadBalancer'
  const given = service.ingress.map(value => ({
    type: parseIp(value) === undefined ? 'Hostname' : 'IPAddress',
    value
  }))
  const inside = service.vips.map(value => ({ type: 'IPAddress', value: value as string }))
  const wanted = gateway.requestedAddresses.filter(({ value }) => value !== '')
  if (wanted.length > 0) {
    const have = [...given, ...inside]
    const lacking = wanted.filter(({ value }) => !have.some(each => each.value === value))
    if (lacking.length === 0) return assigned(wanted)
    const values = lacking.map(({ value }) => value).join(', ')
    const message = `addresses ${values} are none of Service ${name}: ask for one that its load balancer gives`
    return pending('AddressNotUsable', message)
  }
  if (balanced && given.length > 0) return assigned(given)
  if (inside.length === 0) return pending('AddressNotAssigned', `Service ${name} has no address yet`)
  if (!balanced) return assigned(inside)
  const message = `no load balancer gave Service ${name} an address yet`
  if (hasLoadBalancer(view)) return pending('AddressNotAssigned', message)
  const leftMs = service.meta.createdMs + loadBalancerPatienceMs - now
  if (leftMs > 0) return pending('AddressNotAssigned', message, leftMs)
  const within = assigned(inside)
  const note = `no load balancer gave Service ${name} an address, so it is for the cluster only`
  return { ...within, message: `${within.message}; ${note}` }
}

/** Where another Service has an address, ours gets one, too: clients must not be told of one that they cannot reach. */
function hasLoadBalancer(view: ClusterView): boolean {
  for (const { ingress } of view.all('Service')) if (ingress.length > 0) return true
  return false
}

function assigned(addresses: readonly GatewayAddress[]): Extract<AssignedAddresses, { kind: 'assigned' }> {
  const message = `reachable as ${addresses.map(({ value }) => value).join(', ')}`
  return { kind: 'assigned', addresses, message }
}

function pending(reason: string, message: string, againMs?: number): AssignedAddresses {
  return { kind: 'pending', problem: { reason, message }, againMs }
}
