/**
 * What one client wants of one resource type and what it still has to be told. One response is out at a time;
 * whatever changes until it is acknowledged is merged into the next, so a slow client costs a set of names.
 * Source: xDS protocol, incremental variant; Istio's published conventions for `istio.workload.Address`.
 */
import type { Resource, Snapshot, Table, TableChange } from './snapshot.ts'

export interface DeltaRequest {
  readonly typeUrl?: string
  readonly node?: { readonly id?: string; readonly metadata?: unknown }
  readonly resourceNamesSubscribe: readonly string[]
  readonly resourceNamesUnsubscribe: readonly string[]
  readonly initialResourceVersions: Readonly<Record<string, string>>
  readonly responseNonce?: string
  readonly errorDetail?: { readonly code?: number; readonly message?: string }
}

/** What one response is made of. */
export interface Batch {
  /** The whole table, for a client that knows nothing; then `resources` and `removed` are empty. */
  readonly everything: boolean
  readonly resources: readonly { readonly resource: Resource; readonly aliases: readonly string[] }[]
  readonly removed: readonly string[]
}

export interface SubscriptionOptions {
  readonly snapshot: Snapshot
  readonly table: Table
  /** Clients of `istio.workload.Workload` get workloads only. */
  readonly workloadsOnly: boolean
  /** Node whose workloads an on-demand client gets unasked; '' = none. */
  readonly node: string
}

export class Subscription {
  readonly #snapshot: Snapshot
  readonly #table: Table
  readonly #workloadsOnly: boolean
  readonly #node: string
  #wildcard = false
  /** On demand only: the names asked for, and the resources that were sent for them. */
  readonly #asked = new Set<string>()
  readonly #sent = new Set<string>()
  #everything = false
  readonly #changed = new Set<string>()
  readonly #removed = new Set<string>()
  /** A request waits for its answer, even for an empty one. */
  #mustAnswer = false
  /** Nonce of the response that is not acknowledged yet. */
  outstanding: string | undefined
  lastAcked = ''
  lastSent = ''
  rejected: string | undefined

  constructor({ snapshot, table, workloadsOnly, node }: SubscriptionOptions, first: DeltaRequest) {
    this.#snapshot = snapshot
    this.#table = table
    this.#workloadsOnly = workloadsOnly
    this.#node = node
    this.#start(first)
  }

  get wildcard(): boolean {
    return this.#wildcard
  }

  /** Names that an on-demand client asked for. */
  get asked(): ReadonlySet<string> {
    return this.#asked
  }

  /** Whether resources wait to be sent. */
  get hasChanges(): boolean {
    return this.#everything || this.#changed.size > 0
  }

  get hasRemovals(): boolean {
    return this.#removed.size > 0
  }

  get free(): boolean {
    return this.outstanding === undefined
  }

  /** A further request on this type. Returns what it acknowledges, if anything. */
  request(request: DeltaRequest): 'ack' | 'nack' | 'none' {
    const subscribes = request.resourceNamesSubscribe.length > 0
    if (subscribes || request.resourceNamesUnsubscribe.length > 0) {
      this.#unsubscribe(request.resourceNamesUnsubscribe)
      this.#subscribe(request.resourceNamesSubscribe)
    }
    const nonce = request.responseNonce ?? ''
    // A stale nonce answers a response that a later one made void; only its subscriptions count.
    if (nonce === '' || nonce !== this.outstanding) return 'none'
    this.outstanding = undefined
    if (request.errorDetail === undefined) {
      this.lastAcked = nonce
      this.rejected = undefined
      return 'ack'
    }
    this.rejected = request.errorDetail.message ?? ''
    return 'nack'
  }

