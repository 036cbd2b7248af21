/** All VirtualServices that are known, and what they say of one service and port. */
import { serviceKey, type Service } from '../../shared/mesh/model.ts'
import type { BackendReference, RouteRule } from '../routes/route.ts'
import type { ConnectionRule, HttpMatch, HttpRule, VirtualService } from './virtual-service.ts'
import { VirtualServiceTable } from './virtual-service-table.ts'

type ServiceName = Pick<Service, 'namespace' | 'hostname'>

/** Of ports and clients; beyond it they are made anew. */
const mostTables = 20_000

export class VirtualServiceStore {
  readonly #namespace: string
  /** By the name of their resource. */
  readonly #all = new Map<string, VirtualService>()
  readonly #tables = new Map<string, VirtualServiceTable | undefined>()
  readonly #connectionRules = new Map<string, ConnectionRule | undefined>()

  /** `namespace`: the waypoint's. */
  constructor(namespace: string) {
    this.#namespace = namespace
  }

  has(key: string): boolean {
    return this.#all.has(key)
  }

  put(key: string, virtualService: VirtualService): void {
    this.#all.set(key, virtualService)
    this.#changed()
  }

  remove(key: string): void {
    this.#all.delete(key)
    this.#changed()
  }

  all(): Iterable<VirtualService> {
    return this.#all.values()
  }

  /** For requests of clients in a namespace. Undefined: nothing is said of them, so they go to the service. */
  table(service: ServiceName, port: number, clientNamespace: string): VirtualServiceTable | undefined {
    if (this.#all.size === 0) return undefined
    const key = `${clientNamespace} ${serviceKey(service)} ${port}`
    if (this.#tables.has(key)) return this.#tables.get(key)
    const rules = this.#of(service).flatMap(({ http }) => rulesFor(http, port, clientNamespace))
    return remember(this.#tables, key, rules.length === 0 ? undefined : new VirtualServiceTable(rules))
  }

  /** For connections that are carried as they are. `tls`: they may be TLS. */
  connectionRule(
    service: ServiceName,
    port: number,
    { tls }: { readonly tls: boolean }
  ): ConnectionRule | undefined {
    if (this.#all.size === 0) return undefined
    const key = `${tls} ${serviceKey(service)} ${port}`
    if (this.#connectionRules.has(key)) return this.#connectionRules.get(key)
    const found = this.#of(service)
    const rules = [...(tls ? found.flatMap(each => each.tls) : []), ...found.flatMap(each => each.tcp)]
    const rule = rules.find(({ matches }) =>
      matches.some(match => (match.port ?? port) === port && isFor(match.serverNames, service.hostname))
    )
    const backends = rule?.backends.map(backend => atPort(backend, port)) ?? []
    return remember(this.#connectionRules, key, rule && { ...rule, backends })
  }

  #changed(): void {
    this.#tables.clear()
    this.#connectionRules.clear()
  }

  /** The oldest first. */
  #of({ namespace, hostname }: ServiceName): readonly VirtualService[] {
    return [...this.#all.values()]
      .filter(each => each.namespace === namespace || each.namespace === this.#namespace)
      .filter(({ hosts }) => hosts.some(host => covers(host, hostname)))
      .toSorted(byAge)
  }
}

function remember<T>(made: Map<string, T>, key: string, value: T): T {
  if (made.size >= mostTables) made.clear()
  made.set(key, value)
  return value
}

function covers(host: string, hostname: string): boolean {
  return host === hostname || (host.startsWith('*') && hostname.endsWith(host.slice(1)))
}

function byAge(a: VirtualService, b: VirtualService): number {
  return a.createdMs - b.createdMs || (nameOf(a) < nameOf(b) ? -1 : 1)
}

function nameOf({ namespace, name }: VirtualService): string {
  return `${namespace}/${name}`
}

/** Names cannot be told apart here: one for other hosts, too, would let these in. */
function isFor(serverNames: readonly string[] | undefined, hostname: string): boolean {
  return serverNames === undefined || (serverNames.length === 1 && serverNames[0] === hostname)
}

/** A rule of which no match can hold is left out. */
function rulesFor(rules: readonly HttpRule[], port: number, clientNamespace: string): readonly HttpRule[] {
  return rules.flatMap(({ matches, rule }) => {
    const possible = matches.filter(match => mayHold(match, port, clientNamespace))
    return possible.length === 0 ? [] : [{ matches: possible, rule: ruleAt(rule, port) }]
  })
}

function mayHold(
  { port: wanted, sourceNamespace }: HttpMatch,
  port: number,
  clientNamespace: string
): boolean {
  return (wanted ?? port) === port && (sourceNamespace ?? clientNamespace) === clientNamespace
}

function ruleAt(rule: RouteRule, port: number): RouteRule {
  const { backends, filters } = rule
  const mirrors = filters.mirrors.map(mirror => ({ ...mirror, backend: atPort(mirror.backend, port) }))
  return {
    ...rule,
    backends: backends.map(backend => atPort(backend, port)),
    filters: { ...filters, mirrors }
  }
}

/** Where no port is named it is the one that the client asked for. */
function atPort<T extends BackendReference>(backend: T, port: number): T {
  return backend.kind === 'service' && backend.port === 0 ? { ...backend, port } : backend
}
