/** The rows of the benchmark: figures, ratios to the peers of the same run, targets. */
import type { Spread } from './statistics.ts'

export interface Row {
  readonly name: string
  readonly unit: string
  /** Median of our runs. */
  readonly ours: number
  /** Medians of the peers' runs. */
  readonly peers: Readonly<Record<string, number>>
  /** Median of the pairwise ratios ours / peer, and their spread. */
  readonly ratio: Readonly<
    Record<string, { readonly median: number; readonly min: number; readonly max: number }>
  >
  /** At most this ratio to the peer; `ours` is an absolute bound in the row's unit. */
  readonly target: Readonly<Record<string, number>>
  /** null where this machine cannot tell, or nothing is asked. */
  readonly met: boolean | null
}

/** Bounds by figure and peer. */
export const targets: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  'keep-alive request, client hop': { ztunnel: 1.1, nginx: 1 },
  'keep-alive request, server hop': { ztunnel: 1.1, nginx: 1 },
  'new connection, client hop': { ztunnel: 1.2 },
  'new connection, server hop': { ztunnel: 1.2 },
  'bulk, sending hop': { ztunnel: 1.5, nginx: 1.15 },
  'bulk, receiving hop': { ztunnel: 1.5, nginx: 1.15 },
  'bulk reverse, sending hop': { ztunnel: 1.5, nginx: 1.15 },
  'bulk reverse, receiving hop': { ztunnel: 1.5, nginx: 1.15 },
  'latency p50': { ztunnel: 1.4 },
  'latency p99': { ztunnel: 1.2 },
  'memory idle, no workloads from a file': { ours: 110 },
  'memory idle, 10,000 workloads from a file': { ours: 110 },
  'memory idle, no workloads over xDS': { ours: 110 },
  'memory idle, 10,000 workloads over xDS': { ours: 110 },
  'memory of a further worker, no workloads from a file': { ours: 30 },
  'memory of a further worker, 10,000 workloads from a file': { ours: 30 },
  'memory of a further worker, no workloads over xDS': { ours: 30 },
  'memory of a further worker, 10,000 workloads over xDS': { ours: 30 },
  'memory per connection, client hop': { ours: 10 },
  'memory per connection, server hop': { ours: 10 },
  'start to first served connection': { ours: 1000 },
  'two workers against one': { ours: 1.6 },
  'two workers: share of the less busy, client hop': { ours: 20 },
  'two workers: share of the less busy, server hop': { ours: 20 },
  'memory idle, waypoint': { ours: 120 },
  'keep-alive request, waypoint': { envoy: 0.9 },
  'new connection, waypoint': { envoy: 0.9 },
  'latency p50, waypoint': { envoy: 1.1 },
  'latency p99, waypoint': { envoy: 1.1 },
  'control plane: resources sent for one changed pod': { ours: 1 }
}

/** Figures of which more is better. */
const moreIsBetter = (name: string): boolean => name.startsWith('two workers')

/** A figure that has no peer. */
export function ownRow(name: string, unit: string, ours: Spread): Row {
  return rowOf({ name, unit, ours, peers: {}, targets: targets[name] ?? {} })
}

export function rowOf(figure: {
  readonly name: string
  readonly unit: string
  readonly ours: Spread
  readonly peers: Readonly<Record<string, { readonly value: Spread; readonly ratio: Spread }>>
  readonly targets: Readonly<Record<string, number>>
}): Row {
  const { name, unit, ours, peers } = figure
  const verdicts = Object.entries(figure.targets).map(([peer, bound]) => {
    const value = peer === 'ours' ? ours.median : peers[peer]?.ratio.median
    if (value === undefined || Number.isNaN(value)) return null
    return moreIsBetter(name) ? value >= bound : value <= bound
  })
  return {
    name,
    unit,
    ours: ours.median,
    peers: Object.fromEntries(Object.entries(peers).map(([peer, { value }]) => [peer, value.median])),
    ratio: Object.fromEntries(
      Object.entries(peers).map(
        ([
          peer,
          {
            ratio: { median, min, max }
          }
        ]) => [peer, { median, min, max }]
      )
    ),
    target: figure.targets,
    met: verdicts.length === 0 || verdicts.includes(null) ? null : verdicts.every(Boolean)
  }
}

const titles: Readonly<Record<string, string>> = {
  ztunnel: 'Rust ztunnel',
  nginx: 'nginx',
  envoy: 'Envoy'
}

export function tableOf(rows: readonly Row[]): string {
  const peers = Object.keys(titles).filter(peer => rows.some(({ ratio }) => ratio[peer] !== undefined))
  const lines = rows.map(row => [
    row.name,
    row.unit,
    show(row.ours),
    ...peers.map(peer => {
      const ratio = row.ratio[peer]
      if (ratio === undefined) return '-'
      return `${show(row.peers[peer] ?? NaN)}  ×${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}-${ratio.max.toFixed(2)})`
    }),
    Object.entries(row.target)
      .map(([peer, bound]) => (peer === 'ours' ? String(bound) : `${peer} ×${bound}`))
      .join(', '),
    row.met === null ? '' : row.met ? 'met' : 'MISSED'
  ])
  const all = [['figure', 'unit', 'ours', ...peers.map(peer => titles[peer] ?? ''), 'target', ''], ...lines]
  const widths = all[0]?.map((_, column) => Math.max(...all.map(line => line[column]?.length ?? 0))) ?? []
  const formatted = all.map(line =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  )
  return formatted.join('\n')
}

function show(value: number): string {
  if (Number.isNaN(value)) return '-'
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
