/** Series as the Telemetries of a service want them: with other labels, or counted for nobody. */
import { Series, type Metrics } from '../../shared/telemetry/metrics.ts'
import type { families } from '../families.ts'
import type { RequestHead } from '../http/exchange.ts'
import type { FamilyRule, TelemetryRules } from './rules/telemetry-policy.ts'

/** What labels may be taken from. */
export interface LabelFacts {
  readonly head: RequestHead | undefined
  readonly status: number
}

/** Of values that clients choose: series stay for as long as the process. */
const maxValues = 1000

export class RuledSeries {
  readonly #metrics: Metrics<typeof families>
  readonly #values = new Set<string>()

  constructor(metrics: Metrics<typeof families>) {
    this.#metrics = metrics
  }

  /** What tells apart series of one label set; empty where labels do not depend on the request. */
  keyOf({ metrics }: TelemetryRules, { head, status }: LabelFacts): string {
    let key = ''
    for (const { disabled, changes } of metrics.values()) {
      if (disabled) continue
      for (const [, change] of changes) {
        if (change.kind === 'set' && change.value.kind === 'attribute') {
          key += `\0${this.#bounded(change.value.read(head, status))}`
        }
      }
    }
    return key
  }

  make(
    name: keyof typeof families,
    values: readonly string[],
    { metrics }: TelemetryRules,
    facts: LabelFacts
  ): Series {
    const rule = metrics.get(name)
    if (rule === undefined) return this.#metrics.series(name, ...values)
    if (rule.disabled) return new Series([], [])
    return this.#metrics.series(name, ...this.#changed(values, rule, facts))
  }

  #changed(
    values: readonly string[],
    { changes }: FamilyRule,
    { head, status }: LabelFacts
  ): readonly string[] {
    const changed = [...values]
    for (const [at, change] of changes) {
      if (change.kind === 'remove') changed[at] = ''
      else if (change.value.kind === 'text') changed[at] = change.value.text
      else changed[at] = this.#bounded(change.value.read(head, status))
    }
    return changed
  }

  #bounded(value: string): string {
    if (this.#values.has(value)) return value
    if (this.#values.size >= maxValues) return 'other'
    this.#values.add(value)
    return value
  }
}
