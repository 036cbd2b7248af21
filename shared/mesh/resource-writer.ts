/** Writes resources into the shared memory with everything that leads to them: index entries, lists, places, ports. */
import { formatCidr, type Cidr } from '../net/address.ts'
import { hashOf } from './hash.ts'
import { Interned } from './interned.ts'
import { Flag, Header, keys, Kind, scopeOrder, Slot, type MeshMemory } from './memory.ts'
import { MeshMemoryWriter } from './memory-writer.ts'
import {
  policyKey,
  serviceKey,
  type Policy,
  type PolicyKey,
  type RoutingScope,
  type Service,
  type ServiceKey,
  type Workload
} from './model.ts'
import {
  packPolicy,
  packService,
  packWorkload,
  unpackPolicy,
  unpackService,
  unpackWorkload
} from './record.ts'
import { SharedLists } from './shared-lists.ts'
import { SharedPorts } from './shared-ports.ts'

export type WorkloadListener = (previous: Workload | undefined, current: Workload | undefined) => void

export class ResourceWriter {
  readonly #writer = new MeshMemoryWriter()
  readonly #lists: SharedLists
  readonly #ports: SharedPorts
  readonly #places: Readonly<Record<RoutingScope, Interned>>
  /** How many blocks there are of each prefix length: of IPv4 at 0 to 32, of IPv6 at 64 to 192. */
  readonly #prefixes = new Map<number, number>()
  readonly #onWorkload: WorkloadListener
  /** Told after the readers were let in again, so that a listener may read. */
  #untold: (readonly [Workload | undefined, Workload | undefined])[] = []

