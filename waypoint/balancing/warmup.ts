/** How much of its share a new pod takes. Source: Envoy's published slow start mode. */
import type { Warmup } from '../traffic-policy.ts'

/** Younger ones count as this old, so that nobody waits for the first request until the clock has moved. */
const youngestMs = 1000

/** Nobody takes nothing, however slowly they are to begin. */
const leastPart = 0.001

/** The part of its weight after that time, up to 1. */
export function warmth({ durationMs, minimumPercent, aggression }: Warmup, ageMs: number): number {
  const part = Math.max(ageMs, youngestMs) / durationMs
  return part >= 1 ? 1 : Math.max(leastPart, minimumPercent / 100, part ** (1 / aggression))
}
