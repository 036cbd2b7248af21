/** What an update may change of an object, and what it counts as. */
import { clone, equal, objectOf, type JsonObject, type MutableObject } from './json.ts'
import type { ApiObject } from './object.ts'
import type { Resource } from './resources.ts'
import type { Strategy } from './kinds/strategy.ts'

/** Status is written through its sub-resource only. */
export function statusApart(resource: Resource): boolean {
  return resource.subresources.has('status')
}

/** What a write may change: the main resource all but status, the status sub-resource nothing but it. */
export function confineUpdate(
  resource: Resource,
  current: ApiObject,
  object: MutableObject,
  subresource: string
): MutableObject {
  const { metadata } = current
  if (subresource === 'status') {
    const own = clone(current) as unknown as MutableObject
    if (object['status'] === undefined) delete own['status']
    else own['status'] = object['status']
    const given = objectOf(object['metadata'])
    // Writing a built-in kind's status may change labels and annotations: node agents annotate pods this way.
    const marks =
      resource.origin === 'builtin' ? { labels: given['labels'], annotations: given['annotations'] } : {}
    return {
      ...own,
      metadata: withoutUndefined({
        ...metadata,
        ...marks,
        managedFields: given['managedFields'] ?? metadata.managedFields
      })
    }
  }
  const given = objectOf(object['metadata'])
  const next: MutableObject = {
    ...object,
    metadata: withoutUndefined({
      ...given,
      namespace: metadata.namespace,
      uid: metadata.uid,
      resourceVersion: metadata.resourceVersion,
      creationTimestamp: metadata.creationTimestamp,
      generation: metadata.generation,
      deletionTimestamp: metadata.deletionTimestamp,
      deletionGracePeriodSeconds: metadata.deletionGracePeriodSeconds,
      generateName: metadata.generateName
    })
  }
  if (statusApart(resource)) {
    if (current['status'] === undefined) delete next['status']
    else next['status'] = clone(current['status'])
  }
  return next
}

/** `metadata.generation` grows with every change beside metadata and status. */
export function countGeneration(strategy: Strategy, current: ApiObject, next: MutableObject): void {
  if (strategy.generation !== true) return
  const rest = (object: JsonObject): JsonObject => ({ ...object, metadata: undefined, status: undefined })
  if (equal(rest(current), rest(next))) return
  const metadata = next['metadata'] as MutableObject
  metadata['generation'] = (current.metadata.generation ?? 0) + 1
}

function withoutUndefined(object: JsonObject): MutableObject {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined))
}
