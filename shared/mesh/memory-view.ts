/** The mesh view over shared memory: looks keys up and ranks those who claim them. */
import { cidrContains, cidrFromBytes, formatCidr, ipToBytes, type Ip } from '../net/address.ts'
import { EndpointRows } from './endpoint-rows.ts'
import { Header, keys, Kind, ROW_WORDS, Slot, type MeshMemory } from './memory.ts'
import type { MeshRecords } from './memory-records.ts'
import {
  policyKey,
  serviceKey,
  type Endpoint,
  type Policy,
  type PolicyKey,
  type Service,
  type ServiceKey,
  type Workload,
  type WorkloadUid
} from './model.ts'
import type { EndpointTable, MeshView } from './view.ts'

interface PolicyList {
  readonly version: number
  readonly policies: readonly Policy[]
}

export class MemoryView implements MeshView {
  readonly #memory: MeshMemory
  readonly #records: MeshRecords
  readonly #policyLists = new WeakMap<Workload, PolicyList>()

  constructor(records: MeshRecords) {
    this.#memory = records.memory
    this.#records = records
  }

  workloadByUid(uid: WorkloadUid): Workload | undefined {
    const slot = this.workloadSlot(uid)
    return slot === undefined ? undefined : this.#records.workload(slot)
  }

  workloadByAddress(network: string, ip: Ip): Workload | undefined {
    return this.#bestWorkload(
      keys.address(network, ip),
      workload => workload.network === network && workload.addresses.includes(ip)
    )
  }

  workloadByName(namespace: string, name: string, serviceAccount: string): Workload | undefined {
    return this.#bestWorkload(
      keys.pod(namespace, name, serviceAccount),
      workload =>
        workload.name === name &&
        workload.namespace === namespace &&
        workload.serviceAccount === serviceAccount
    )
  }

  workloadByHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#bestWorkload(
      keys.workloadHostname(namespace, hostname),
      workload => workload.hostname === hostname && workload.namespace === namespace
    )
  }

  service(key: ServiceKey): Service | undefined {
    const slot = this.#find(
      keys.service(key),
      Kind.service,
      slot => serviceKey(this.#records.service(slot)) === key
    )
    return slot === undefined ? undefined : this.#records.service(slot)
  }

  serviceByAddress(network: string, ip: Ip, clientNamespace: string): Service | undefined {
    const claims = (service: Service): boolean =>
      service.vips.some(vip => vip.ip === ip && vip.network === network)
    return (
      this.#bestService(keys.vip(network, ip), claims, byOwner(clientNamespace)) ??
      this.#serviceByBlock(network, ip, clientNamespace)
    )
  }

  serviceByHostname(
    hostname: string,
    clientNamespace: string,
    preferredNamespace?: string
  ): Service | undefined {
    return this.#bestService(
      keys.hostname(hostname),
      service => service.hostname === hostname,
      byOwner(clientNamespace, preferredNamespace)
    )
  }

  endpoints(key: ServiceKey): readonly Endpoint[] {
    const service = this.service(key)
    const list = this.#listSlot(Kind.endpoints, keys.endpoints(key), key)
    if (service === undefined || list === undefined) return []
    const all = new EndpointRows(this.#records, this, list).decode()
    return service.loadBalancer?.healthPolicy === 'AllowAll'
      ? all
      : all.filter(({ status }) => status === 'Healthy')
  }

  endpointTable(key: ServiceKey): EndpointTable {
    return new EndpointRows(this.#records, this, this.#listSlot(Kind.endpoints, keys.endpoints(key), key))
  }

  hasEndpoint(key: ServiceKey, uid: WorkloadUid): boolean {
    return this.workloadByUid(uid)?.services.has(key) === true && this.service(key) !== undefined
  }

  policy(key: PolicyKey): Policy | undefined {
    const slot = this.#find(
      keys.policy(key),
      Kind.policy,
      slot => policyKey(this.#records.policy(slot)) === key
    )
    return slot === undefined ? undefined : this.#records.policy(slot)
  }

  policiesOf(destination: Workload): readonly Policy[] {
    const version = this.#memory.header[Header.policyVersion] ?? 0
    const held = this.#policyLists.get(destination)
    if (held?.version === version) return held.policies
    const found = new Set<Policy>([...this.#policiesIn(''), ...this.#policiesIn(destination.namespace)])
    for (const key of destination.authorizationPolicies) {
      const policy = this.policy(key)
      if (policy !== undefined) found.add(policy)
    }
    const policies = [...found]
    this.#policyLists.set(destination, { version, policies })
    this.#records.onUnsettled(() => this.#policyLists.delete(destination))
    return policies
  }

  *workloads(): Iterable<Workload> {
    for (const slot of this.#records.all(Kind.workload)) yield this.#records.decodeWorkload(slot)
  }

  *services(): Iterable<Service> {
    for (const slot of this.#records.all(Kind.service)) yield this.#records.decodeService(slot)
  }

  *policies(): Iterable<Policy> {
    for (const slot of this.#records.all(Kind.policy)) yield this.#records.policy(slot)
  }

  *stagedEndpoints(): Iterable<readonly [ServiceKey, readonly Endpoint[]]> {
    for (const slot of this.#records.all(Kind.endpoints)) {
      const key = this.#records.listKey(slot)
      if (this.service(key) === undefined) yield [key, new EndpointRows(this.#records, this, slot).decode()]
    }
  }

  workloadSlot(uid: WorkloadUid): number | undefined {
    return this.#find(keys.workload(uid), Kind.workload, slot => this.#records.workload(slot).uid === uid)
  }

  #find(key: string, kind: number, accept: (slot: number) => boolean): number | undefined {
    return this.#memory.find(this.#memory.hash(key), slot => this.#records.is(slot, kind) && accept(slot))
  }

  /** Of several that claim a key: the highest rank, then the newest. */
  #bestWorkload(key: string, claims: (workload: Workload) => boolean): Workload | undefined {
    let best: number | undefined
    this.#find(key, Kind.workload, slot => {
      if (!claims(this.#records.workload(slot))) return false
      if (best === undefined || this.#precedes(slot, best)) best = slot
      return false
    })
    return best === undefined ? undefined : this.#records.workload(best)
  }

  #precedes(slot: number, other: number): boolean {
    const difference = this.#records.workloadRank(slot) - this.#records.workloadRank(other)
    if (difference !== 0) return difference > 0
    return this.#memory.word(slot, Slot.born) > this.#memory.word(other, Slot.born)
  }

  /** Of several that claim a key: the highest rank (below 0: not visible), then the oldest. */
  #bestService(
    key: string,
    claims: (service: Service) => boolean,
    rank: (service: Service) => number
  ): Service | undefined {
    let best: { slot: number; rank: number } | undefined
    this.#find(key, Kind.service, slot => {
      const service = this.#records.service(slot)
      const found = claims(service) ? { slot, rank: rank(service) } : undefined
      if (found === undefined || found.rank < 0) return false
      if (
        best === undefined ||
        found.rank > best.rank ||
        (found.rank === best.rank && this.#older(slot, best.slot))
      ) {
        best = found
      }
      return false
    })
    return best === undefined ? undefined : this.#records.service(best.slot)
  }

  #older(slot: number, other: number): boolean {
    return this.#memory.word(slot, Slot.born) < this.#memory.word(other, Slot.born)
  }

  /** By blocks: the client's own namespace, then the longest prefix, then canonical, then the oldest. */
  #serviceByBlock(network: string, ip: Ip, clientNamespace: string): Service | undefined {
    const bytes = ipToBytes(ip)
    const first = bytes.length === 4 ? Header.prefixes4 : Header.prefixes6
    let best: Service | undefined
    for (let length = bytes.length * 8; length >= 0; length -= 1) {
      if (((this.#memory.header[first + (length >> 5)] ?? 0) & (1 << (length & 31))) === 0) continue
      const block = cidrFromBytes(bytes, length)
      if (block === undefined) continue
      const found = this.#bestService(
        keys.cidrVip(network, formatCidr(block)),
        service =>
          service.cidrVips.some(
            ({ network: own, cidr }) => own === network && cidr.length === length && cidrContains(cidr, ip)
          ),
        byOwner(clientNamespace)
      )
      if (found?.namespace === clientNamespace) return found
      best ??= found
    }
    return best
  }

  *#policiesIn(namespace: string): Iterable<Policy> {
    const list = this.#listSlot(Kind.policies, keys.policies(namespace), namespace)
    if (list === undefined) return
    const at = this.#memory.word(list, Slot.at)
    const rows = this.#memory.word(list, Slot.length)
    for (let row = 0; row < rows; row += 1) {
      yield this.#records.policy(this.#memory.heap[at + row * ROW_WORDS] ?? 0)
    }
  }

  #listSlot(kind: number, hashedKey: string, key: string): number | undefined {
    return this.#find(hashedKey, kind, slot => this.#records.listKey(slot) === key)
  }
}

/** Own namespace, then a Kubernetes Service, then the preferred namespace; -1 when the client may not see it. */
function byOwner(clientNamespace: string, preferredNamespace?: string): (service: Service) => number {
  return service => {
    if (service.namespace === clientNamespace) return 4 + (service.canonical ? 2 : 0)
    if (service.visibility === 'Namespace') return -1
    return (service.canonical ? 2 : 0) + (service.namespace === preferredNamespace ? 1 : 0)
  }
}
