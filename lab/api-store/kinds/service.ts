/** Services: their addresses and node ports, given out at creation and taken back with the object. */
import { ip, ipFromBytes, parseIp, type Cidr, cidrContains, formatCidr } from '../../../shared/net/address.ts'
import { ApiError, forbiddenField, invalid, invalidValue, required, type Problem } from '../api-error.ts'
import {
  at,
  equal,
  isObject,
  listOf,
  objectOf,
  textOf,
  type JsonObject,
  type MutableObject
} from '../json.ts'
import type { ApiObject } from '../object.ts'
import { immutableField } from './metadata.ts'
import { checkLabels, checkName, checkPort, checkPortName, checkUnique } from './names.ts'
import { checkChoice, checkDuplicatePorts } from './pod-validation.ts'
import { child, fill, items, type KindContext, type Strategy } from './strategy.ts'

const kind = { group: '', kind: 'Service' }
const nodePorts = { first: 30000, last: 32767 } as const
const types = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort']

/** Services whose addresses are of `cidr`, IPv4; the first address is for `default/kubernetes`. */
export function serviceStrategy(cidr: Cidr): Strategy {
  return {
    nameForm: 'label-1035',
    setDefaults: service => setServiceDefaults(child(service, 'spec')),
    prepareCreate: (service, context) => {
      const spec = child(service, 'spec')
      allocateAddress(service, spec, cidr, context)
      allocateNodePorts(service, spec, context)
      service['status'] = { loadBalancer: {} }
    },
    prepareUpdate: (service, old, context) => {
      const spec = child(service, 'spec')
      keepAllocations(spec, objectOf(old['spec']))
      allocateAddress(service, spec, cidr, context)
      allocateNodePorts(service, spec, context)
    },
    validate: service => checkService(objectOf(service['spec'])),
    validateUpdate: (service, old) => checkServiceChange(objectOf(service['spec']), objectOf(old['spec']))
  }
}

function setServiceDefaults(spec: MutableObject): void {
  fill(spec, { type: 'ClusterIP', sessionAffinity: 'None' })
  const external = spec['type'] === 'ExternalName'
  if (spec['sessionAffinity'] === 'ClientIP') {
    fill(child(child(spec, 'sessionAffinityConfig'), 'clientIP'), { timeoutSeconds: 10800 })
  }
  for (const port of items(spec, 'ports')) {
    fill(port, { protocol: 'TCP' })
    if (port['targetPort'] === undefined || port['targetPort'] === 0 || port['targetPort'] === '') {
      port['targetPort'] = port['port']
    }
  }
  if (external) return
  fill(spec, { internalTrafficPolicy: 'Cluster' })
  if (spec['type'] === 'NodePort' || spec['type'] === 'LoadBalancer')
    fill(spec, { externalTrafficPolicy: 'Cluster' })
  if (spec['type'] === 'LoadBalancer') fill(spec, { allocateLoadBalancerNodePorts: true })
}

function hasClusterIp(spec: JsonObject): boolean {
  return spec['type'] !== 'ExternalName'
}

/** A field left out of an update keeps what was given out, unless the new type has no use for it. */
function keepAllocations(spec: MutableObject, old: JsonObject): void {
  if (!hasClusterIp(spec)) {
    for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy']) {
      if (equal(spec[field], old[field])) delete spec[field]
    }
    return
  }
  if (hasClusterIp(old)) {
    if (textOf(spec['clusterIP']) === '') spec['clusterIP'] = old['clusterIP']
    for (const field of ['clusterIPs', 'ipFamilies', 'ipFamilyPolicy']) fill(spec, { [field]: old[field] })
  }
  const known = listOf(old['ports']).map(objectOf)
  for (const port of items(spec, 'ports')) {
    if (!wantsNodePorts(spec)) {
      if (known.some(before => before['nodePort'] === port['nodePort'])) delete port['nodePort']
      continue
    }
    const before = known.find(
      ({ port: number, protocol }) => number === port['port'] && protocol === port['protocol']
    )
    if (port['nodePort'] === undefined && before?.['nodePort'] !== undefined)
      port['nodePort'] = before['nodePort']
  }
}