  constructor(onWorkload: WorkloadListener) {
    this.#onWorkload = onWorkload
    this.#lists = new SharedLists(this.#writer)
    this.#ports = new SharedPorts(this.#writer)
    this.#places = {
      Region: new Interned(),
      Zone: new Interned(),
      Subzone: new Interned(),
      Node: new Interned(),
      Cluster: new Interned(),
      Network: new Interned()
    }
  }

  get memory(): MeshMemory {
    return this.#writer.memory
  }

  get policyVersion(): number {
    return this.memory.header[Header.policyVersion] ?? 0
  }

  usage(): ReturnType<MeshMemoryWriter['usage']> {
    return this.#writer.usage()
  }

  /** Runs steps that readers see all at once. */
  write(steps: readonly (() => void)[]): void {
    this.#writer.write(() => steps.forEach(step => step()))
    const untold = this.#untold
    this.#untold = []
    for (const [previous, current] of untold) this.#onWorkload(previous, current)
  }

  putWorkload(workload: Workload): () => void {
    const text = packWorkload(workload)
    return () => this.#putWorkload(workload, text)
  }

  putService(service: Service): () => void {
    const text = packService(service)
    return () => this.#putService(service, text)
  }

  putPolicy(policy: Policy): () => void {
    const text = packPolicy(policy)
    return () => this.#putPolicy(policy, text)
  }

  /** A workload by its uid, else a service by `namespace/hostname`. */
  removeAddress(name: string): void {
    const workload = this.#slot(keys.workload(name), Kind.workload, text => unpackWorkload(text).uid === name)
    if (workload !== undefined) return this.#removeWorkload(workload)
    const service = this.#serviceSlot(name)
    if (service !== undefined) this.#removeService(service)
  }

  removePolicy(key: PolicyKey): void {
    const slot = this.#policySlot(key)
    if (slot === undefined) return
    this.#detachPolicy(slot)
    this.#free(slot)
  }

  #putWorkload(workload: Workload, text: string): void {
    const held = this.#slot(
      keys.workload(workload.uid),
      Kind.workload,
      text => unpackWorkload(text).uid === workload.uid
    )
    if (held !== undefined && this.#text(held) === text) return
    const previous = held === undefined ? undefined : unpackWorkload(this.#text(held))
    const slot = held ?? this.#writer.addSlot(Kind.workload)
    this.#setText(slot, text)
    this.#setFacts(slot, previous, workload)
    this.#moveKeys(slot, previous === undefined ? [] : workloadKeys(previous), workloadKeys(workload))
    this.#moveEndpoints(slot, previous, workload)
    this.#untold.push([previous, workload])
  }

  #removeWorkload(slot: number): void {
    const previous = unpackWorkload(this.#text(slot))
    this.#moveKeys(slot, workloadKeys(previous), [])
    this.#moveEndpoints(slot, previous, undefined)
    for (const scope of scopeOrder) this.#places[scope].release(placeOf(previous, scope))
    this.#free(slot)
    this.#untold.push([previous, undefined])
  }

  /** What picking reads without decoding the record. */
  #setFacts(slot: number, previous: Workload | undefined, workload: Workload): void {
    const { applicationTunnel } = workload
    this.#writer.set(slot, Slot.hash, hashOf(workload.uid))
    this.#writer.set(slot, Slot.capacity, workload.capacity)
    this.#writer.set(slot, Slot.flags, flagsOf(workload))
    this.#writer.set(slot, Slot.tunnelPort, applicationTunnel?.port ?? 0)
    for (const [index, scope] of scopeOrder.entries()) {
      this.#writer.set(slot, Slot.scopes + index, this.#places[scope].take(placeOf(workload, scope)))
      if (previous !== undefined) this.#places[scope].release(placeOf(previous, scope))
    }
  }

  #moveEndpoints(slot: number, previous: Workload | undefined, workload: Workload | undefined): void {
    for (const [key, ports] of previous?.services ?? []) {
      if (workload?.services.has(key) === true) continue
      this.#lists.remove(Kind.endpoints, keys.endpoints(key), key, slot)
      this.#ports.release(ports)
    }
    for (const [key, ports] of workload?.services ?? []) {
      const at = this.#ports.take(ports)
      const old = previous?.services.get(key)
      this.#lists.put(Kind.endpoints, keys.endpoints(key), key, slot, at, old !== undefined)
      if (old !== undefined) this.#ports.release(old)
    }
  }

  #putService(service: Service, text: string): void {
    const held = this.#serviceSlot(serviceKey(service))
    if (held !== undefined && this.#text(held) === text) return
    const previous = held === undefined ? undefined : unpackService(this.#text(held))
    const slot = held ?? this.#writer.addSlot(Kind.service)
    this.#setText(slot, text)
    this.#moveKeys(slot, previous === undefined ? [] : serviceKeys(previous), serviceKeys(service))
    this.#countPrefixes(service, 1)
    if (previous !== undefined) this.#countPrefixes(previous, -1)
  }

  #removeService(slot: number): void {
    const previous = unpackService(this.#text(slot))
    this.#moveKeys(slot, serviceKeys(previous), [])
    this.#countPrefixes(previous, -1)
    this.#free(slot)
  }

  #countPrefixes({ cidrVips }: Service, change: 1 | -1): void {
    const { header } = this.memory
    for (const { cidr } of cidrVips) {
      const bit = prefixBit(cidr)
      const count = (this.#prefixes.get(bit) ?? 0) + change
      this.#prefixes.set(bit, count)
      const word = Header.prefixes4 + (bit >> 5)
      const mask = 1 << (bit & 31)
      header[word] = count > 0 ? (header[word] ?? 0) | mask : (header[word] ?? 0) & ~mask
    }
  }

  #putPolicy(policy: Policy, text: string): void {
    const key = policyKey(policy)
    const held = this.#policySlot(key)
    if (held !== undefined && this.#text(held) === text) return
    if (held !== undefined) this.#detachPolicy(held)
    const slot = held ?? this.#writer.addSlot(Kind.policy)
    this.#setText(slot, text)
    this.#writer.addEntry(this.memory.hash(keys.policy(key)), slot)
    const namespace = policyNamespace(policy)
    if (namespace !== undefined) this.#lists.put(Kind.policies, keys.policies(namespace), namespace, slot, 0)
    this.#policiesChanged()
  }

  #detachPolicy(slot: number): void {
    const policy = unpackPolicy(this.#text(slot))
    this.#writer.removeEntry(this.memory.hash(keys.policy(policyKey(policy))), slot)
    const namespace = policyNamespace(policy)
    if (namespace !== undefined) this.#lists.remove(Kind.policies, keys.policies(namespace), namespace, slot)
    this.#policiesChanged()
  }

  #policiesChanged(): void {
    this.memory.header[Header.policyVersion] = (this.policyVersion + 1) | 0
  }

  #moveKeys(slot: number, from: readonly string[], to: readonly string[]): void {
    for (const key of from) if (!to.includes(key)) this.#writer.removeEntry(this.memory.hash(key), slot)
    for (const key of to) if (!from.includes(key)) this.#writer.addEntry(this.memory.hash(key), slot)
  }

  #serviceSlot(key: ServiceKey): number | undefined {
    return this.#slot(keys.service(key), Kind.service, text => serviceKey(unpackService(text)) === key)
  }

  #policySlot(key: PolicyKey): number | undefined {
    return this.#slot(keys.policy(key), Kind.policy, text => policyKey(unpackPolicy(text)) === key)
  }

  #slot(key: string, kind: number, accept: (text: string) => boolean): number | undefined {
    const { memory } = this
    return memory.find(
      memory.hash(key),
      slot => memory.word(slot, Slot.kind) === kind && accept(this.#text(slot))
    )
  }

  #text(slot: number): string {
    const { memory } = this
    return memory.readText(memory.word(slot, Slot.at), memory.word(slot, Slot.length))
  }

  #setText(slot: number, text: string): void {
    this.#releaseText(slot)
    const { at, length } = this.#writer.addText(text)
    this.#writer.set(slot, Slot.at, at)
    this.#writer.set(slot, Slot.length, length)
    this.#writer.set(slot, Slot.version, this.#writer.nextVersion())
  }

  #releaseText(slot: number): void {
    const at = this.memory.word(slot, Slot.at)
    if (at !== 0) this.#writer.releaseText(at, this.memory.word(slot, Slot.length))
  }

  #free(slot: number): void {
    this.#releaseText(slot)
    this.#writer.freeSlot(slot)
  }
}

