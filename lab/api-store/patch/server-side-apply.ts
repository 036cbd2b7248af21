/**
 * Server-side apply: merges what an applier wants into the live object, takes away what it wanted before and
 * does not want any more, and refuses to change what others own. Source: Kubernetes, "Server-Side Apply".
 */
import { ApiError, type Cause } from '../api-error.ts'
import { clone, define, isObject, type JsonObject, type MutableObject } from '../json.ts'
import type { FieldType, ListType } from '../schema/field-types.ts'
import {
  compare,
  difference,
  emptySet,
  fieldsOf,
  intersection,
  isEmpty,
  itemStep,
  memberType,
  paths,
  union,
  type FieldSet
} from './field-set.ts'
import { managerKey, withoutChanges, type Owner, type Owners, type Writing } from './managed-fields.ts'

export interface Applied {
  readonly object: JsonObject
  readonly owners: Owners
}

/** Throws 409 with a cause for each field that another owns, unless `force` takes them over. */
export function applyConfiguration(
  live: JsonObject,
  configuration: JsonObject,
  owners: Owners,
  writing: Writing,
  force: boolean
): Applied {
  const key = managerKey(writing.manager)
  const previous = owners.get(key)
  const wanted = fieldsOf(configuration, writing.type)
  const others = new Map([...owners].filter(([other]) => other !== key))
  const ownedByOthers = [...others.values()].reduce((set, owner) => union(set, owner.set), emptySet)
  const abandoned = difference(difference(previous?.set ?? emptySet, wanted), ownedByOthers)
  const merged = removeFields(
    mergeValue(live, configuration, writing.type),
    abandoned,
    writing.type,
    union(ownedByOthers, wanted)
  )
  const object = isObject(merged) ? merged : {}
  const comparison = compare(live, object, writing.type)
  const conflicts = [...others.values()]
    .map(owner => ({ owner, fields: intersection(owner.set, comparison.changed) }))
    .filter(({ fields }) => !isEmpty(fields))
  if (conflicts.length > 0 && !force) throw conflictError(conflicts)
  const next = new Map(withoutChanges(others, key, comparison))
  next.set(key, { manager: writing.manager, time: timeOf(previous, wanted, writing), set: wanted })
  return { object, owners: next }
}

function timeOf(previous: Owner | undefined, wanted: FieldSet, writing: Writing): string {
  const same =
    previous !== undefined &&
    isEmpty(difference(previous.set, wanted)) &&
    isEmpty(difference(wanted, previous.set))
  return same ? previous.time : writing.time
}

function conflictError(conflicts: readonly { owner: Owner; fields: FieldSet }[]): ApiError {
  const causes = conflicts.flatMap(({ owner, fields }): Cause[] => {
    const by = conflictText(owner)
    return paths(fields).map(field => ({ reason: 'FieldManagerConflict', message: by, field }))
  })
  const [first, ...more] = causes
  const text =
    more.length === 0
      ? `Apply failed with 1 conflict: ${first?.message}: ${first?.field}`
      : `Apply failed with ${causes.length} conflicts: ${grouped(causes)}`
  return new ApiError('Conflict', text, {}, causes)
}

function conflictText({ manager }: Owner): string {
  const { name, operation, apiVersion, subresource } = manager
  const place = subresource === '' ? '' : ` with subresource "${subresource}"`
  return `conflict with "${name}"${place}${operation === 'Update' ? ` using ${apiVersion}` : ''}`
}

function grouped(causes: readonly Cause[]): string {
  return [...Map.groupBy(causes, cause => cause.message)]
    .map(
      ([message, group]) =>
        `${message.replace('conflict', 'conflicts')}:\n${group.map(cause => `- ${cause.field}`).join('\n')}`
    )
    .join('\n')
}

function mergeValue(live: unknown, wanted: unknown, type: FieldType): unknown {
  if (isObject(wanted) && isObject(live) && isGranular(type)) {
    const merged: MutableObject = { ...live }
    for (const [name, value] of Object.entries(wanted)) {
      if (value === undefined) continue
      define(
        merged,
        name,
        mergeValue(Object.hasOwn(merged, name) ? merged[name] : undefined, value, memberType(type, name))
      )
    }
    return merged
  }
  if (Array.isArray(wanted) && Array.isArray(live) && type.kind === 'list' && type.merge !== 'atomic') {
    return mergeList(live, wanted, type)
  }
  return clone(wanted)
}

function isGranular(type: FieldType): boolean {
  return type.kind === 'untyped' || ((type.kind === 'struct' || type.kind === 'map') && !type.atomic)
}

/** Items of the applier in its order; those that only the live list has stay before the item they stood before. */
function mergeList(live: readonly unknown[], wanted: readonly unknown[], type: ListType): unknown[] {
  const wantedSteps = new Set(wanted.map(item => itemStep(item, type)))
  const liveItems = new Map(live.map(item => [itemStep(item, type), item]))
  const merged: unknown[] = []
  const done = new Set<string>()
  let position = 0
  const takeUnwanted = (): void => {
    for (; position < live.length; position += 1) {
      const step = itemStep(live[position], type)
      if (!wantedSteps.has(step)) merged.push(live[position])
      else if (!done.has(step)) return
    }
  }
  for (const item of wanted) {
    takeUnwanted()
    const step = itemStep(item, type)
    done.add(step)
    merged.push(mergeValue(liveItems.get(step), item, type.items))
  }
  takeUnwanted()
  return merged
}

/** Removes `gone` but for what is `kept`; what is left empty by that goes too. */
function removeFields(value: unknown, gone: FieldSet, type: FieldType, kept: FieldSet): unknown {
  if (isEmpty(gone)) return value
  if (isObject(value)) {
    const rest: MutableObject = {}
    for (const [name, inner] of Object.entries(value)) {
      const step = `f:${name}`
      const result = removeStep(inner, step, gone, memberType(type, name), kept)
      if (result !== undefined) define(rest, name, result)
    }
    return rest
  }
  if (!Array.isArray(value) || type.kind !== 'list') return value
  return value
    .map((item: unknown) => removeStep(item, itemStep(item, type), gone, type.items, kept))
    .filter(item => item !== undefined)
}

function removeStep(value: unknown, step: string, gone: FieldSet, type: FieldType, kept: FieldSet): unknown {
  const child = gone.children.get(step)
  if (child === undefined) return value
  const below = kept.children.get(step) ?? emptySet
  if (child.member && isEmpty(below)) return undefined
  const rest = removeFields(value, child, type, below)
  const empty =
    (isObject(rest) && Object.keys(rest).length === 0) || (Array.isArray(rest) && rest.length === 0)
  return empty && isEmpty(below) ? undefined : rest
}
