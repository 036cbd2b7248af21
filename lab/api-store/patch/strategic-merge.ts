/**
 * Strategic merge patch: a merge patch that knows which lists are keyed. Merge keys come from the kind's schema.
 * Source: Kubernetes, "Update API Objects in Place Using kubectl patch" and "Strategic Merge Patch".
 */
import { badRequest } from '../api-error.ts'
import { clone, define, equal, isObject, objectOf, type JsonObject, type MutableObject } from '../json.ts'
import type { FieldType, ListType } from '../schema/field-types.ts'

const orderDirective = '$setElementOrder/'
const deleteDirective = '$deleteFromPrimitiveList/'

export function applyStrategicMerge(target: JsonObject, patch: JsonObject, type: FieldType): JsonObject {
  return mergeObject(target, patch, type)
}

function mergeObject(target: JsonObject, patch: JsonObject, type: FieldType): JsonObject {
  const directive = patch['$patch']
  if (directive === 'replace') return withoutDirectives(patch)
  if (directive === 'delete') return {}
  if (directive !== undefined && directive !== 'merge') {
    throw badRequest(`Unknown patch type found: ${JSON.stringify(directive)}`)
  }
  const merged: MutableObject = retained(target, patch)
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith(orderDirective)) continue
    if (key.startsWith(deleteDirective)) {
      const field = key.slice(deleteDirective.length)
      const [current, removed] = [merged[field], Array.isArray(value) ? value : []]
      if (Array.isArray(current))
        merged[field] = current.filter(item => !removed.some(gone => equal(gone, item)))
    } else if (key.startsWith('$')) continue
    else if (value === null) delete merged[key]
    else
      define(
        merged,
        key,
        mergeValue(Object.hasOwn(merged, key) ? merged[key] : undefined, value, fieldOf(type, key))
      )
  }
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(orderDirective) || !Array.isArray(order)) continue
    const field = key.slice(orderDirective.length)
    const current = merged[field]
    const original = target[field]
    if (Array.isArray(current)) {
      const before = Array.isArray(original) ? original : []
      merged[field] = ordered(current, before, order, mergeKeyOf(fieldOf(type, field)))
    }
  }
  return merged
}

/** `$retainKeys` lists the fields that stay, so that changing a union member clears the other. */
function retained(target: JsonObject, patch: JsonObject): MutableObject {
  const keys = patch['$retainKeys']
  if (!Array.isArray(keys)) return { ...target }
  return Object.fromEntries(Object.entries(target).filter(([key]) => keys.includes(key)))
}

function mergeValue(current: unknown, value: unknown, type: FieldType | undefined): unknown {
  if (isObject(value)) return mergeObject(objectOf(current), value, type ?? untyped)
  if (Array.isArray(value) && type?.kind === 'list' && type.patchMerge) {
    return mergeList(Array.isArray(current) ? current : [], value, type)
  }
  return Array.isArray(value)
    ? value.map(item => (isObject(item) ? withoutDirectives(item) : item))
    : clone(value)
}

function mergeList(current: readonly unknown[], patch: readonly unknown[], type: ListType): unknown[] {
  const key = type.patchMergeKey
  if (key === undefined) {
    const merged = [...current, ...patch.filter(item => !current.some(known => equal(known, item)))]
    return ordered(merged, current, patch, undefined)
  }
  if (patch.some(item => isObject(item) && item['$patch'] === 'replace')) {
    return patch.filter(item => !(isObject(item) && item['$patch'] === 'replace')).map(item => clone(item))
  }
  let merged = [...current]
  for (const item of patch) {
    if (!isObject(item)) throw badRequest(`expected an object with the field ${key} in the list`)
    const id = item[key]
    if (id === undefined)
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`)
    const index = merged.findIndex(known => isObject(known) && equal(known[key], id))
    if (item['$patch'] === 'delete')
      merged = merged.filter(known => !(isObject(known) && equal(known[key], id)))
    else if (index === -1) merged.push(mergeObject({}, item, type.items))
    else merged[index] = mergeObject(objectOf(merged[index]), item, type.items)
  }
  return ordered(merged, current, patch, key)
}

/**
 * Items that the patch names come in its order, the others in theirs; where both are, an item of the others that
 * stood before one of the patch still does.
 */
function ordered(
  merged: readonly unknown[],
  original: readonly unknown[],
  order: readonly unknown[],
  key: string | undefined
): unknown[] {
  const idOf = (item: unknown): unknown => (key === undefined ? item : objectOf(item)[key])
  const placeIn = (list: readonly unknown[], item: unknown): number =>
    list.findIndex(other => equal(idOf(other), idOf(item)))
  const named = merged
    .filter(item => placeIn(order, item) !== -1)
    .toSorted((a, b) => placeIn(order, a) - placeIn(order, b))
  const others = merged.filter(item => placeIn(order, item) === -1)
  const result: unknown[] = []
  for (const item of named) {
    const place = placeIn(original, item)
    const before = place === -1 ? 0 : others.findIndex(other => placeIn(original, other) > place)
    result.push(...others.splice(0, before === -1 ? others.length : before), item)
  }
  return [...result, ...others]
}

function mergeKeyOf(type: FieldType | undefined): string | undefined {
  return type?.kind === 'list' ? type.patchMergeKey : undefined
}

function fieldOf(type: FieldType, name: string): FieldType | undefined {
  if (type.kind === 'struct') return type.field(name)
  return type.kind === 'map' ? type.values : undefined
}

function withoutDirectives(value: JsonObject): JsonObject {
  return mergeObject(
    {},
    Object.fromEntries(Object.entries(value).filter(([key]) => key !== '$patch')),
    untyped
  )
}

const untyped: FieldType = { kind: 'untyped', schema: {} }
