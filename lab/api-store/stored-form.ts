/** Objects between the form in which they are kept and the one in which they are asked for. */
import { fromCoreEvent, toCoreEvent } from './kinds/event.ts'
import type { ApiObject } from './object.ts'
import { apiVersionOf, type Resource } from './resources.ts'

/** The object in the version that was asked for. */
export function presented(resource: Resource, object: ApiObject): ApiObject {
  const apiVersion = apiVersionOf(resource)
  if (object.apiVersion === apiVersion) return object
  return resource.group === 'events.k8s.io' ? fromCoreEvent(object) : { ...object, apiVersion }
}

/** The object in the version in which it is kept. */
export function stored(resource: Resource, object: ApiObject): ApiObject {
  if (resource.group === 'events.k8s.io') return toCoreEvent(object)
  return { ...object, apiVersion: apiVersionOf({ group: resource.group, version: resource.storageVersion }) }
}
