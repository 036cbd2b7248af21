/** Pods: admission of the service account, status at creation, and what may change later. */
import { forbidden, forbiddenField, type Problem } from '../api-error.ts'
import {
  at,
  equal,
  isObject,
  listOf,
  objectOf,
  textOf,
  type JsonObject,
  type MutableObject
} from '../json.ts'
import { randomSuffix } from './generated-name.ts'
import { checkPodSpec } from './pod-validation.ts'
import { setPodSpecDefaults } from './pod-defaults.ts'
import { child, fill, items, type KindContext, type Strategy } from './strategy.ts'

const pods = { group: '', plural: 'pods' }
const tokenMountPath = '/var/run/secrets/kubernetes.io/serviceaccount'
/** Lifetime that Kubernetes asks for: an hour and seven seconds, by which the kubelet tells its default apart. */
const tokenSeconds = 3607

export const podStrategy: Strategy = {
  generation: true,
  setDefaults: pod => {
    const spec = child(pod, 'spec')
    setPodSpecDefaults(spec)
    fill(spec, { enableServiceLinks: true })
  },
  prepareCreate: (pod, context) => {
    const spec = child(pod, 'spec')
    addServiceAccount(pod, spec, context)
    fill(spec, { priority: 0, preemptionPolicy: 'PreemptLowerPriority' })
    addTolerations(spec)
    pod['status'] = { phase: 'Pending', qosClass: qosClass(spec) }
  },
  validate: pod => checkPodSpec(objectOf(pod['spec']), 'spec'),
  validateUpdate: (pod, old) => checkPodChange(objectOf(pod['spec']), objectOf(old['spec']))
}

/** The ServiceAccount admission: the account exists, and its token is mounted unless pod or account decline. */
function addServiceAccount(pod: MutableObject, spec: MutableObject, context: KindContext): void {
  fill(spec, { serviceAccountName: 'default' })
  spec['serviceAccount'] = spec['serviceAccountName']
  const namespace = textOf(at(pod, 'metadata', 'namespace'))
  const name = textOf(spec['serviceAccountName'])
  const account = context.find('/serviceaccounts', namespace, name)
  if (account === undefined) {
    const why = `error looking up service account ${namespace}/${name}: serviceaccount "${name}" not found`
    throw forbidden(pods, textOf(at(pod, 'metadata', 'name')), why)
  }
  const mount = spec['automountServiceAccountToken'] ?? account['automountServiceAccountToken'] ?? true
  if (mount !== true) return
  const containers = [...items(spec, 'initContainers'), ...items(spec, 'containers')].filter(
    container =>
      !listOf(container['volumeMounts']).some(item => objectOf(item)['mountPath'] === tokenMountPath)
  )
  if (containers.length === 0) return
  const volume = `kube-api-access-${randomSuffix()}`
  spec['volumes'] = [...listOf(spec['volumes']), tokenVolume(volume)]
  for (const container of containers) {
    const mounts = listOf(container['volumeMounts'])
    container['volumeMounts'] = [...mounts, { name: volume, readOnly: true, mountPath: tokenMountPath }]
  }
}

function tokenVolume(name: string): JsonObject {
  const namespaceFile = { path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }
  const sources = [
    { serviceAccountToken: { expirationSeconds: tokenSeconds, path: 'token' } },
    { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
    { downwardAPI: { items: [namespaceFile] } }
  ]
  return { name, projected: { sources, defaultMode: 420 } }
}

function addTolerations(spec: MutableObject): void {
  const tolerations = listOf(spec['tolerations']).map(objectOf)
  const missing = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'].filter(
    key =>
      !tolerations.some(
        known => (known['key'] === key || known['key'] === undefined) && known['effect'] !== 'NoSchedule'
      )
  )
  const added = missing.map(key => ({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 }))
  if (added.length > 0) spec['tolerations'] = [...tolerations, ...added]
}

function qosClass(spec: JsonObject): string {
  const all = [...listOf(spec['initContainers']), ...listOf(spec['containers'])].map(item =>
    objectOf(objectOf(item)['resources'])
  )
  const some = all.some(({ requests, limits }) =>
    [requests, limits].some(set => Object.keys(objectOf(set)).length > 0)
  )
  if (!some) return 'BestEffort'
  const guaranteed = all.every(({ requests, limits }) => {
    const [wanted, bound] = [objectOf(requests), objectOf(limits)]
    return ['cpu', 'memory'].every(
      name => bound[name] !== undefined && (wanted[name] === undefined || equal(wanted[name], bound[name]))
    )
  })
  return guaranteed ? 'Guaranteed' : 'Burstable'
}

const mutableSpecFields =
  '`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)'

function checkPodChange(spec: JsonObject, old: JsonObject): Problem[] {
  // a pod that is on no node yet may be given one, as by a Binding
  const before = textOf(old['nodeName']) === '' ? { ...old, nodeName: spec['nodeName'] } : old
  if (equal(fixedPart(spec), fixedPart(before))) return []
  return [forbiddenField('spec', `pod updates may not change fields other than ${mutableSpecFields}`)]
}

function fixedPart(spec: JsonObject): JsonObject {
  const withoutImage = (item: unknown): unknown => (isObject(item) ? { ...item, image: '' } : item)
  return {
    ...spec,
    containers: listOf(spec['containers']).map(withoutImage),
    initContainers: listOf(spec['initContainers']).map(withoutImage),
    ephemeralContainers: undefined,
    activeDeadlineSeconds: undefined,
    tolerations: undefined
  }
}
