/**
 * Endpoints in groups by where they are: one after the other by priority, or side by side with weights.
 * Source: Istio's published `LocalityLoadBalancerSetting` (networking.istio.io/v1).
 */
import type { LoadBalancer, Locality, RoutingScope } from '../../shared/mesh/model.ts'
import type { LocalityPolicy, TrafficPolicy } from '../traffic-policy.ts'
import { labelOf, placeOf, scopeOf, type Endpoint, type Place } from './endpoint.ts'

export interface Groups {
  /** `priority`: later ones are there for what earlier ones lack. `weight`: each has its part. */
  readonly by: 'priority' | 'weight'
  /** Without empty ones. */
  readonly groups: readonly Group[]
}

export interface Group {
  readonly endpoints: readonly Endpoint[]
  readonly weight: number
}

/** What of a policy decides about near and far. */
export type Nearness = Pick<TrafficPolicy, 'locality' | 'outliers'>

/** `service`: what the Service itself says, for policies that say nothing of it; its `Strict` holds in any case. */
export function groupsOf(
  endpoints: readonly Endpoint[],
  policy: Nearness,
  here: Place,
  service?: LoadBalancer
): Groups {
  const taking = endpoints.filter(endpoint => endpoint.weight > 0 && isAllowed(endpoint, here, service))
  const { locality } = policy
  if (locality?.kind === 'distribute') return distributed(taking, locality, here.locality)
  const rank = rankBy(policy, here, service)
  return { by: 'priority', groups: rank === undefined ? inOne(taking) : ranked(taking, rank) }
}

function isAllowed(endpoint: Endpoint, here: Place, service: LoadBalancer | undefined): boolean {
  if (service?.mode !== 'Strict') return true
  const place = placeOf(endpoint)
  return service.routingPreferences.every(scope => scopeOf(place, scope) === scopeOf(here, scope))
}

/** 0 is best; only the order counts. Undefined: all are alike. */
type Rank = (place: Place) => number

function rankBy(
  { locality, outliers }: Nearness,
  here: Place,
  service: LoadBalancer | undefined
): Rank | undefined {
  if (locality === undefined && service?.mode === 'Failover') {
    return place => rankByScopes(place, here, service.routingPreferences)
  }
  // Where nobody is found to be ill, nobody would ever take the place of near ones.
  if (outliers === undefined) return undefined
  if (locality?.kind === 'labels') return place => rankByLabels(place, here, locality.labels)
  if (locality === undefined) return place => rankByLocality(place, here, [])
  return locality.kind === 'failover' ? place => rankByLocality(place, here, locality.failover) : undefined
}

/** A first preference for the network is stronger than all others together, as for connections of ztunnels. */
function rankByScopes(place: Place, here: Place, preferences: readonly RoutingScope[]): number {
  const [first, ...others] = preferences
  const agrees = (scope: RoutingScope): boolean => scopeOf(place, scope) === scopeOf(here, scope)
  if (first !== 'Network') return disagreement(preferences, agrees)
  return disagreement(others, agrees) + (agrees(first) ? 0 : preferences.length)
}

/** `key=value`: what we are taken to have. */
function rankByLabels(place: Place, here: Place, labels: readonly string[]): number {
  return disagreement(labels, label => {
    const at = label.indexOf('=')
    if (at < 0) return labelOf(place, label) === labelOf(here, label)
    return labelOf(place, label.slice(0, at)) === label.slice(at + 1)
  })
}

/** How many are left from the first on that does not hold. */
function disagreement<T>(wanted: readonly T[], holds: (one: T) => boolean): number {
  const first = wanted.findIndex(one => !holds(one))
  return first < 0 ? 0 : wanted.length - first
}

const localityScopes = ['Region', 'Zone', 'Subzone'] as const

/** Our network first; in each the same subzone, zone and region, then regions that `failover` names, in its order. */
function rankByLocality(
  place: Place,
  here: Place,
  failover: Extract<LocalityPolicy, { kind: 'failover' }>['failover']
): number {
  const targets = failover.filter(({ from }) => from === here.locality.region).map(({ to }) => to)
  const farthest = localityScopes.length + targets.length
  const near = disagreement(localityScopes, scope => scopeOf(place, scope) === scopeOf(here, scope))
  const named = targets.indexOf(place.locality.region)
  const rank = near < localityScopes.length ? near : named < 0 ? farthest : near + named
  return place.network === here.network ? rank : rank + farthest + 1
}

function ranked(endpoints: readonly Endpoint[], rank: Rank): Group[] {
  const byRank = Map.groupBy(endpoints, endpoint => rank(placeOf(endpoint)))
  return [...byRank].toSorted(([a], [b]) => a - b).flatMap(([, group]) => inOne(group))
}

/** By the first rule that is for us; who is in none of its places takes nothing. Without such a rule all are alike. */
function distributed(
  endpoints: readonly Endpoint[],
  { rules }: Extract<LocalityPolicy, { kind: 'distribute' }>,
  here: Locality
): Groups {
  const rule = rules.find(({ from }) => covers(from, here))
  if (rule === undefined) return { by: 'priority', groups: inOne(endpoints) }
  const byPlace = Map.groupBy(endpoints, ({ workload }) =>
    rule.to.findIndex(([place]) => covers(place, workload.locality))
  )
  const groups = rule.to.flatMap(([, weight], index) =>
    weight > 0 ? inOne(byPlace.get(index) ?? [], weight) : []
  )
  return { by: 'weight', groups }
}

function covers(place: string, locality: Locality): boolean {
  const [region = '', zone = '*', subzone = '*'] = place.split('/')
  const agrees = (wanted: string, actual: string): boolean => wanted === '*' || wanted === actual
  return agrees(region, locality.region) && agrees(zone, locality.zone) && agrees(subzone, locality.subzone)
}

function inOne(endpoints: readonly Endpoint[], weight = 1): Group[] {
  return endpoints.length === 0 ? [] : [{ endpoints, weight }]
}