function workloadKeys(workload: Workload): readonly string[] {
  const { uid, namespace, name, serviceAccount, network, hostname } = workload
  // What shares the node's address is not found by it.
  const addresses = workload.networkMode === 'HostNetwork' ? [] : workload.addresses
  const found = [keys.workload(uid), keys.pod(namespace, name, serviceAccount)]
  if (hostname !== '') found.push(keys.workloadHostname(namespace, hostname))
  return [...new Set([...found, ...addresses.map(ip => keys.address(network, ip))])]
}

function serviceKeys(service: Service): readonly string[] {
  return [
    ...new Set([
      keys.service(serviceKey(service)),
      keys.hostname(service.hostname),
      ...service.vips.map(({ network, ip }) => keys.vip(network, ip)),
      ...service.cidrVips.map(({ network, cidr }) => keys.cidrVip(network, formatCidr(cidr)))
    ])
  ]
}

function flagsOf(workload: Workload): number {
  let flags = 0
  if (workload.status === 'Healthy') flags |= Flag.healthy
  if (workload.addresses.length > 0 || workload.hostname !== '') flags |= Flag.addressable
  if (workload.networkGateway !== undefined) flags |= Flag.gateway
  if (workload.applicationTunnel !== undefined) flags |= Flag.applicationTunnel
  if (workload.protocol === 'HBONE') flags |= Flag.hbone
  if (workload.uid.includes('//Pod/')) flags |= Flag.pod
  return flags
}

function placeOf(workload: Workload, scope: RoutingScope): string {
  switch (scope) {
    case 'Region':
      return workload.locality.region
    case 'Zone':
      return workload.locality.zone
    case 'Subzone':
      return workload.locality.subzone
    case 'Node':
      return workload.node
    case 'Cluster':
      return workload.clusterId
    case 'Network':
      return workload.network
    default:
      return scope satisfies never
  }
}

/** Bit of the header's prefix words, which lie behind one another. */
function prefixBit(cidr: Cidr): number {
  return cidr.length + (cidr.bytes.length === 16 ? (Header.prefixes6 - Header.prefixes4) * 32 : 0)
}

/** The list that a policy is found by; policies for listed workloads only are in none. */
function policyNamespace(policy: Policy): string | undefined {
  switch (policy.scope) {
    case 'Global':
      return ''
    case 'Namespace':
      return policy.namespace
    case 'WorkloadSelector':
      return undefined
    default:
      return policy.scope satisfies never
  }
}
