/**
 * All Telemetries of a waypoint, and what they come to for one service: those of the root namespace first, then of the
 * waypoint's own, of the service's, and those that name it or the waypoint; each overrides single fields of those
 * before. Source: Istio's published order of Telemetry resources.
 */
import type { Logger } from '../../../shared/telemetry/logger.ts'
import { families } from '../../families.ts'
import type { MeshSettings } from '../../mesh-settings.ts'
import { isTarget, type OwnGateway, type PolicyService } from '../../policy-target.ts'
import type { TracingTerms } from '../tracing/tracer.ts'
import type {
  FamilyRule,
  LabelChange,
  MetricPart,
  TelemetryPolicy,
  TelemetryRules,
  TracingPart
} from './telemetry-policy.ts'

export interface TelemetryStoreOptions {
  readonly own: OwnGateway
  readonly rootNamespace: string
  /** Where nothing is said. */
  readonly accessLog: TelemetryRules['accessLog']
  readonly settings: () => MeshSettings
  readonly log: Logger
}

export class TelemetryStore {
  readonly #options: TelemetryStoreOptions
  /** By the name of their resource. */
  readonly #policies = new Map<string, TelemetryPolicy>()
  /**
   * By service, whose records do not change and go when nobody has them. The waypoint itself stands for what is none.
   */
  #rules = new WeakMap<PolicyService | OwnGateway, TelemetryRules>()
  /** That the rules were made with. */
  #settings: MeshSettings | undefined

  constructor(options: TelemetryStoreOptions) {
    this.#options = options
  }

  put(name: string, policy: TelemetryPolicy): void {
    this.#policies.set(name, policy)
    this.#rules = new WeakMap()
    const { unsupported } = policy
    if (unsupported.length === 0) return
    this.#options.log.warn('a Telemetry is not carried out in full', {
      name,
      unsupported: unsupported.join('; ')
    })
  }

  remove(name: string): void {
    if (this.#policies.delete(name)) this.#rules = new WeakMap()
  }

  /** `service`: undefined for a pod that is addressed itself, and for the clients of a gateway. */
  rulesFor(service: PolicyService | undefined): TelemetryRules {
    const settings = this.#options.settings()
    if (settings !== this.#settings) {
      this.#settings = settings
      this.#rules = new WeakMap()
    }
    const key = this.#policies.size === 0 || service === undefined ? this.#options.own : service
    let rules = this.#rules.get(key)
    if (rules === undefined) this.#rules.set(key, (rules = this.#together(service, settings)))
    return rules
  }

  #together(service: PolicyService | undefined, settings: MeshSettings): TelemetryRules {
    const policies = this.#inOrder(service)
    const logging = policies.flatMap(policy => policy.logging)
    const enabled = logging.findLast(part => part.enabled !== undefined)?.enabled
    return {
      accessLog:
        enabled === undefined ? (settings.accessLog ?? this.#options.accessLog) : enabled ? 'all' : 'off',
      logs: logging.findLast(({ filter }) => filter !== undefined)?.filter,
      tracing: tracingOf(
        policies.flatMap(policy => policy.tracing),
        settings
      ),
      metrics: metricsOf(policies.flatMap(policy => policy.metrics))
    }
  }

  /** The most special last, and of equals the oldest last. */
  #inOrder(service: PolicyService | undefined): readonly TelemetryPolicy[] {
    const { own, rootNamespace } = this.#options
    const rank = ({ namespace, targets }: TelemetryPolicy): number | undefined => {
      if (targets.length > 0) return targets.some(target => isTarget(target, service, own)) ? 3 : undefined
      if (namespace === service?.namespace && namespace !== own.namespace) return 2
      if (namespace === own.namespace) return 1
      return namespace === rootNamespace ? 0 : undefined
    }
    return [...this.#policies.values()]
      .flatMap(policy => {
        const place = rank(policy)
        return place === undefined ? [] : [{ place, policy }]
      })
      .toSorted((a, b) => a.place - b.place || b.policy.createdMs - a.policy.createdMs)
      .map(({ policy }) => policy)
  }
}

/** Undefined: without a collector nothing is traced. */
function tracingOf(parts: readonly TracingPart[], settings: MeshSettings): TracingTerms | undefined {
  const last = <K extends keyof TracingPart>(field: K): TracingPart[K] | undefined =>
    parts.findLast(part => part[field] !== undefined)?.[field]
  const provider = last('provider') ?? settings.defaultTraceProvider
  if (provider === undefined) return undefined
  const found = settings.traceProviders.get(provider)
  if (found === undefined || found.kind === 'invalid') return undefined
  return {
    provider,
    sampling: last('sampling') ?? settings.traceSampling,
    reports: last('reports') ?? true,
    propagates: last('propagates') ?? true,
    istioTags: last('istioTags') ?? true,
    customTags: last('customTags') ?? []
  }
}

function metricsOf(parts: readonly MetricPart[]): ReadonlyMap<string, FamilyRule> {
  const found = new Map<string, { disabled: boolean; labels: Map<string, LabelChange> }>()
  for (const { families: names, disabled, labels } of parts) {
    for (const name of names) {
      const rule = found.get(name) ?? { disabled: false, labels: new Map() }
      if (disabled !== undefined) rule.disabled = disabled
      for (const [label, change] of labels) rule.labels.set(label, change)
      found.set(name, rule)
    }
  }
  return new Map(
    Array.from(found, ([name, { disabled, labels }]) => {
      const all: readonly string[] =
        Object.entries(families).find(([family]) => family === name)?.[1].labels ?? []
      const changes = [...labels].flatMap(([label, change]) => {
        const at = all.indexOf(label)
        return at < 0 ? [] : [[at, change] as const]
      })
      return [name, { disabled, changes }]
    })
  )
}
