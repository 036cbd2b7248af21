/** Endpoints with places, and requests with a chance that is the same in every run. */
import type { Locality } from '../../../shared/mesh/model.ts'
import { noLabels } from '../../../shared/mesh/model.ts'
import type { Balancer, Request } from '../../../waypoint/balancing/balancer.ts'
import type { Endpoint, Place } from '../../../waypoint/balancing/endpoint.ts'
import type {
  Balancing,
  LocalityPolicy,
  OutlierPolicy,
  TrafficPolicy
} from '../../../waypoint/traffic-policy.ts'
import { workload } from '../../support/mesh.ts'

/** `region/zone/subzone`. */
export function locality(text: string): Locality {
  const [region = '', zone = '', subzone = ''] = text.split('/')
  return { region, zone, subzone }
}

interface Parts {
  readonly weight?: number
  readonly at?: string
  readonly network?: string
  readonly node?: string
  readonly labels?: Readonly<Record<string, string>>
}

export function endpoint(
  name: string,
  { weight = 1, at = '', network = '', node = '', labels = {} }: Parts = {}
): Endpoint {
  return {
    workload: workload({ name, locality: locality(at), network, node }),
    port: 8080,
    weight,
    labels: new Map(Object.entries(labels))
  }
}

/** `count` of them, `weightOf` by number. */
export function endpoints(count: number, weightOf: (index: number) => number = () => 1): Endpoint[] {
  return Array.from({ length: count }, (_, index) => endpoint(`pod-${index}`, { weight: weightOf(index) }))
}

export function place(at: string, parts: Partial<Place> = {}): Place {
  return {
    locality: locality(at),
    network: '',
    node: '',
    clusterId: 'Kubernetes',
    labels: noLabels,
    ...parts
  }
}

export const outliers: OutlierPolicy = {
  consecutive5xx: 5,
  consecutiveGatewayErrors: 0,
  consecutiveLocalFailures: undefined,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionPercent: 10,
  minHealthPercent: 0
}

export function policyOf(
  balancing: Balancing,
  locality?: LocalityPolicy,
  found?: OutlierPolicy
): Pick<TrafficPolicy, 'balancing' | 'locality' | 'outliers'> {
  return { balancing, locality, outliers: found }
}

export const random: Balancing = { kind: 'random' }
export const leastRequest: Balancing = { kind: 'least-request', warmup: undefined }
export const roundRobin: Balancing = { kind: 'round-robin', warmup: undefined }

/** Numbers from 0 up to 1, of full period; mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let value = Math.imul(state ^ (state >>> 15), state | 1)
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61)
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }
}

export function request(parts: Partial<Request> = {}): Request {
  return {
    random: seeded(1),
    now: 0,
    active: () => 0,
    usable: () => true,
    tried: new Set(),
    hash: undefined,
    ...parts
  }
}

/** All but these can be used. */
export function without(...names: readonly string[]): Request['usable'] {
  return ({ workload: { name } }) => !names.includes(name)
}

export function nameOf(chosen: Endpoint | undefined): string {
  return chosen?.workload.name ?? 'nobody'
}

/** How often each was chosen in that many requests. */
export function counts(balancer: Balancer, times: number, parts: Partial<Request> = {}): Map<string, number> {
  const asked = request(parts)
  const found = new Map<string, number>()
  for (let time = 0; time < times; time += 1) {
    const name = nameOf(balancer.choose(asked))
    found.set(name, (found.get(name) ?? 0) + 1)
  }
  return found
}

/** Names with their part of all, in percent without fractions. */
export function percents(found: ReadonlyMap<string, number>): Record<string, number> {
  const all = [...found.values()].reduce((sum, count) => sum + count, 0)
  return Object.fromEntries(
    [...found]
      .map(([name, count]) => [name, Math.round((count / all) * 100)] as const)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
  )
}

/** Squares of what is off, by what is expected: near the number of names where chance alone is at work. */
export function chiSquare(found: ReadonlyMap<string, number>, expected: ReadonlyMap<string, number>): number {
  return [...expected].reduce((sum, [name, count]) => sum + ((found.get(name) ?? 0) - count) ** 2 / count, 0)
}
