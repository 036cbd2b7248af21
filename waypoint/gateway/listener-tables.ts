/** Routes by the listeners that accepted them, and by the hostnames that both have. */
import type { ListenerParent } from '../routes/route.ts'
import { HostTable } from './host-table.ts'

interface AtListeners {
  readonly listeners: readonly ListenerParent[]
}

/** A listener of a Gateway. */
export type ListenerName = Omit<ListenerParent, 'hostnames'>

export class ListenerTables<Route extends AtListeners, Table> {
  readonly #make: (routes: readonly Route[]) => Table
  /** By the kind and name of their object. */
  readonly #routes = new Map<string, Route>()
  readonly #tables = new Map<string, HostTable<Table>>()

  /** `make`: what the routes of one hostname come to. */
  constructor(make: (routes: readonly Route[]) => Table) {
    this.#make = make
  }

  has(key: string): boolean {
    return this.#routes.has(key)
  }

  put(key: string, route: Route): void {
    this.#routes.set(key, route)
    this.#tables.clear()
  }

  remove(key: string): void {
    if (this.#routes.delete(key)) this.#tables.clear()
  }

  all(): Iterable<Route> {
    return this.#routes.values()
  }

  /** Made when it is first asked for. */
  at(listener: ListenerName): HostTable<Table> {
    const name = nameOf(listener)
    let table = this.#tables.get(name)
    if (table === undefined) this.#tables.set(name, (table = this.#tableOf(name)))
    return table
  }

  #tableOf(name: string): HostTable<Table> {
    const byHostname = new Map<string, Route[]>()
    for (const route of this.#routes.values()) {
      const hostnames = route.listeners
        .filter(parent => nameOf(parent) === name)
        .flatMap(own => own.hostnames)
      for (const hostname of new Set(hostnames)) {
        const routes = byHostname.get(hostname)
        if (routes === undefined) byHostname.set(hostname, [route])
        else routes.push(route)
      }
    }
    const table = new HostTable<Table>()
    for (const [hostname, routes] of byHostname) table.set(hostname, this.#make(routes))
    return table
  }
}

function nameOf({ namespace, gateway, listener }: ListenerName): string {
  return `${namespace}/${gateway}/${listener}`
}
