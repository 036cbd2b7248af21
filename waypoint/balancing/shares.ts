/** Which part of the requests each group takes. Source: Envoy's published priority levels and locality weights. */

/** A group takes all of its share until more of it is out of use than this leaves room for. */
const overprovisioning = 1.4

/** 0 to 1: how much of its share `usable` of `total` endpoints can take. */
export function availability(usable: number, total: number): number {
  return total === 0 ? 0 : Math.min(1, (usable * overprovisioning) / total)
}

/**
 * The first takes what it can, the next what is left. All of them together take everything: where they could not,
 * each takes more, in proportion. All 0 where nobody is usable.
 */
export function sharesByPriority(available: readonly number[]): number[] {
  const together = Math.min(1, sum(available))
  let left = 1
  return available.map(part => {
    const share = together === 0 ? 0 : Math.min(left, part / together)
    left -= share
    return share
  })
}

/** By weight, less for what is out of use, which goes to the others. All 0 where nobody is usable. */
export function sharesByWeight(available: readonly number[], weights: readonly number[]): number[] {
  const parts = available.map((part, index) => part * (weights[index] ?? 0))
  const together = sum(parts)
  return parts.map(part => (together === 0 ? 0 : part / together))
}

/** The one into whose share the chance falls, `chance` from 0 up to 1. */
export function indexByShare(shares: readonly number[], chance: number): number {
  let left = chance
  let last = 0
  for (let index = 0; index < shares.length; index += 1) {
    const share = shares[index] ?? 0
    if (share === 0) continue
    if (left < share) return index
    left -= share
    last = index
  }
  return last // shares may add up to a little less than 1
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
