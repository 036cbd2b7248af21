/** What the readers of a VirtualService's parts share. */
import { Problems, type Fields } from '../../shared/mesh/yaml-fields.ts'
import type { Place } from '../routes/backend-reference.ts'

export interface Reading {
  readonly place: Place
  /** Takes what is valid but is not carried out: requests are refused rather than passed on without it. */
  readonly unsupported: Problems
}

export function readingAt(place: Place): Reading {
  return { place, unsupported: new Problems() }
}

/** The longest time that a timer can wait for, milliseconds: 24 days. */
const longestMs = 2 ** 31 - 1

/** Undefined stays undefined. */
export function timerMs(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.min(ms, longestMs)
}

/** From 0 to 1, in millionths. Absent: 0. Source: Istio's published Percent. */
export function readShare(fields: Fields | undefined): number {
  if (fields === undefined) return 0
  const percent = fields.number('value', 0, 100)
  fields.end()
  return shareOf(percent)
}

export function shareOf(percent: number): number {
  return Math.round(percent * 10_000) / 1_000_000
}
