/**
 * What clients are to know: every resource encoded once, with its version, and the names by which clients
 * may ask for it. The version is a hash of the content, so a restart of the control plane changes nothing.
 */
import { hash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { ipFromBytes } from '../../shared/net/address.ts'
import { configResourceType, encodeConfigResource } from '../../shared/xds/config-resource.ts'
import { message, type Message } from '../../shared/xds/schema.ts'
import { configKinds, type ConfigKind } from '../cluster/objects.ts'
import type {
  AuthorizationMessage,
  ConfigMessage,
  Recipient,
  ServiceMessage,
  WorkloadMessage
} from '../translate/messages.ts'

export const addressType = 'type.googleapis.com/istio.workload.Address'
export const workloadType = 'type.googleapis.com/istio.workload.Workload'
export const authorizationType = 'type.googleapis.com/istio.security.Authorization'

/** What ztunnels read; `Workload` is a view of `Address`. */
export type MeshTable = 'address' | 'authorization'
/** Beside it a table for each kind of configuration, which waypoints alone are sent. */
export type Table = MeshTable | ConfigKind

export const tables: readonly Table[] = ['authorization', 'address', ...configKinds]

/** A resource as translation makes it. */
export type Translated =
  | { readonly kind: 'workload'; readonly message: WorkloadMessage }
  | {
      readonly kind: 'service'
      readonly message: ServiceMessage
      /** Waypoints that need it although it is not theirs, and gateways. */
      readonly routed?: readonly Recipient[]
    }
  | { readonly kind: 'authorization'; readonly message: AuthorizationMessage }
  | ConfigMessage

export interface Resource {
  readonly name: string
  readonly kind: Translated['kind']
  readonly version: string
  /** A whole `envoy.service.discovery.v3.Resource`, shared by all clients. */
  readonly wire: Buffer
  /** The message itself: the end of `wire`. */
  readonly value: Buffer
  /** Further names that it answers to: `network/ip`. */
  readonly addresses: readonly string[]
  /** Of a workload: names of its services, and its node. */
  readonly services: readonly string[]
  readonly node: string
  /** Waypoints and gateways that have to know it, most as its traffic goes through them: by {@link recipientName}. */
  readonly waypoints: readonly string[]
}

export interface TableChange {
  /** Names of resources that are new or have another content. */
  readonly changed: ReadonlySet<string>
  readonly removed: ReadonlySet<string>
  /** Of those whose content is the same, but which other waypoints have to know now. */
  readonly moved: ReadonlySet<string>
}

export type Changes = Readonly<Record<Table, TableChange>>

const addressMessage: Message<object> = message('istio.workload.Address')
const authorizationMessage: Message<object> = message('istio.security.Authorization')
const discoveryResource: Message<object> = message('envoy.service.discovery.v3.Resource')

export class Snapshot {
  readonly #tables = byTable(() => new Map<string, Resource>())
  /** Names that each unit made, for replacing them. */
  readonly #byUnit = new Map<string, readonly { readonly table: Table; readonly name: string }[]>()
  readonly #byAddress = new NameSets()
  readonly #byService = new NameSets()
  readonly #byNode = new NameSets()

  table(table: Table): ReadonlyMap<string, Resource> {
    return this.#tables[table]
  }

  /** Names of the resources at `network/ip`: workloads and services. */
  atAddress(address: string): ReadonlySet<string> {
    return this.#byAddress.of(address)
  }

  workloadsOfService(service: string): ReadonlySet<string> {
    return this.#byService.of(service)
  }

  workloadsOnNode(node: string): ReadonlySet<string> {
    return this.#byNode.of(node)
  }

  /** Replaces all that the given units made; returns what is really different now. */
  replace(units: ReadonlyMap<string, readonly Translated[]>): Changes {
    const before = byTable(() => new Map<string, Resource>())
    // All old ones go first, so that a name may move from one unit to another.
    for (const unit of units.keys()) {
      for (const { table, name } of this.#byUnit.get(unit) ?? []) this.#remove(table, name, before)
      this.#byUnit.delete(unit)
    }
    const changes = byTable(newChange)
    for (const [unit, translated] of units) {
      if (translated.length === 0) continue
      this.#byUnit.set(
        unit,
        translated.map(each => this.#put(each, before, changes))
      )
    }
    for (const table of tables) {
      for (const name of before[table].keys()) changes[table].removed.add(name)
    }
    return changes
  }

  #remove(table: Table, name: string, before: Record<Table, Map<string, Resource>>): void {
    const resource = this.#tables[table].get(name)
    if (resource === undefined) return
    this.#tables[table].delete(name)
    this.#unindex(resource)
    before[table].set(name, resource)
  }

  #put(
    translated: Translated,
    before: Record<Table, Map<string, Resource>>,
    changes: Record<Table, ReturnType<typeof newChange>>
  ): { readonly table: Table; readonly name: string } {
    const table = tableOf(translated.kind)
    const fresh = encode(translated)
    const { name } = fresh
    const old = before[table].get(name) ?? this.#tables[table].get(name)
    before[table].delete(name)
    // The old object is kept when nothing changed, so that memory does not move.
    const same = old?.version === fresh.version
    const moved = same && !isDeepStrictEqual(old.waypoints, fresh.waypoints)
    const resource = same && !moved ? old : fresh
    if (!same) changes[table].changed.add(name)
    else if (moved) changes[table].moved.add(name)
    const replaced = this.#tables[table].get(name)
    if (replaced !== undefined) this.#unindex(replaced)
    this.#tables[table].set(name, resource)
    this.#index(resource)
    return { table, name }
  }

  #index(resource: Resource): void {
    for (const address of resource.addresses) this.#byAddress.add(address, resource.name)
    for (const service of resource.services) this.#byService.add(service, resource.name)
    if (resource.node !== '') this.#byNode.add(resource.node, resource.name)
  }

  #unindex(resource: Resource): void {
    for (const address of resource.addresses) this.#byAddress.remove(address, resource.name)
    for (const service of resource.services) this.#byService.remove(service, resource.name)
    if (resource.node !== '') this.#byNode.remove(resource.node, resource.name)
  }
}

