/** Reads Kubernetes' label selectors. */
import type { LabelSelector } from '../../shared/kube/object.ts'
import type { Fields } from './fields.ts'

export function readSelector(selector: Fields): LabelSelector {
  return {
    matchLabels: selector.labels('matchLabels'),
    matchExpressions: selector.list('matchExpressions').map(expression => ({
      key: expression.text('key'),
      operator: expression.oneOf('operator', ['In', 'NotIn', 'Exists', 'DoesNotExist'], 'In'),
      values: expression.texts('values')
    }))
  }
}
