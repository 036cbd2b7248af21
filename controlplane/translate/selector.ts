/** Label selectors. */
import type { LabelSelector, Labels } from '../cluster/objects.ts'

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

/** Kubernetes' full selectors, with expressions. */
export function matches(selector: LabelSelector, labels: Labels): boolean {
  return (
    selects(selector.matchLabels, labels) &&
    selector.expressions.every(({ key, operator, values }) => {
      const value = Object.hasOwn(labels, key) ? labels[key] : undefined
      switch (operator) {
        case 'In':
          return value !== undefined && values.includes(value)
        case 'NotIn':
          return value === undefined || !values.includes(value)
        case 'Exists':
          return value !== undefined
        default:
          return value === undefined
      }
    })
  )
}
