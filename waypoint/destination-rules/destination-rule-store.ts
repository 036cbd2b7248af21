/** All DestinationRules that are known, and what they say of one service. */
import { isDeepStrictEqual } from 'node:util'
import { serviceKey, type Service, type ServiceKey } from '../../shared/mesh/model.ts'
import type { TrafficPolicy } from '../traffic-policy.ts'
import type { DestinationRule } from './destination-rule.ts'
import { RuleInForce } from './rule-in-force.ts'

export interface OwnNamespaces {
  /** The waypoint's. */
  readonly namespace: string
  /** Whose rules are for the whole mesh. */
  readonly rootNamespace: string
}

type ServiceName = Pick<Service, 'namespace' | 'hostname'>

/** Services that are remembered; beyond it all are looked up anew, and their balancing begins from the start. */
const mostServices = 50_000

export class DestinationRuleStore {
  readonly #own: OwnNamespaces
  /** By the name of their resource. */
  readonly #rules = new Map<string, DestinationRule>()
  /** Those that may apply to a waypoint. */
  readonly #byNamespace = new Map<string, Set<DestinationRule>>()
  readonly #services = new Map<ServiceKey, { rule: RuleInForce; version: number }>()
  readonly #nothing = new RuleInForce([])
  #version = 0

  constructor(own: OwnNamespaces) {
    this.#own = own
  }

  has(key: string): boolean {
    return this.#rules.has(key)
  }

  /** One that says what is known already, as after a new connection to the control plane, changes nothing. */
  put(key: string, rule: DestinationRule): void {
    if (isDeepStrictEqual(this.#rules.get(key), rule)) return
    this.remove(key)
    this.#rules.set(key, rule)
    if (!rule.applies) return
    const rules = this.#byNamespace.get(rule.namespace)
    if (rules === undefined) this.#byNamespace.set(rule.namespace, new Set([rule]))
    else rules.add(rule)
    this.#version += 1
  }

  remove(key: string): void {
    const rule = this.#rules.get(key)
    if (rule === undefined) return
    this.#rules.delete(key)
    const rules = this.#byNamespace.get(rule.namespace)
    if (rules?.delete(rule) !== true) return
    if (rules.size === 0) this.#byNamespace.delete(rule.namespace)
    this.#version += 1
  }

  all(): Iterable<DestinationRule> {
    return this.#rules.values()
  }

  /**
   * The same object as long as the rules for the service are the same, whatever happens to others. Undefined: nobody said
   * anything. A subset that there is not has the policy of the whole service; `subsetOf` tells.
   */
  policyFor(service: ServiceName, port: number, subset: string | undefined): TrafficPolicy | undefined {
    return this.#inForce(service)?.policyFor(port, subset)
  }

  /** The labels of the subset's pods, none of them for all pods; undefined: there is no such subset. */
  subsetOf(service: ServiceName, subset: string): ReadonlyMap<string, string> | undefined {
    return this.#inForce(service)?.labelsOf(subset)
  }

  #inForce(service: ServiceName): RuleInForce | undefined {
    if (this.#byNamespace.size === 0) return undefined
    const key = serviceKey(service)
    const known = this.#services.get(key)
    if (known?.version === this.#version) return known.rule
    const rules = this.#rulesFor(service)
    if (known !== undefined && isSame(known.rule.rules, rules)) {
      known.version = this.#version
      return known.rule
    }
    if (this.#services.size >= mostServices) this.#services.clear()
    const rule = rules.length === 0 ? this.#nothing : new RuleInForce(rules)
    this.#services.set(key, { rule, version: this.#version })
    return rule
  }

  /** The waypoint's namespace is asked first, then the service's, then the root namespace. */
  #rulesFor({ namespace, hostname }: ServiceName): readonly DestinationRule[] {
    const { namespace: own, rootNamespace } = this.#own
    // Where both are one only rules for itself come first: those for the mesh are still the last.
    const first = own === rootNamespace ? isPrivate : () => true
    const found = mostSpecific(this.#visible(own).filter(first), hostname)
    if (found.length > 0) return found
    const ofService = mostSpecific(this.#visible(namespace), hostname)
    return ofService.length > 0 ? ofService : mostSpecific(this.#visible(rootNamespace), hostname)
  }

  #visible(namespace: string): readonly DestinationRule[] {
    const own = this.#own.namespace
    return [...(this.#byNamespace.get(namespace) ?? [])].filter(
      ({ exportTo }) =>
        exportTo.length === 0 ||
        exportTo.some(to => to === '*' || to === own || (to === '.' && namespace === own))
    )
  }
}

function isPrivate({ namespace, exportTo }: DestinationRule): boolean {
  return exportTo.length === 1 && (exportTo[0] === '.' || exportTo[0] === namespace)
}

/** The rules for the host itself, or else for the longest wildcard that it lies in; the oldest first. */
function mostSpecific(rules: readonly DestinationRule[], hostname: string): readonly DestinationRule[] {
  let best = ''
  for (const { hostname: of } of rules) {
    if (of === hostname) best = of
    else if (best !== hostname && of.length > best.length && liesIn(hostname, of)) best = of
  }
  return rules
    .filter(({ hostname: of }) => of === best)
    .toSorted((a, b) => a.createdMs - b.createdMs || (a.name < b.name ? -1 : 1))
}

/** Hosts of services can be wildcards too. */
function liesIn(hostname: string, wildcard: string): boolean {
  return wildcard.startsWith('*') && hostname.endsWith(wildcard.slice(1))
}

function isSame(a: readonly DestinationRule[], b: readonly DestinationRule[]): boolean {
  return a.length === b.length && a.every((rule, at) => rule === b[at])
}
