/** Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs and CronJobs: kinds that make pods from a template. */
import { invalidValue, required, unsupported, type Problem } from '../api-error.ts'
import { at, equal, isObject, objectOf, textOf, type JsonObject, type MutableObject } from '../json.ts'
import type { ApiObject } from '../object.ts'
import { matchesSelector, type Labels } from '../selectors.ts'
import { immutableField } from './metadata.ts'
import { checkLabels } from './names.ts'
import { setPodSpecDefaults } from './pod-defaults.ts'
import { checkNotNegative, checkPodSpec } from './pod-validation.ts'
import { child, fill, type Strategy } from './strategy.ts'

export const deploymentStrategy: Strategy = {
  generation: true,
  setDefaults: object => {
    const spec = child(object, 'spec')
    fill(spec, { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600, strategy: {} })
    const strategy = child(spec, 'strategy')
    fill(strategy, { type: 'RollingUpdate' })
    if (strategy['type'] === 'RollingUpdate') {
      fill(child(strategy, 'rollingUpdate'), { maxUnavailable: '25%', maxSurge: '25%' })
    }
    setTemplateDefaults(spec)
  },
  validate: object => {
    const spec = objectOf(object['spec'])
    return [
      ...checkWorkload(spec, ['Always']),
      ...checkType(objectOf(spec['strategy']), 'spec.strategy', ['Recreate', 'RollingUpdate'])
    ]
  },
  validateUpdate: checkSelectorKept
}

export const replicaSetStrategy: Strategy = {
  generation: true,
  setDefaults: object => {
    fill(child(object, 'spec'), { replicas: 1 })
    setTemplateDefaults(child(object, 'spec'))
  },
  prepareCreate: object => {
    object['status'] = { replicas: 0 }
  },
  validate: object => checkWorkload(objectOf(object['spec']), ['Always']),
  validateUpdate: checkSelectorKept
}

export const statefulSetStrategy: Strategy = {
  generation: true,
  setDefaults: object => {
    const spec = child(object, 'spec')
    fill(spec, {
      replicas: 1,
      revisionHistoryLimit: 10,
      podManagementPolicy: 'OrderedReady',
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' }
    })
    setTemplateDefaults(spec)
  },
  prepareCreate: object => {
    object['status'] = { availableReplicas: 0, replicas: 0 }
  },
  validate: object => [
    ...checkWorkload(objectOf(object['spec']), ['Always']),
    ...checkType(objectOf(at(object, 'spec', 'updateStrategy')), 'spec.updateStrategy', [
      'OnDelete',
      'RollingUpdate'
    ])
  ],
  validateUpdate: (object, old) => {
    const mutable = [
      'replicas',
      'ordinals',
      'template',
      'updateStrategy',
      'revisionHistoryLimit',
      'persistentVolumeClaimRetentionPolicy',
      'minReadySeconds'
    ]
    const fixed = (value: ApiObject): JsonObject =>
      Object.fromEntries(Object.entries(objectOf(value['spec'])).filter(([key]) => !mutable.includes(key)))
    if (equal(fixed(object), fixed(old))) return []
    const list = mutable.map(name => `'${name}'`).join(', ')
    const detail = `updates to statefulset spec for fields other than ${list} are forbidden`
    return [{ field: 'spec', reason: 'FieldValueForbidden', detail }]
  }
}

/** Counts changes of a DaemonSet's template, for tools from before `metadata.generation` did. */
const templateGeneration = 'deprecated.daemonset.template.generation'

export const daemonSetStrategy: Strategy = {
  generation: true,
  setDefaults: object => {
    const spec = child(object, 'spec')
    fill(spec, { revisionHistoryLimit: 10, updateStrategy: { type: 'RollingUpdate' } })
    const strategy = child(spec, 'updateStrategy')
    if (strategy['type'] === 'RollingUpdate') {
      fill(child(strategy, 'rollingUpdate'), { maxSurge: 0, maxUnavailable: 1 })
    }
    setTemplateDefaults(spec)
  },
  prepareCreate: object => {
    child(child(object, 'metadata'), 'annotations')[templateGeneration] = '1'
    const counts = ['currentNumberScheduled', 'numberMisscheduled', 'desiredNumberScheduled', 'numberReady']
    object['status'] = Object.fromEntries(counts.map(count => [count, 0]))
  },
  prepareUpdate: (object, old) => {
    const before = Number(old.metadata.annotations?.[templateGeneration] ?? 1)
    const changed = !equal(at(object, 'spec', 'template'), at(old, 'spec', 'template'))
    child(child(object, 'metadata'), 'annotations')[templateGeneration] = String(
      changed ? before + 1 : before
    )
  },
  validate: object => [
    ...checkWorkload(objectOf(object['spec']), ['Always']),
    ...checkType(objectOf(at(object, 'spec', 'updateStrategy')), 'spec.updateStrategy', [
      'OnDelete',
      'RollingUpdate'
    ])
  ],
  validateUpdate: checkSelectorKept
}

