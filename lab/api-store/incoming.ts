/** What a client sent, taken into the shape of its kind, and held to the place where it was sent. */
import { ApiError, badRequest, conflict, invalid, invalidValue, qualified } from './api-error.ts'
import { objectOf, textOf, type JsonObject, type MutableObject } from './json.ts'
import type { ApiObject } from './object.ts'
import { apiVersionOf, type Resource } from './resources.ts'
import { conform } from './schema/conform.ts'
import type { WriteContext } from './write-context.ts'

/** A copy without fields that the kind does not have. Throws 400. */
export function decodeObject(resource: Resource, body: JsonObject, write: WriteContext): MutableObject {
  const apiVersion = apiVersionOf(resource)
  if (body['kind'] !== resource.kind || body['apiVersion'] !== apiVersion) {
    const found = `${textOf(body['apiVersion'])}, Kind=${textOf(body['kind'])}`
    throw badRequest(
      `the object provided is unrecognized (must be of type ${resource.kind}): ${found} is not ${apiVersion}, Kind=${resource.kind}`
    )
  }
  const { value, unknown, mistyped } = conform(body, resource.type, resource.origin)
  const [first] = mistyped
  if (first !== undefined) {
    throw badRequest(
      `${resource.kind} in version "${resource.version}" cannot be handled as a ${resource.kind}: ${mistyped.join('; ')}`
    )
  }
  if (unknown.length > 0 && write.fieldValidation === 'Strict') {
    throw badRequest(`strict decoding error: ${unknown.map(field => `unknown field "${field}"`).join(', ')}`)
  }
  if (write.fieldValidation === 'Warn') for (const field of unknown) write.warn(`unknown field "${field}"`)
  return { ...value, metadata: { ...objectOf(value['metadata']) } }
}

export function checkGivenName(metadata: JsonObject, name: string): void {
  const given = textOf(metadata['name'])
  if (given === name) return
  throw badRequest(`the name of the object (${given}) does not match the name on the URL (${name})`)
}

export function checkGivenNamespace(resource: Resource, namespace: string, metadata: JsonObject): void {
  const given = textOf(metadata['namespace'])
  if (resource.namespaced ? given === '' || given === namespace : given === '') return
  throw badRequest(
    resource.namespaced
      ? `the namespace of the provided object does not match the namespace sent on the request`
      : `the namespace of ${qualified(resource)} may not be set`
  )
}

/** Throws 409 when the client changed another version than the current one. */
export function checkGivenVersion(resource: Resource, current: ApiObject, version: unknown): void {
  if (version === undefined || version === '' || version === current.metadata.resourceVersion) return
  const why = 'the object has been modified; please apply your changes to the latest version and try again'
  throw conflict(resource, current.metadata.name, why)
}

export function checkGivenUid(resource: Resource, current: ApiObject, uid: unknown): void {
  if (uid === undefined || uid === current.metadata.uid) return
  const why = `Precondition failed: UID in precondition: ${textOf(uid)}, UID in object meta: ${current.metadata.uid}`
  throw conflict(resource, current.metadata.name, why)
}

/** Custom resources are replaced only by those who say which version they replace. */
export function checkVersionGiven(resource: Resource, name: string, version: unknown): void {
  if (resource.origin === 'builtin' || textOf(version) !== '') return
  const problem = invalidValue('metadata.resourceVersion', 0, 'must be specified for an update')
  throw invalid({ group: resource.group, kind: resource.plural }, name, [problem])
}

const maxObjectBytes = 3 << 20

export function checkSize(object: ApiObject): void {
  const bytes = Buffer.byteLength(JSON.stringify(object))
  if (bytes > maxObjectBytes) {
    throw new ApiError(
      'RequestEntityTooLarge',
      `the object has ${bytes} bytes, more than the limit of ${maxObjectBytes}`
    )
  }
}
