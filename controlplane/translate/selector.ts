/** Selectors of equal labels, as Services and Istio's resources have them; `shared/kube/label-selector.ts` has the others. */
import type { Labels } from '../cluster/objects.ts'

/** Whether every label of the selector is on the object; an empty selector matches everything. */
export function selects(selector: Labels, labels: Labels): boolean {
  for (const name in selector) if (labels[name] !== selector[name]) return false
  return true
}

export function isEmpty(selector: Labels): boolean {
  for (const _ in selector) return false
  return true
}

/** As a Service selects: an empty selector matches nothing. */
export function selectsSome(selector: Labels, labels: Labels): boolean {
  return !isEmpty(selector) && selects(selector, labels)
}
