/**
 * Counting. A program declares its metric families in one typed table; the hot path holds a series and adds
 * plain numbers to it; whoever scrapes takes a snapshot, sums those of several threads and prints them
 * (`exposition.ts`).
 */

export interface MetricFamily {
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  /** Label names in the order in which they are printed. */
  readonly labels: readonly string[]
  /** Upper bounds of a histogram's buckets, ascending, without +Inf. */
  readonly buckets?: readonly number[]
}

/** Families by their full names; the names of counters end in `_total`. */
export type MetricFamilies = Readonly<Record<string, MetricFamily>>

/** One label set of one family. Keep it: looking it up costs more than counting. */
export class Series {
  readonly labels: readonly string[]
  /** Counter or gauge: the value. Histogram: the sum of what was observed. */
  value = 0
  /** Histogram only: observations at most as large as each bound, and all of them last; not cumulative. */
  readonly counts: number[] | undefined
  readonly #bounds: readonly number[]

  constructor(labels: readonly string[], bounds: readonly number[] | undefined) {
    this.labels = labels
    this.#bounds = bounds ?? []
    this.counts = bounds === undefined ? undefined : Array.from({ length: bounds.length + 1 }, () => 0)
  }

  add(amount = 1): void {
    this.value += amount
  }

  set(value: number): void {
    this.value = value
  }

  observe(value: number): void {
    this.value += value
    const { counts } = this
    if (counts === undefined) return
    let bucket = this.#bounds.findIndex(bound => value <= bound)
    if (bucket < 0) bucket = this.#bounds.length
    counts[bucket] = (counts[bucket] ?? 0) + 1
  }
}

/** What one thread has counted; a plain value, so it can be posted to another. */
export type MetricsSnapshot = readonly FamilySnapshot[]

export interface FamilySnapshot {
  readonly name: string
  readonly rows: readonly SeriesSnapshot[]
}

export interface SeriesSnapshot {
  readonly labels: readonly string[]
  readonly value: number
  readonly counts: readonly number[] | undefined
}

/** The series of one thread. Series live as long as the process: a counter that vanished would look like a reset. */
export class Metrics<F extends MetricFamilies> {
  readonly families: F
  readonly #series = new Map<string, Map<string, Series>>()
  readonly #collectors: (() => void)[] = []

  constructor(families: F) {
    this.families = families
    for (const name of Object.keys(families)) this.#series.set(name, new Map())
  }

  /**
   * The series of a label set, made at its first use. Values come in the order of the family's labels;
   * trailing ones may be left out, then those labels are not printed.
   */
  series(name: keyof F & string, ...labels: readonly string[]): Series {
    const family = this.families[name]
    const known = this.#series.get(name)
    if (family === undefined || known === undefined) throw new Error(`no metric family is named ${name}`)
    if (labels.length > family.labels.length) throw new Error(`${name} has ${family.labels.length} labels`)
    const key = labels.join('\0')
    let series = known.get(key)
    if (series === undefined) {
      series = new Series(labels, family.type === 'histogram' ? (family.buckets ?? []) : undefined)
      known.set(key, series)
    }
    return series
  }

  /** `collect` runs before each snapshot, to bring up to date what is not counted as it happens. */
  onCollect(collect: () => void): void {
    this.#collectors.push(collect)
  }

  snapshot(): MetricsSnapshot {
    for (const collect of this.#collectors) collect()
    return [...this.#series].map(([name, known]) => ({
      name,
      rows: [...known.values()].map(({ labels, value, counts }) => ({
        labels,
        value,
        counts: counts?.slice()
      }))
    }))
  }
}

/** The sum of what several threads counted: equal label sets are added, gauges too. */
export function sumSnapshots(snapshots: readonly MetricsSnapshot[]): MetricsSnapshot {
  const families = new Map<
    string,
    Map<string, { labels: readonly string[]; value: number; counts: number[] | undefined }>
  >()
  for (const { name, rows } of snapshots.flat()) {
    let sums = families.get(name)
    if (sums === undefined) families.set(name, (sums = new Map()))
    for (const { labels, value, counts } of rows) {
      const key = labels.join('\0')
      const sum = sums.get(key)
      if (sum === undefined) {
        sums.set(key, { labels, value, counts: counts?.slice() })
        continue
      }
      sum.value += value
      counts?.forEach((count, index) => {
        if (sum.counts !== undefined) sum.counts[index] = (sum.counts[index] ?? 0) + count
      })
    }
  }
  return [...families].map(([name, sums]) => ({ name, rows: [...sums.values()] }))
}
