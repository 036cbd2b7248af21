/** Sub-resources that are not the object itself: scale, token, eviction, binding, finalize. */
import { ApiError, badRequest, notFound } from '../api-error.ts'
import type { BoundObject, TokenAuthority } from '../auth/tokens.ts'
import {
  at,
  define,
  has,
  isObject,
  listOf,
  numberOf,
  objectOf,
  textOf,
  type JsonObject,
  type MutableObject
} from '../json.ts'
import { timestamp, type ApiObject, type ObjectKey } from '../object.ts'
import type { ApiObjects } from '../objects.ts'
import type { WriteContext } from '../write-context.ts'
import type { Resource, ScalePaths } from '../resources.ts'
import { formatLabelSelector } from '../selectors.ts'

const builtinScale: ScalePaths = {
  specReplicasPath: '.spec.replicas',
  statusReplicasPath: '.status.replicas',
  labelSelectorPath: '.spec.selector'
}

/** The Scale of an object. */
export function scaleOf(resource: Resource, object: ApiObject): JsonObject {
  const paths = resource.scale ?? builtinScale
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata
  const selector =
    paths.labelSelectorPath === undefined ? undefined : valueAt(object, paths.labelSelectorPath)
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: numberOf(valueAt(object, paths.specReplicasPath)) ?? 0 },
    status: {
      replicas: numberOf(valueAt(object, paths.statusReplicasPath)) ?? 0,
      ...(selector === undefined
        ? {}
        : { selector: typeof selector === 'string' ? selector : formatLabelSelector(selector) })
    }
  }
}

/** Writes what `change` makes of the Scale. */
export function changeScale(
  objects: ApiObjects,
  resource: Resource,
  key: ObjectKey,
  change: (scale: JsonObject) => unknown,
  write: WriteContext
): JsonObject {
  const current = objects.get(resource, key)
  const scale = change(scaleOf(resource, current))
  const replicas = at(scale, 'spec', 'replicas') ?? 0
  const version = textOf(at(scale, 'metadata', 'resourceVersion'))
  if (!Number.isInteger(replicas) || Number(replicas) < 0)
    throw badRequest('spec.replicas: Invalid value: must be greater than or equal to 0')
  const changed = objects.patch(
    resource,
    key,
    object => {
      const copy = structuredClone(object) as unknown as MutableObject
      setAt(copy, resource.scale?.specReplicasPath ?? builtinScale.specReplicasPath, replicas)
      return {
        ...copy,
        metadata: { ...objectOf(copy['metadata']), ...(version === '' ? {} : { resourceVersion: version }) }
      }
    },
    { ...write, subresource: 'scale' }
  )
  return scaleOf(resource, changed)
}

function valueAt(object: JsonObject, path: string): unknown {
  return at(object, ...path.slice(1).split('.'))
}

function setAt(object: MutableObject, path: string, value: unknown): void {
  const steps = path.slice(1).split('.')
  let parent = object
  for (const step of steps.slice(0, -1)) {
    if (!has(parent, step) || !isObject(parent[step])) define(parent, step, {})
    parent = parent[step] as MutableObject
  }
  define(parent, steps.at(-1) ?? '', value)
}

const minTokenSeconds = 600
const defaultTokenSeconds = 3600
const maxTokenSeconds = 2 ** 32

/** The answer to a TokenRequest for a service account. */
export function requestToken(
  objects: ApiObjects,
  tokens: TokenAuthority,
  account: ApiObject,
  body: JsonObject
): JsonObject {
  const spec = objectOf(body['spec'])
  const expirationSeconds = numberOf(spec['expirationSeconds']) ?? defaultTokenSeconds
  if (expirationSeconds < minTokenSeconds || expirationSeconds > maxTokenSeconds) {
    throw new ApiError(
      'Invalid',
      `TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: ${expirationSeconds}: may not specify a duration less than 10 minutes or longer than 2^32 seconds`
    )
  }
  const audiences = listOf(spec['audiences']).map(textOf)
  const reference = spec['boundObjectRef']
  const { bound, node } = isObject(reference) ? boundObject(objects, account, reference) : {}
  const { token, expiresAt } = tokens.issue({
    account,
    audiences,
    expirationSeconds,
    ...(bound === undefined ? {} : { bound }),
    ...(node === undefined ? {} : { node })
  })
  const { name, namespace } = account.metadata
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name, namespace, creationTimestamp: timestamp(expiresAt - expirationSeconds * 1000) },
    spec: { ...spec, expirationSeconds },
    status: { token, expirationTimestamp: timestamp(expiresAt) }
  }
}

function boundObject(
  objects: ApiObjects,
  account: ApiObject,
  reference: JsonObject
): { bound: BoundObject; node?: { name: string; uid: string } } {
  const { kind } = reference
  const name = textOf(reference['name'])
  const { namespace = '' } = account.metadata
  if (kind !== 'Pod' && kind !== 'Secret')
    throw badRequest(`cannot bind token for serviceaccount to object of type ${String(kind)}`)
  const plural = kind === 'Pod' ? 'pods' : 'secrets'
  const find = (collection: string, place: string, wanted: string): ApiObject | undefined =>
    objects.storage.collection(collection).get({ namespace: place, name: wanted })
  const found = find(`/${plural}`, namespace, name)
  if (found === undefined) throw notFound({ group: '', plural }, name)
  const uid = textOf(reference['uid'])
  if (uid !== '' && uid !== found.metadata.uid) {
    throw new ApiError(
      'Conflict',
      `the UID in the bound object reference (${uid}) does not match the UID in record. The object might have been deleted and then recreated`
    )
  }
  const bound: BoundObject = { kind, name, uid: found.metadata.uid }
  if (kind !== 'Pod') return { bound }
  if (at(found, 'spec', 'serviceAccountName') !== account.metadata.name) {
    throw badRequest(
      `cannot bind token for serviceaccount "${account.metadata.name}" to pod running with different serviceaccount name.`
    )
  }
  const node = textOf(at(found, 'spec', 'nodeName'))
  return node === ''
    ? { bound }
    : { bound, node: { name: node, uid: find('/nodes', '', node)?.metadata.uid ?? '' } }
}

/** A scheduler's decision: the pod runs on the node that the Binding names. */
export function bindPod(
  objects: ApiObjects,
  resource: Resource,
  key: ObjectKey,
  body: JsonObject,
  write: WriteContext
): void {
  const node = textOf(at(body, 'target', 'name'))
  if (node === '') throw badRequest('target.name: Required value')
  const pod = objects.get(resource, key)
  const current = textOf(at(pod, 'spec', 'nodeName'))
  if (current !== '') {
    throw new ApiError(
      'Conflict',
      `Operation cannot be fulfilled on pods/binding "${key.name}": pod ${key.name} is already assigned to node "${current}"`
    )
  }
  const scheduled = { type: 'PodScheduled', status: 'True', lastTransitionTime: timestamp(Date.now()) }
  objects.patch(
    resource,
    key,
    current => ({ ...current, spec: { ...objectOf(current['spec']), nodeName: node } }),
    write
  )
  objects.patch(
    resource,
    key,
    current => ({ ...current, status: { ...objectOf(current['status']), conditions: [scheduled] } }),
    { ...write, subresource: 'status' }
  )
}
