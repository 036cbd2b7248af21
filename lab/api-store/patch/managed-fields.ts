/** Who owns which fields of an object: reading, writing and updating `metadata.managedFields`. */
import { equal, isObject, listOf, objectOf, textOf, type JsonObject, type MutableObject } from '../json.ts'
import type { ApiObject, ManagedFields } from '../object.ts'
import type { FieldType } from '../schema/field-types.ts'
import {
  compare,
  difference,
  emptySet,
  fromFieldsV1,
  isEmpty,
  toFieldsV1,
  union,
  type Comparison,
  type FieldSet
} from './field-set.ts'

/** A writer: owners are told apart by all of this. */
export interface Manager {
  readonly name: string
  readonly operation: 'Apply' | 'Update'
  readonly apiVersion: string
  readonly subresource: string
}

export interface Owner {
  readonly manager: Manager
  readonly time: string
  readonly set: FieldSet
}

export type Owners = ReadonlyMap<string, Owner>

/** Writers by Update that an object remembers; the oldest then become one. */
const maxUpdaters = 10

export function managerKey({ name, operation, apiVersion, subresource }: Manager): string {
  return [operation, subresource, apiVersion, name].join('\n')
}

export function readOwners(managedFields: unknown): Owners {
  const owners = new Map<string, Owner>()
  for (const item of listOf(managedFields)) {
    const entry = objectOf(item)
    if (!isObject(entry['fieldsV1'])) continue
    const manager: Manager = {
      name: textOf(entry['manager']),
      operation: entry['operation'] === 'Apply' ? 'Apply' : 'Update',
      apiVersion: textOf(entry['apiVersion']),
      subresource: textOf(entry['subresource'])
    }
    owners.set(managerKey(manager), {
      manager,
      time: textOf(entry['time']),
      set: fromFieldsV1(entry['fieldsV1'])
    })
  }
  return owners
}

export function writeOwners(owners: Owners): readonly ManagedFields[] {
  const all = [...owners.values()].filter(({ set }) => !isEmpty(set)).toSorted(compareOwners)
  return bounded(all).map(({ manager, time, set }) => ({
    manager: manager.name,
    operation: manager.operation,
    apiVersion: manager.apiVersion,
    ...(time === '' ? {} : { time }),
    fieldsType: 'FieldsV1',
    fieldsV1: toFieldsV1(set),
    ...(manager.subresource === '' ? {} : { subresource: manager.subresource })
  }))
}

function compareOwners(a: Owner, b: Owner): number {
  if (a.manager.operation !== b.manager.operation) return a.manager.operation === 'Apply' ? -1 : 1
  if (a.time !== b.time) return a.time < b.time ? -1 : 1
  return a.manager.name < b.manager.name ? -1 : 1
}

function bounded(owners: readonly Owner[]): readonly Owner[] {
  const updaters = owners.filter(
    ({ manager }) => manager.operation === 'Update' && manager.subresource === ''
  )
  const surplus = updaters.slice(0, Math.max(0, updaters.length - maxUpdaters + 1))
  const [first] = surplus
  if (first === undefined || surplus.length < 2) return owners
  const merged: Owner = {
    manager: { ...first.manager, name: 'ancient-changes' },
    time: surplus.at(-1)?.time ?? '',
    set: surplus.reduce((set, owner) => union(set, owner.set), emptySet)
  }
  return [...owners.filter(owner => !surplus.includes(owner)), merged].toSorted(compareOwners)
}

/** Fields that the server sets or that say which object it is; nobody owns them. */
const unownedFields = ['apiVersion', 'kind']
const unownedMetadata = [
  'name',
  'generateName',
  'namespace',
  'selfLink',
  'uid',
  'clusterName',
  'generation',
  'managedFields',
  'resourceVersion',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds'
]

/** The object without what nobody owns; `status` too where it belongs to its sub-resource. */
export function ownable(object: JsonObject, withStatus: boolean): JsonObject {
  const rest: MutableObject = { ...object }
  for (const field of unownedFields) delete rest[field]
  if (!withStatus) delete rest['status']
  const metadata = { ...objectOf(object['metadata']) }
  for (const field of unownedMetadata) delete metadata[field]
  if (Object.keys(metadata).length === 0) delete rest['metadata']
  else rest['metadata'] = metadata
  return rest
}

export interface Writing {
  readonly manager: Manager
  readonly type: FieldType
  /** RFC 3339. */
  readonly time: string
}

/** Owners after an update: who changes a field owns it from then on. */
export function ownersAfterUpdate(
  owners: Owners,
  before: JsonObject,
  after: JsonObject,
  writing: Writing
): Owners {
  const comparison = compare(before, after, writing.type)
  if (isEmpty(comparison.changed) && isEmpty(comparison.removed)) return owners
  const key = managerKey(writing.manager)
  const next = new Map(withoutChanges(owners, key, comparison))
  const own = owners.get(key)
  const set = difference(union(own?.set ?? emptySet, comparison.changed), comparison.removed)
  const time = own !== undefined && equal(toFieldsV1(own.set), toFieldsV1(set)) ? own.time : writing.time
  next.set(key, { manager: writing.manager, time, set })
  return next
}

/** Takes what changed away from all owners but `except`, and what is gone from all. */
export function withoutChanges(owners: Owners, except: string, { changed, removed }: Comparison): Owners {
  const next = new Map<string, Owner>()
  for (const [key, owner] of owners) {
    const kept = difference(owner.set, removed)
    next.set(key, { ...owner, set: key === except ? kept : difference(kept, changed) })
  }
  return next
}

/** What a client that writes the whole object says of its managers: undefined when it says nothing. */
export function givenOwners(object: ApiObject): Owners | undefined {
  const given = object.metadata.managedFields
  return given === undefined ? undefined : readOwners(given)
}