function byTable<T>(make: () => T): Record<Table, T> {
  return Object.fromEntries(tables.map(table => [table, make()])) as Record<Table, T>
}

function tableOf(kind: Translated['kind']): Table {
  return kind === 'workload' || kind === 'service' ? 'address' : kind
}

function newChange(): { changed: Set<string>; removed: Set<string>; moved: Set<string> } {
  return { changed: new Set(), removed: new Set(), moved: new Set() }
}

const none: readonly string[] = Object.freeze([])

function encode(translated: Translated): Resource {
  switch (translated.kind) {
    case 'workload': {
      const { message } = translated
      const value = addressMessage.encode({ workload: message })
      // An address that several share, such as a node's, does not say who is meant.
      const addresses =
        message.networkMode === 'HOST_NETWORK' ? none : addressNames(message.network, message.addresses ?? [])
      const services = Object.keys(message.services ?? {})
      const node = message.node ?? ''
      const waypoints = message.waypoint === undefined ? none : [recipientName(message.waypoint)]
      return resource(translated.kind, message.uid, addressType, value, {
        addresses,
        services,
        node,
        waypoints
      })
    }
    case 'service': {
      const { message } = translated
      const value = addressMessage.encode({ service: message })
      const addresses = (message.addresses ?? [])
        .filter(({ length }) => length === undefined)
        .flatMap(({ network, address }) => addressNames(network, [address]))
      const name = `${message.namespace}/${message.hostname}`
      const split = (message.weightedWaypoints ?? []).map(({ destination }) => destination)
      const through = message.waypoint === undefined ? split : [message.waypoint, ...split]
      const waypoints = recipientNames([...through, ...(translated.routed ?? [])])
      return resource(translated.kind, name, addressType, value, {
        addresses,
        services: none,
        node: '',
        waypoints
      })
    }
    case 'authorization': {
      const { message } = translated
      const value = authorizationMessage.encode(message)
      const name = `${message.namespace}/${message.name}`
      const names = { addresses: none, services: none, node: '', waypoints: none }
      return resource(translated.kind, name, authorizationType, value, names)
    }
    default: {
      const { message } = translated
      const names = {
        addresses: none,
        services: none,
        node: '',
        waypoints: recipientNames(translated.waypoints)
      }
      const name = `${message.namespace}/${message.name}`
      return resource(translated.kind, name, configResourceType, encodeConfigResource(message), names)
    }
  }
}

/** Each once, sorted. */
function recipientNames(recipients: readonly Recipient[]): readonly string[] {
  return recipients.length === 0 ? none : [...new Set(recipients.map(recipientName))].toSorted()
}

/** As one text: `namespace/hostname` or `network/ip` of a waypoint, `Gateway namespace/name` of a gateway. */
export function recipientName(recipient: Recipient): string {
  if ('gateway' in recipient) return `Gateway ${recipient.gateway}`
  const { hostname, address } = recipient
  if (hostname !== undefined) return `${hostname.namespace}/${hostname.hostname}`
  return address === undefined ? '' : (addressNames(address.network, [address.address])[0] ?? '')
}

function addressNames(network: string | undefined, addresses: readonly Uint8Array[]): readonly string[] {
  return addresses.map(bytes => `${network ?? ''}/${ipFromBytes(bytes)}`)
}

function resource(
  kind: Translated['kind'],
  name: string,
  typeUrl: string,
  value: Buffer,
  names: Pick<Resource, 'addresses' | 'services' | 'node' | 'waypoints'>
): Resource {
  const version = hash('sha256', value, 'base64url').slice(0, 16)
  const head = discoveryResource.encode({ name, version })
  const any = concat([lengthDelimited(1, Buffer.from(typeUrl)), lengthDelimited(2, value)])
  const wire = concat([head, lengthDelimited(2, any)])
  return { name, kind, version, wire, value: wire.subarray(wire.length - value.length), ...names }
}

/** One field of a message: tag, length and content (protobuf wire type 2). */
export function lengthDelimited(field: number, content: Buffer): Buffer {
  const head: number[] = [(field << 3) | 2]
  let rest = content.length
  for (; rest > 0x7f; rest >>>= 7) head.push((rest & 0x7f) | 0x80)
  head.push(rest)
  return concat([Buffer.from(head), content])
}

/** In memory of its own: a slice of Node's shared pool would keep the whole pool alive. */
function concat(parts: readonly Buffer[]): Buffer {
  const whole = Buffer.allocUnsafeSlow(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) at += part.copy(whole, at)
  return whole
}

/** Sets of resource names by some other name. */
class NameSets {
  readonly #sets = new Map<string, Set<string>>()

  of(key: string): ReadonlySet<string> {
    return this.#sets.get(key) ?? noNames
  }

  add(key: string, name: string): void {
    const set = this.#sets.get(key)
    if (set === undefined) this.#sets.set(key, new Set([name]))
    else set.add(name)
  }

  remove(key: string, name: string): void {
    const set = this.#sets.get(key)
    set?.delete(name)
    if (set?.size === 0) this.#sets.delete(key)
  }
}

const noNames: ReadonlySet<string> = new Set()
