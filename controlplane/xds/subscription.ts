/**
 * What one client wants of one resource type and what it still has to be told. One response is out at a time;
 * whatever changes until it is acknowledged is merged into the next, so a slow client costs a set of names.
 * Source: xDS protocol, incremental variant; Istio's published conventions for `istio.workload.Address`.
 */
import type { Resource, Snapshot, Table, TableChange } from '../desired/snapshot.ts'

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
  /**
   * Of a waypoint: its address as `Resource.waypoints` has it. Instead of everything it gets what goes
   * through it and where that leads to: services with their workloads, and the workloads that name it.
   */
  readonly scope?: (() => string | undefined) | undefined
  /** What is outside the scope may not be asked for by name either. */
  readonly scopedOnly?: boolean
}

export class Subscription {
  readonly #snapshot: Snapshot
  readonly #table: Table
  readonly #workloadsOnly: boolean
  readonly #node: string
  readonly #scope: (() => string | undefined) | undefined
  readonly #scopedOnly: boolean
  #wildcard = false
  /** Of one that gets all of its scope: which scope that was when all of it was looked through. */
  #scanned: { readonly scope: string | undefined } | undefined
  /** Unless it gets everything: the names asked for, and the resources that it has or is about to have. */
  readonly #asked = new Set<string>()
  readonly #held = new Set<string>()
  #everything = false
  readonly #changed = new Set<string>()
  readonly #removed = new Set<string>()
  /** A request waits for its answer, even for an empty one. */
  #mustAnswer = false
  /** Nonce of the response that is not acknowledged yet. */
  outstanding: string | undefined
  lastAcked = ''
  lastSent = ''
  /** Milliseconds; 0 = nothing was sent. */
  sentAt = 0
  rejected: string | undefined

  constructor(options: SubscriptionOptions, first: DeltaRequest) {
    const { snapshot, table, workloadsOnly, node, scope, scopedOnly = false } = options
    this.#snapshot = snapshot
    this.#table = table
    this.#workloadsOnly = workloadsOnly
    this.#node = node
    this.#scope = scope
    this.#scopedOnly = scopedOnly
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
    if (this.#scanned !== undefined && this.#scanned.scope !== this.#scope?.()) this.#scan()
    for (const name of change.changed) {
      const resource = this.#resource(name)
      if (resource === undefined) continue
      const known = this.#held.has(name)
      // On demand a client goes on hearing of what it has; what left the scope of a waypoint goes.
      if (this.#wildcard || this.#wants(resource) || (known && this.#scope === undefined)) this.#add(resource)
      else if (known) this.#drop(resource)
    }
    if (this.#scope !== undefined) for (const name of change.moved) this.#noteMoved(name)
    for (const name of change.removed) {
      if (!this.#wildcard && !this.#held.has(name)) continue
      this.#changed.delete(name)
      this.#removed.add(name)
      this.#held.delete(name)
    }
  }

  /** Its content is as it was: it is news only for a waypoint that it came to, or left. */
  #noteMoved(name: string): void {
    const resource = this.#resource(name)
    if (resource === undefined) return
    const known = this.#held.has(name)
    if (this.#wants(resource)) {
      if (!known) this.#add(resource)
    } else if (known) this.#drop(resource)
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
    const all = (names.length === 0 || names.includes('*')) && !without.includes('*')
    this.#wildcard = all && this.#scope === undefined
    this.#mustAnswer = true
    if (this.#wildcard) this.#resume(versions)
    else if (all) this.#resumeScope(versions)
    else {
      // What it held before the connection broke it still wants to hear about.
      for (const name of Object.keys(versions)) this.#resumeName(name, versions[name] ?? '')
      this.#subscribe(names.filter(name => name !== '*'))
      for (const name of this.#snapshot.workloadsOnNode(this.#node)) {
        const resource = this.#resource(name)
        if (versions[name] === undefined && resource !== undefined) this.#add(resource)
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

  /** What is in the scope, which may have become another, comes; what is outside goes. */
  #scan(): void {
    this.#scanned = { scope: this.#scope?.() }
    for (const resource of this.#snapshot.table(this.#table).values()) {
      const known = this.#held.has(resource.name)
      if (this.#offers(resource) && this.#wants(resource)) {
        if (!known) this.#add(resource)
      } else if (known) this.#drop(resource)
    }
  }

  #resumeScope(versions: Readonly<Record<string, string>>): void {
    this.#scan()
    for (const name of Object.keys(versions)) {
      if (!this.#held.has(name)) this.#removed.add(name)
      else if (this.#resource(name)?.version === versions[name]) this.#changed.delete(name)
    }
  }

  #resumeName(name: string, version: string): void {
    this.#asked.add(name)
    const resource = this.#resource(name)
    if (resource === undefined || !this.#mayHave(resource)) this.#look(name)
    else {
      this.#held.add(name)
      if (resource.version !== version) this.#changed.add(name)
    }
  }

  #subscribe(names: readonly string[]): void {
    for (const name of names) {
      this.#mustAnswer = true
      if (name === '*') {
        if (this.#scope === undefined) this.#wildcard = this.#everything = true
        else this.#resumeScope({})
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
      this.#held.delete(name)
    }
  }

  /** Everything that a name stands for; a name that stands for nothing is reported as removed. */
  #look(name: string): void {
    const direct = this.#resource(name) === undefined ? [...this.#snapshot.atAddress(name)] : [name]
    const found = direct
      .map(each => this.#resource(each))
      .filter(resource => resource !== undefined)
      .filter(resource => this.#mayHave(resource))
    for (const resource of found) this.#add(resource)
    if (found.length === 0) this.#removed.add(name)
    else this.#removed.delete(name)
  }

  /** A service comes with its workloads: it is of no use without its endpoints. */
  #add(resource: Resource): void {
    const { name, kind } = resource
    const known = this.#held.has(name)
    this.#changed.add(name)
    this.#removed.delete(name)
    if (this.#wildcard) return
    for (const address of resource.addresses) this.#removed.delete(address) // asked for when nobody had it
    this.#held.add(name)
    if (known || kind !== 'service') return
    for (const workload of this.#snapshot.workloadsOfService(name)) {
      const member = this.#resource(workload)
      if (member !== undefined && !this.#held.has(workload)) this.#add(member)
    }
  }

  /** A service goes with those of its workloads that nothing else keeps. */
  #drop({ name, kind }: Resource): void {
    this.#held.delete(name)
    this.#changed.delete(name)
    this.#removed.add(name)
    if (kind !== 'service') return
    for (const workload of this.#snapshot.workloadsOfService(name)) {
      const member = this.#resource(workload)
      if (member !== undefined && this.#held.has(workload) && !this.#wants(member)) this.#drop(member)
    }
  }

  /** Whether there is a reason to send it, other than that it was sent before. */
  #wants(resource: Resource): boolean {
    if (!this.#mayHave(resource)) return false
    if (resource.node !== '' && resource.node === this.#node && this.#scope === undefined) return true
    if (this.#asked.has(resource.name)) return true
    for (const address of resource.addresses) if (this.#asked.has(address)) return true
    for (const service of resource.services) if (this.#held.has(service)) return true
    return this.#inScope(resource)
  }

  #mayHave(resource: Resource): boolean {
    return !this.#scopedOnly || this.#inScope(resource)
  }

  #inScope(resource: Resource): boolean {
    const scope = this.#scope?.()
    return scope !== undefined && resource.waypoints.includes(scope)
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
