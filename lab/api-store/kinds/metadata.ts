/** Rules for `metadata`, the same for every kind. */
import { forbiddenField, invalidValue, required, type Problem } from '../api-error.ts'
import { equal, isObject, listOf, objectOf, textOf, type JsonObject } from '../json.ts'
import type { ApiObject } from '../object.ts'
import { checkLabels, checkName, checkQualifiedName, type NameForm } from './names.ts'

/** All annotations of an object together, in bytes. */
const maxAnnotationBytes = 256 << 10

export function checkMetadata(object: ApiObject, form: NameForm): Problem[] {
  const { name, labels, annotations, finalizers, ownerReferences } = object.metadata
  return [
    ...(name === ''
      ? [required('metadata.name', 'name or generateName is required')]
      : checkName('metadata.name', name, form)),
    ...checkLabels('metadata.labels', labels),
    ...checkAnnotations(annotations),
    ...listOf(finalizers).flatMap(finalizer => checkQualifiedName('metadata.finalizers', String(finalizer))),
    ...listOf(ownerReferences).flatMap(reference => checkOwner(objectOf(reference))),
    ...checkControllers(listOf(ownerReferences))
  ]
}

function checkAnnotations(annotations: unknown): Problem[] {
  if (!isObject(annotations)) return []
  const bytes = Object.entries(annotations).reduce(
    (sum, [key, value]) => sum + key.length + textOf(value).length,
    0
  )
  const problems = Object.keys(annotations).flatMap(key =>
    checkQualifiedName('metadata.annotations', key.toLowerCase())
  )
  if (bytes <= maxAnnotationBytes) return problems
  const detail = `may not be more than ${maxAnnotationBytes} bytes`
  return [...problems, { field: 'metadata.annotations', reason: 'FieldValueTooLong', detail }]
}

function checkOwner(owner: JsonObject): Problem[] {
  return ['apiVersion', 'kind', 'name', 'uid'].flatMap(name =>
    textOf(owner[name]) === ''
      ? [invalidValue(`metadata.ownerReferences.${name}`, '', 'must not be empty')]
      : []
  )
}

function checkControllers(owners: readonly unknown[]): Problem[] {
  const controllers = owners.filter(owner => objectOf(owner)['controller'] === true)
  if (controllers.length < 2) return []
  const detail = 'Only one reference can have Controller set to true'
  return [invalidValue('metadata.ownerReferences', owners, detail)]
}

export function checkMetadataUpdate(object: ApiObject, old: ApiObject): Problem[] {
  const immutable = (['name', 'namespace', 'uid', 'creationTimestamp'] as const).flatMap(field =>
    object.metadata[field] === old.metadata[field]
      ? []
      : [invalidValue(`metadata.${field}`, object.metadata[field], 'field is immutable')]
  )
  const { deletionTimestamp, finalizers = [] } = old.metadata
  const added = listOf(object.metadata.finalizers).filter(name => !finalizers.includes(String(name)))
  if (deletionTimestamp === undefined || added.length === 0) return immutable
  const detail = `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`
  return [...immutable, forbiddenField('metadata.finalizers', detail)]
}

/** A problem when a field that is fixed at creation changed. */
export function immutableField(field: string, value: unknown, old: unknown): Problem[] {
  return equal(value, old) ? [] : [invalidValue(field, value, 'field is immutable')]
}
