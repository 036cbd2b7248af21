/** Cells of `kubectl get` that take more than a field of the object. */
import { at, listOf, objectOf, scalarText, textOf } from '../json.ts'
import type { ApiObject } from '../object.ts'
import { humanDuration } from './duration.ts'

/** What stands where a list is empty. */
export const none = '<none>'

export function joined(values: readonly unknown[]): string {
  return values.map(String).join(',') || none
}

export function shortened(values: readonly unknown[], empty: string): string {
  if (values.length === 0) return empty
  const shown = values.slice(0, 3).join(',')
  return values.length > 3 ? `${shown} + ${values.length - 3} more...` : shown
}

export function readinessGates(object: ApiObject): string {
  const gates = listOf(at(object, 'spec', 'readinessGates')).map(gate => objectOf(gate)['conditionType'])
  const met = listOf(at(object, 'status', 'conditions')).filter(item => {
    const { type, status } = objectOf(item)
    return gates.includes(type) && status === 'True'
  })
  return `${met.length}/${gates.length}`
}

export function loadBalancerAddresses(object: ApiObject): string[] {
  return listOf(at(object, 'status', 'loadBalancer', 'ingress'))
    .map(item => textOf(objectOf(item)['ip']) || textOf(objectOf(item)['hostname']))
    .filter(address => address !== '')
}

export function externalAddress(object: ApiObject): string {
  const spec = objectOf(object['spec'])
  const external = listOf(spec['externalIPs'])
  switch (spec['type']) {
    case 'ExternalName':
      return textOf(spec['externalName'])
    case 'LoadBalancer': {
      const addresses = [...loadBalancerAddresses(object), ...external]
      return addresses.length === 0 ? '<pending>' : joined(addresses)
    }
    default:
      return joined(external)
  }
}

export function servicePorts(object: ApiObject): string {
  const ports = listOf(at(object, 'spec', 'ports')).map(objectOf)
  return joined(
    ports.map(
      ({ port, nodePort, protocol }) =>
        `${String(port)}${nodePort === undefined ? '' : `:${scalarText(nodePort)}`}/${textOf(protocol)}`
    )
  )
}

export function nodeStatus(object: ApiObject): string {
  const ready = listOf(at(object, 'status', 'conditions'))
    .map(objectOf)
    .find(condition => condition['type'] === 'Ready')
  const state = ready === undefined ? 'Unknown' : ready['status'] === 'True' ? 'Ready' : 'NotReady'
  return at(object, 'spec', 'unschedulable') === true ? `${state},SchedulingDisabled` : state
}

export function nodeRoles(object: ApiObject): string {
  const prefix = 'node-role.kubernetes.io/'
  const roles = Object.keys(object.metadata.labels ?? {}).filter(key => key.startsWith(prefix))
  return joined(roles.map(key => key.slice(prefix.length)).toSorted())
}

export function nodeAddress(object: ApiObject, type: string): string {
  const found = listOf(at(object, 'status', 'addresses'))
    .map(objectOf)
    .find(address => address['type'] === type)
  return textOf(found?.['address']) || none
}

export function endpointsSummary(object: ApiObject): string {
  const endpoints = listOf(object['subsets']).flatMap(item => {
    const { addresses, ports } = objectOf(item)
    const numbers = listOf(ports).map(port => objectOf(port)['port'])
    return listOf(addresses).flatMap(address =>
      numbers.length === 0
        ? [objectOf(address)['ip']]
        : numbers.map(port => `${String(objectOf(address)['ip'])}:${String(port)}`)
    )
  })
  return shortened(endpoints, none)
}

export function involvedObject(object: ApiObject): string {
  const { kind, name } = objectOf(object['involvedObject'])
  return `${textOf(kind).toLowerCase()}/${textOf(name)}`
}

const modes: Readonly<Record<string, string>> = {
  ReadWriteOnce: 'RWO',
  ReadOnlyMany: 'ROX',
  ReadWriteMany: 'RWX',
  ReadWriteOncePod: 'RWOP'
}

export function accessModes(value: unknown): string {
  return listOf(value)
    .map(mode => modes[textOf(mode)] ?? textOf(mode))
    .join(',')
}

export function jobStatus(object: ApiObject): string {
  const conditions = listOf(at(object, 'status', 'conditions')).map(objectOf)
  const holds = (type: string): boolean =>
    conditions.some(item => item['type'] === type && item['status'] === 'True')
  const reached = ['Complete', 'Failed', 'Suspended', 'FailureTarget', 'SuccessCriteriaMet'].find(holds)
  if (reached !== undefined) return reached
  return object.metadata.deletionTimestamp === undefined ? 'Running' : 'Terminating'
}

export function jobDuration(object: ApiObject, now: number): string {
  const [start, end] = [at(object, 'status', 'startTime'), at(object, 'status', 'completionTime')]
  if (typeof start !== 'string') return ''
  return humanDuration((typeof end === 'string' ? Date.parse(end) : now) - Date.parse(start))
}
