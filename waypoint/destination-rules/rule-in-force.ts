/**
 * What the rules of one namespace for one host come to, for each port and subset.
 * Source: Istio's published DestinationRule: what port-level settings and subsets inherit.
 */
import { noLimits, usualConnections, usualPolicy, type TrafficPolicy } from '../traffic-policy.ts'
import type { DestinationRule, PolicyParts, PortPolicyParts, RulePolicy, Subset } from './destination-rule.ts'

export class RuleInForce {
  readonly rules: readonly DestinationRule[]
  readonly #policy: RulePolicy | undefined
  readonly #subsets: ReadonlyMap<string, Subset>
  /** Port 0 stands for all that no rule has settings for. */
  readonly #made = new Map<Subset | undefined, Map<number, TrafficPolicy | undefined>>()

  /** `rules`: the oldest first, whose policy counts; subsets are put together, of two with one name the older counts. */
  constructor(rules: readonly DestinationRule[]) {
    this.rules = rules
    this.#policy = rules.find(({ policy }) => policy !== undefined)?.policy
    this.#subsets = new Map(rules.toReversed().flatMap(({ subsets }) => [...subsets]))
  }

  /** Undefined: there is no such subset. */
  labelsOf(subset: string): ReadonlyMap<string, string> | undefined {
    return this.#subsets.get(subset)?.labels
  }

  /** The same object for the same question. A subset that is not known has what is said for all pods. */
  policyFor(port: number, subsetName: string | undefined): TrafficPolicy | undefined {
    const subset = subsetName === undefined ? undefined : this.#subsets.get(subsetName)
    const known = this.#policy?.ports.has(port) === true || subset?.policy?.ports.has(port) === true
    const place = known ? port : 0
    let made = this.#made.get(subset)
    if (made === undefined) this.#made.set(subset, (made = new Map()))
    if (!made.has(place)) made.set(place, complete(partsFor(place, this.#policy, subset?.policy)))
    return made.get(place)
  }
}

const ofPorts: readonly string[] = [
  'loadBalancer',
  'connectionPool',
  'outlierDetection',
  'tls'
] satisfies readonly (keyof PortPolicyParts)[]

/** A subset's parts take the place of the rule's; all of those that a port can have, where it speaks of this port. */
function partsFor(port: number, rule: RulePolicy | undefined, subset: RulePolicy | undefined): PolicyParts {
  const parts = rule?.ports.get(port) ?? rule?.parts ?? {}
  const ofPort = subset?.ports.get(port)
  if (ofPort === undefined) return { ...parts, ...subset?.parts }
  const others = Object.entries(parts).filter(([name]) => !ofPorts.includes(name))
  return { ...Object.fromEntries(others), ...ofPort }
}

/** Undefined where nothing is said that changes anything, as by `tls` with mode ISTIO_MUTUAL. */
function complete(parts: PolicyParts): TrafficPolicy | undefined {
  const { loadBalancer, connectionPool, outlierDetection, retryBudget, tls } = parts
  const unsupported = Object.values(parts).flatMap(part => part.unsupported)
  const says = [loadBalancer, connectionPool, outlierDetection, retryBudget, tls?.tls].some(
    part => part !== undefined
  )
  if (!says && unsupported.length === 0) return undefined
  return {
    balancing: loadBalancer?.balancing ?? usualPolicy.balancing,
    locality: loadBalancer?.locality,
    limits: connectionPool?.limits ?? noLimits,
    connections: connectionPool?.connections ?? usualConnections,
    outliers: outlierDetection?.outliers,
    retryBudget: retryBudget?.retryBudget,
    tls: tls?.tls,
    unsupported: unsupported.length === 0 ? undefined : unsupported.join('; ')
  }
}
