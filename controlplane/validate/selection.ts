/** Which workloads or targets an object is for: a selector, or references, never both. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'

/** Kinds that a policy may be attached to, as `group/kind`; '' is the core group. */
const targets: ReadonlySet<string> = new Set([
  '/Service',
  'core/Service',
  'networking.istio.io/ServiceEntry',
  'gateway.networking.k8s.io/Gateway',
  'gateway.networking.k8s.io/GatewayClass'
])

/** `selector`, `targetRef` and `targetRefs` of a policy. */
export function checkSelection(spec: Fields, findings: Findings): void {
  const references = spec.list('targetRefs')
  const ways = [spec.has('selector'), spec.has('targetRef'), references.length > 0].filter(Boolean)
  if (ways.length > 1) {
    findings.error(
      spec.pathOf('targetRefs'),
      'more than one of selector, targetRef and targetRefs is set',
      'keep one of them'
    )
  }
  checkSelector(spec, findings)
  for (const reference of [...(spec.has('targetRef') ? [spec.at('targetRef')] : []), ...references]) {
    checkTarget(reference, findings)
  }
}

/** `selector` alone. */
export function checkSelector(spec: Fields, findings: Findings): void {
  if (spec.has('selector')) checkMatchedLabels(spec.at('selector'), findings)
}

/** `workloadSelector` of networking objects; false when it is wrong. */
export function checkWorkloadSelector(spec: Fields, findings: Findings): boolean {
  return !spec.has('workloadSelector') || checkLabelsOf(spec.at('workloadSelector'), 'labels', findings)
}

/** `matchLabels` of a selector. */
export function checkMatchedLabels(selector: Fields, findings: Findings): void {
  checkLabelsOf(selector, 'matchLabels', findings)
}

function checkLabelsOf(selector: Fields, name: string, findings: Findings): boolean {
  const labels = Object.entries(selector.labels(name))
  const field = selector.pathOf(name)
  let right = true
  for (const [key, value] of labels) {
    if (key !== '' && !key.includes('*') && !value.includes('*')) continue
    right = false
    if (key === '') findings.error(field, 'a label has an empty key', 'name the label')
    else findings.error(`${field}.${key}`, 'a selector has no wildcards', 'write the whole key and value')
  }
  if (labels.length === 0) {
    findings.warn(field, 'selects every workload of the namespace', 'name a label, or leave the selector out')
  }
  return right
}

function checkTarget(reference: Fields, findings: Findings): void {
  if (reference.text('name') === '') {
    findings.error(reference.pathOf('name'), 'is missing', 'name the object to attach to')
  }
  if (reference.text('namespace') !== '') {
    findings.error(
      reference.pathOf('namespace'),
      'targets of other namespaces are not supported',
      'leave it out and put the policy beside its target'
    )
  }
  const kind = `${reference.text('group')}/${reference.text('kind')}`
  if (!targets.has(kind)) {
    findings.error(
      reference.pathOf('kind'),
      `a policy cannot be attached to ${JSON.stringify(kind)}`,
      'use Service, networking.istio.io ServiceEntry, or Gateway or GatewayClass of gateway.networking.k8s.io'
    )
  }
}
