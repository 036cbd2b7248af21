/** Durations as Istio's objects write them: `1.5s`, `1h30m`, `20ms`. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'

const nanoseconds: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9
}

/** Nanoseconds; undefined when the text is no duration. */
export function durationOf(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0
  if (!/^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(text)) return undefined
  let sum = 0
  for (const [, digits = '', unit = ''] of text.matchAll(/([\d.]+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    sum += Number(digits) * (nanoseconds[unit] ?? 0)
  }
  return text.startsWith('-') ? -sum : Math.round(sum)
}

/** A duration of at least a millisecond, in whole ones. An absent one is none. */
export function checkDuration(holder: Fields, name: string, findings: Findings): void {
  if (!holder.has(name)) return
  const field = holder.pathOf(name)
  const text = holder.text(name)
  const duration = durationOf(text)
  if (duration === undefined) {
    findings.error(field, `${JSON.stringify(text)} is no duration`, 'write it as 1h, 1m, 1s or 1ms')
  } else if (duration < 1e6) {
    findings.error(field, `${text} is shorter than a millisecond`, 'use 1ms or more')
  } else if (duration % 1e6 !== 0) {
    findings.error(field, `${text} is finer than milliseconds`, 'use whole milliseconds')
  }
}