export const jobStrategy: Strategy = {
  generation: true,
  setDefaults: object => setJobDefaults(child(object, 'spec')),
  prepareCreate: object => {
    const spec = child(object, 'spec')
    if (spec['manualSelector'] === true) return
    const uid = textOf(at(object, 'metadata', 'uid'))
    const labels = {
      'batch.kubernetes.io/controller-uid': uid,
      'batch.kubernetes.io/job-name': at(object, 'metadata', 'name'),
      'controller-uid': uid,
      'job-name': at(object, 'metadata', 'name')
    }
    Object.assign(child(child(child(spec, 'template'), 'metadata'), 'labels'), labels)
    if (spec['selector'] === undefined) {
      spec['selector'] = { matchLabels: { 'batch.kubernetes.io/controller-uid': uid } }
    }
    fill(child(object, 'metadata'), { labels: at(spec, 'template', 'metadata', 'labels') })
  },
  validate: object => checkWorkload(objectOf(object['spec']), ['OnFailure', 'Never']),
  validateUpdate: (object, old) => [
    ...checkSelectorKept(object, old),
    ...(at(object, 'spec', 'suspend') === true
      ? []
      : immutableField('spec.template', at(object, 'spec', 'template'), at(old, 'spec', 'template')))
  ]
}

export const cronJobStrategy: Strategy = {
  generation: true,
  setDefaults: object => {
    const spec = child(object, 'spec')
    fill(spec, {
      concurrencyPolicy: 'Allow',
      suspend: false,
      successfulJobsHistoryLimit: 3,
      failedJobsHistoryLimit: 1
    })
    if (!isObject(spec['jobTemplate'])) return
    const template = child(spec, 'jobTemplate')
    fill(template, { metadata: {} })
    setTemplateDefaults(child(template, 'spec'))
  },
  validate: object => {
    const spec = objectOf(object['spec'])
    const template = 'spec.jobTemplate.spec.template'
    return [
      ...(textOf(spec['schedule']) === '' ? [required('spec.schedule')] : []),
      ...checkTemplate(objectOf(at(spec, 'jobTemplate', 'spec', 'template')), template, [
        'OnFailure',
        'Never'
      ])
    ]
  }
}

function setJobDefaults(spec: MutableObject): void {
  fill(spec, {
    backoffLimit: 6,
    completionMode: 'NonIndexed',
    suspend: false,
    manualSelector: false,
    podReplacementPolicy: spec['podFailurePolicy'] === undefined ? 'TerminatingOrFailed' : 'Failed'
  })
  if (spec['completions'] === undefined && spec['parallelism'] === undefined) fill(spec, { completions: 1 })
  fill(spec, { parallelism: 1 })
  setTemplateDefaults(spec)
}

function setTemplateDefaults(spec: MutableObject): void {
  if (!isObject(spec['template'])) return
  const template = child(spec, 'template')
  fill(template, { metadata: {} })
  setPodSpecDefaults(child(template, 'spec'))
}

function checkWorkload(spec: JsonObject, restartPolicies: readonly string[]): Problem[] {
  const template = objectOf(spec['template'])
  return [
    ...checkNotNegative('spec.replicas', spec['replicas']),
    ...checkSelector(spec['selector'], objectOf(at(template, 'metadata', 'labels')) as Labels),
    ...checkTemplate(template, 'spec.template', restartPolicies)
  ]
}

function checkSelector(selector: unknown, labels: Labels): Problem[] {
  const detail = '`selector` does not match template `labels`'
  const mismatch = invalidValue('spec.template.metadata.labels', labels, detail)
  if (!isObject(selector)) return [required('spec.selector'), mismatch]
  const { matchLabels, matchExpressions } = selector
  const empty =
    Object.keys(objectOf(matchLabels)).length === 0 &&
    !(Array.isArray(matchExpressions) && matchExpressions.length > 0)
  if (empty) return [invalidValue('spec.selector', selector, 'empty selector is invalid for deployment')]
  return matchesSelector(selector, labels) ? [] : [mismatch]
}

function checkTemplate(template: JsonObject, field: string, restartPolicies: readonly string[]): Problem[] {
  const spec = objectOf(template['spec'])
  const policy = spec['restartPolicy']
  return [
    ...checkLabels(`${field}.labels`, at(template, 'metadata', 'labels')),
    ...checkPodSpec(spec, `${field}.spec`),
    ...checkRestartPolicy(`${field}.spec.restartPolicy`, policy, restartPolicies)
  ]
}

function checkSelectorKept(object: ApiObject, old: ApiObject): Problem[] {
  return immutableField('spec.selector', at(object, 'spec', 'selector'), at(old, 'spec', 'selector'))
}

function checkType(strategy: JsonObject, field: string, types: readonly string[]): Problem[] {
  const type = strategy['type']
  if (type === undefined) return [required(`${field}.type`)]
  return types.includes(textOf(type)) ? [] : [unsupported(`${field}.type`, type, types)]
}

function checkRestartPolicy(field: string, policy: unknown, choices: readonly string[]): Problem[] {
  if (policy === undefined || choices.includes(textOf(policy))) return []
  if (choices.length === 1) return [unsupported(field, policy, choices)]
  // the default of pods is none of a job's
  if (policy === 'Always')
    return [required(field, `valid values: ${choices.map(name => `"${name}"`).join(', ')}`)]
  return [unsupported(field, policy, choices)]
}
