/** Which versions may follow each other. */

export type Skew =
  | { readonly kind: 'same' }
  | { readonly kind: 'allowed'; readonly direction: 'up' | 'down' }
  | { readonly kind: 'too far'; readonly why: string }

/** Programs of one minor version work with those of the one before and after: a rolling upgrade mixes them. */
export function skewOf(installed: string, wanted: string): Skew {
  if (installed === wanted) return { kind: 'same' }
  const [from, to] = [numbers(installed), numbers(wanted)]
  if (from === undefined || to === undefined) {
    return { kind: 'too far', why: `versions ${installed || 'unknown'} and ${wanted} cannot be compared` }
  }
  const steps = to.minor - from.minor
  if (from.major !== to.major || Math.abs(steps) > 1) {
    return {
      kind: 'too far',
      why: `from ${installed} to ${wanted} are more than one minor version: go one by one, as nodes of both work side by side meanwhile`
    }
  }
  const direction = steps > 0 || (steps === 0 && to.patch >= from.patch) ? 'up' : 'down'
  return { kind: 'allowed', direction }
}

function numbers(version: string): { major: number; minor: number; patch: number } | undefined {
  const match = /^v?(\d+)\.(\d+)\.(\d+)/.exec(version)
  return match === null
    ? undefined
    : { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]) }
}
