/** All routes that are known, and the table for one service and port, made when it is first asked for. */
import { serviceKey, type ServiceKey } from '../../shared/mesh/model.ts'
import type { HostTable } from '../gateway/host-table.ts'
import { ListenerTables, type ListenerName } from '../gateway/listener-tables.ts'
import type { Route } from './route.ts'
import { RouteTable } from './route-table.ts'

export class RouteStore {
  /** By the kind and name of their object. */
  readonly #routes = new Map<string, Route>()
  readonly #byService = new Map<ServiceKey, Set<Route>>()
  readonly #tables = new Map<string, RouteTable | undefined>()
  readonly #atListeners = new ListenerTables((routes: readonly Route[]) => new RouteTable(routes))
  #version = 0

  /** Changes whenever a table that was given may not be the right one any more. */
  get version(): number {
    return this.#version
  }

  has(key: string): boolean {
    return this.#routes.has(key)
  }

  put(key: string, route: Route): void {
    this.remove(key)
    this.#routes.set(key, route)
    for (const parent of route.parents) {
      const service = serviceKey(parent)
      const routes = this.#byService.get(service)
      if (routes === undefined) this.#byService.set(service, new Set([route]))
      else routes.add(route)
    }
    this.#atListeners.put(key, route)
    this.#changed()
  }

  remove(key: string): void {
    const route = this.#routes.get(key)
    if (route === undefined) return
    this.#routes.delete(key)
    for (const parent of route.parents) {
      const service = serviceKey(parent)
      const routes = this.#byService.get(service)
      routes?.delete(route)
      if (routes?.size === 0) this.#byService.delete(service)
    }
    this.#atListeners.remove(key)
    this.#changed()
  }

  all(): Iterable<Route> {
    return this.#routes.values()
  }

  /**
   * For requests to a service's port from clients of a namespace; undefined where there is no route. Routes of the
   * service's own namespace are for everybody. Those of the client's are for it alone, and take their place.
   * Source: Gateway API, GAMMA (producer and consumer routes).
   */
  table(
    service: { readonly namespace: string; readonly hostname: string },
    port: number,
    clientNamespace: string
  ): RouteTable | undefined {
    const key = `${clientNamespace} ${serviceKey(service)} ${port}`
    if (this.#tables.has(key)) return this.#tables.get(key)
    const routes = [...(this.#byService.get(serviceKey(service)) ?? [])].filter(({ parents }) =>
      parents.some(
        parent =>
          serviceKey(parent) === serviceKey(service) && (parent.port === undefined || parent.port === port)
      )
    )
    const own = routes.filter(({ namespace }) => namespace === clientNamespace)
    const chosen = own.length > 0 ? own : routes.filter(({ namespace }) => namespace === service.namespace)
    const table = chosen.length === 0 ? undefined : new RouteTable(chosen)
    this.#tables.set(key, table)
    return table
  }

  /** For requests to a listener of a Gateway, by their host. */
  tablesAt(listener: ListenerName): HostTable<RouteTable> {
    return this.#atListeners.at(listener)
  }

  #changed(): void {
    this.#version += 1
    this.#tables.clear()
  }
}