  /** Notes what a change of the snapshot means for this client. */
  note(change: TableChange): void {
    if (this.#everything) return
    for (const name of change.changed) {
      const resource = this.#resource(name)
      if (resource === undefined || !this.#concerns(resource)) continue
      this.#changed.add(name)
      this.#removed.delete(name)
    }
    for (const name of change.removed) {
      if (!this.#wildcard && !this.#sent.has(name)) continue
      this.#changed.delete(name)
      this.#removed.add(name)
      this.#sent.delete(name)
    }
  }

  /** Takes what is to be sent now; undefined when there is nothing to say. */
  take(parts: 'changes' | 'all'): Batch | undefined {
    const removals = parts === 'all'
    if (!this.#mustAnswer && !this.hasChanges && !(removals && this.hasRemovals)) return undefined
    this.#mustAnswer = false
    const everything = this.#everything
    this.#everything = false
    const resources: { resource: Resource; aliases: readonly string[] }[] = []
    for (const name of this.#changed) {
      const resource = this.#resource(name)
      if (resource === undefined) continue
      if (!this.#wildcard) this.#sent.add(name)
      resources.push({ resource, aliases: this.#aliases(resource) })
    }
    this.#changed.clear()
    const removed = removals ? [...this.#removed] : []
    if (removals) this.#removed.clear()
    return { everything, resources, removed }
  }

  #start(first: DeltaRequest): void {
    const { resourceNamesSubscribe: names, resourceNamesUnsubscribe: without } = first
    const versions = first.initialResourceVersions
    this.#wildcard = (names.length === 0 || names.includes('*')) && !without.includes('*')
    this.#mustAnswer = true
    if (this.#wildcard) this.#resume(versions)
    else {
      // What it held before the connection broke it still wants to hear about.
      for (const name of Object.keys(versions)) this.#resumeName(name, versions[name] ?? '')
      this.#subscribe(names.filter(name => name !== '*'))
      for (const name of this.#snapshot.workloadsOnNode(this.#node)) {
        if (versions[name] === undefined) this.#changed.add(name)
      }
    }
  }

  #resume(versions: Readonly<Record<string, string>>): void {
    const table = this.#snapshot.table(this.#table)
    const known = Object.keys(versions)
    if (known.length === 0) {
      this.#everything = true
      return
    }
    for (const resource of table.values()) {
      if (versions[resource.name] !== resource.version && this.#offers(resource))
        this.#changed.add(resource.name)
    }
    for (const name of known) if (this.#resource(name) === undefined) this.#removed.add(name)
  }

  #resumeName(name: string, version: string): void {
    this.#asked.add(name)
    const resource = this.#resource(name)
    if (resource === undefined) this.#look(name)
    else {
      this.#sent.add(name)
      if (resource.version !== version) this.#changed.add(name)
    }
  }

  #subscribe(names: readonly string[]): void {
    for (const name of names) {
      this.#mustAnswer = true
      if (name === '*') {
        this.#wildcard = true
        this.#everything = true
        continue
      }
      this.#asked.add(name)
      this.#look(name)
    }
  }

  #unsubscribe(names: readonly string[]): void {
    for (const name of names) {
      if (name === '*') {
        this.#wildcard = false
        this.#everything = false
      }
      this.#asked.delete(name)
      this.#sent.delete(name)
    }
  }

  /** Everything that a name stands for; a name that stands for nothing is reported as removed. */
  #look(name: string): void {
    const found = this.#implied(name)
    for (const each of found) this.#changed.add(each)
    if (found.length === 0) this.#removed.add(name)
    else this.#removed.delete(name)
  }

  #implied(name: string): readonly string[] {
    const direct = this.#resource(name) === undefined ? [...this.#snapshot.atAddress(name)] : [name]
    const found = new Set<string>()
    for (const each of direct) {
      const resource = this.#resource(each)
      if (resource === undefined) continue
      found.add(each)
      // A service is of no use without its endpoints.
      if (resource.kind === 'service') {
        for (const workload of this.#snapshot.workloadsOfService(each)) found.add(workload)
      }
    }
    return [...found]
  }

  #concerns(resource: Resource): boolean {
    if (!this.#offers(resource)) return false
    if (this.#wildcard || this.#sent.has(resource.name)) return true
    if (resource.node !== '' && resource.node === this.#node) return true
    if (this.#asked.has(resource.name)) return true
    for (const address of resource.addresses) if (this.#asked.has(address)) return true
    // Asked for by name or address, a service brings its workloads along.
    for (const service of resource.services)
      if (this.#asked.has(service) || this.#sent.has(service)) return true
    return false
  }

  #offers(resource: Resource): boolean {
    return !this.#workloadsOnly || resource.kind === 'workload'
  }

  #resource(name: string): Resource | undefined {
    const resource = this.#snapshot.table(this.#table).get(name)
    return resource !== undefined && this.#offers(resource) ? resource : undefined
  }

  /** The names by which this client asked for the resource. */
  #aliases(resource: Resource): readonly string[] {
    return this.#wildcard ? [] : resource.addresses.filter(address => this.#asked.has(address))
  }
}
