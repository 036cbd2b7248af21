/** Objects between the version in which they are kept and the one in which they are asked for. */
import type { ApiObject } from './object.ts'
import { apiVersionOf, type Resource } from './resources.ts'

/** The object in the version that was asked for. */
export function presented(resource: Resource, object: ApiObject): ApiObject {
  const apiVersion = apiVersionOf(resource)
  return object.apiVersion === apiVersion ? object : { ...object, apiVersion }
}

/** The object in the version in which it is kept. */
export function stored(resource: Resource, object: ApiObject): ApiObject {
  return { ...object, apiVersion: apiVersionOf({ group: resource.group, version: resource.storageVersion }) }
}