function allocateAddress(
  service: MutableObject,
  spec: MutableObject,
  cidr: Cidr,
  context: KindContext
): void {
  if (!hasClusterIp(spec)) return
  const wanted = textOf(spec['clusterIP']) || textOf(listOf(spec['clusterIPs'])[0])
  if (wanted === 'None') {
    const families =
      spec['selector'] === undefined
        ? { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' }
        : {}
    fill(spec, {
      clusterIP: 'None',
      clusterIPs: ['None'],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      ...families
    })
    return
  }
  const [namespace, name] = [
    textOf(at(service, 'metadata', 'namespace')),
    textOf(at(service, 'metadata', 'name'))
  ]
  const taken = new Set<string>()
  for (const other of context.all('/services')) {
    if (other.metadata.namespace === namespace && other.metadata.name === name) continue
    taken.add(textOf(at(other, 'spec', 'clusterIP')))
  }
  const address = wanted === '' ? freeAddress(cidr, taken) : checkedAddress(wanted, name, cidr, taken)
  spec['clusterIP'] = address
  fill(spec, { clusterIPs: [address], ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' })
}

function checkedAddress(wanted: string, name: string, cidr: Cidr, taken: ReadonlySet<string>): string {
  const address = parseIp(wanted)
  const refuse = (detail: string): ApiError =>
    invalid(kind, name, [invalidValue('spec.clusterIPs', [wanted], detail)])
  if (address === undefined) {
    const detail = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
    throw invalid(kind, name, [invalidValue('spec.clusterIPs[0]', wanted, detail)])
  }
  if (!cidrContains(cidr, address)) {
    throw refuse(
      `failed to allocate IP ${wanted}: the provided IP (${wanted}) is not in the valid range. The range of valid IPs is ${formatCidr(cidr)}`
    )
  }
  if (taken.has(wanted)) throw refuse(`failed to allocate IP ${wanted}: provided IP is already allocated`)
  return wanted
}

/** The lower part of the range is left, as long as possible, for addresses that manifests ask for by number. */
const staticShare = 256

function freeAddress(cidr: Cidr, taken: ReadonlySet<string>): string {
  const size = 2 ** (32 - cidr.length)
  const reserved = Math.min(staticShare, Math.floor(size / 16))
  // the first is for `default/kubernetes`, the last is the broadcast address
  for (let count = 0; count < size - 3; count += 1) {
    const address = addressAt(cidr, 2 + ((reserved - 1 + count) % (size - 3)))
    if (!taken.has(address)) return address
  }
  throw new ApiError('InternalError', `no free address is left in the service range ${formatCidr(cidr)}`)
}

/** The address `offset` above the start of the block. */
export function addressAt(cidr: Cidr, offset: number): string {
  const number = Buffer.from(cidr.bytes).readUInt32BE() + offset
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(number)
  return ipFromBytes(bytes) ?? ip('0.0.0.0')
}

function wantsNodePorts(spec: JsonObject): boolean {
  return (
    spec['type'] === 'NodePort' ||
    (spec['type'] === 'LoadBalancer' && spec['allocateLoadBalancerNodePorts'] !== false)
  )
}

function allocateNodePorts(service: MutableObject, spec: MutableObject, context: KindContext): void {
  if (!wantsNodePorts(spec)) return
  const uid = at(service, 'metadata', 'uid')
  const taken = new Set<unknown>()
  for (const other of context.all('/services')) {
    if (other.metadata.uid === uid) continue
    for (const port of listOf(at(other, 'spec', 'ports'))) taken.add(objectOf(port)['nodePort'])
  }
  for (const [index, port] of items(spec, 'ports').entries()) {
    const wanted = port['nodePort']
    if (wanted !== undefined && wanted !== 0) {
      const field = `spec.ports[${index}].nodePort`
      const name = textOf(at(service, 'metadata', 'name'))
      if (taken.has(wanted))
        throw invalid(kind, name, [invalidValue(field, wanted, 'provided port is already allocated')])
      if (Number(wanted) < nodePorts.first || Number(wanted) > nodePorts.last) {
        const detail = `provided port is not in the valid range. The range of valid ports is ${nodePorts.first}-${nodePorts.last}`
        throw invalid(kind, name, [invalidValue(field, wanted, detail)])
      }
    } else {
      let free: number = nodePorts.first
      while (taken.has(free) && free < nodePorts.last) free += 1
      port['nodePort'] = free
    }
    taken.add(port['nodePort'])
  }
}

function checkService(spec: JsonObject): Problem[] {
  const ports = listOf(spec['ports']).map(objectOf)
  const headless = spec['clusterIP'] === 'None'
  const external = spec['type'] === 'ExternalName'
  return [
    ...checkChoice('spec.type', spec['type'], types),
    ...checkChoice('spec.sessionAffinity', spec['sessionAffinity'], ['ClientIP', 'None']),
    ...checkLabels('spec.selector', spec['selector']),
    ...(ports.length === 0 && !headless && !external ? [required('spec.ports')] : []),
    ...(headless && spec['type'] !== 'ClusterIP'
      ? [
          invalidValue(
            'spec.clusterIPs[0]',
            'None',
            `may not be set to 'None' for ${textOf(spec['type'])} services`
          )
        ]
      : []),
    ...(external ? checkExternalName(spec) : []),
    ...ports.flatMap((port, index) => checkServicePort(port, `spec.ports[${index}]`, ports.length > 1)),
    ...checkUnique(
      ports
        .map((port, index) => ({ field: `spec.ports[${index}].name`, value: textOf(port['name']) }))
        .filter(({ value }) => value !== '')
    ),
    ...checkDuplicatePorts(ports, 'spec.ports')
  ]
}

function checkExternalName(spec: JsonObject): Problem[] {
  const name = textOf(spec['externalName']).replace(/\.$/, '')
  return name === '' ? [required('spec.externalName')] : checkName('spec.externalName', name, 'subdomain')
}

function checkServicePort(port: JsonObject, field: string, several: boolean): Problem[] {
  const name = textOf(port['name'])
  const target = port['targetPort']
  return [
    ...(name === '' && several ? [required(`${field}.name`)] : []),
    ...(name === '' ? [] : checkName(`${field}.name`, name, 'label')),
    ...checkPort(`${field}.port`, port['port']),
    ...checkChoice(`${field}.protocol`, port['protocol'], ['SCTP', 'TCP', 'UDP']),
    ...(typeof target === 'string'
      ? checkPortName(`${field}.targetPort`, target)
      : checkPort(`${field}.targetPort`, target))
  ]
}

function checkServiceChange(spec: JsonObject, old: JsonObject): Problem[] {
  if (!hasClusterIp(spec) || !hasClusterIp(old)) return []
  const [addresses, before] = [listOf(spec['clusterIPs']), listOf(old['clusterIPs'])]
  if (isObject(spec) && spec['clusterIP'] !== addresses[0]) {
    return [invalidValue('spec.clusterIPs', addresses, 'first value must match `clusterIP`')]
  }
  if (before.length > 0 && addresses[0] !== before[0]) {
    return [invalidValue('spec.clusterIPs[0]', addresses, 'may not change once set')]
  }
  return []
}

/** For fields that a kind fixes at creation. */
export function checkFixed(object: ApiObject, old: ApiObject, path: readonly string[]): Problem[] {
  return immutableField(path.join('.'), at(object, ...path), at(old, ...path))
}

export function checkFrozen(object: ApiObject, old: ApiObject, fields: readonly string[]): Problem[] {
  if (old['immutable'] !== true) return []
  return ['immutable', ...fields].flatMap(field =>
    equal(object[field], old[field])
      ? []
      : [forbiddenField(field, 'field is immutable when `immutable` is set')]
  )
}
