/**
 * Sets of fields as `managedFields` keep them (format FieldsV1): a tree whose steps are `f:` for a field,
 * `k:` for an item told apart by its keys, `v:` for a value of a set. Source: Kubernetes, "Server-Side Apply";
 * the format of structured-merge-diff.
 */
import { equal, isObject, objectOf, type JsonObject, type MutableObject } from '../json.ts'
import type { FieldType, ListType } from '../schema/field-types.ts'

export interface FieldSet {
  /** The path that leads here is itself in the set. */
  readonly member: boolean
  readonly children: ReadonlyMap<string, FieldSet>
}

export const emptySet: FieldSet = { member: false, children: new Map() }
const leaf: FieldSet = { member: true, children: new Map() }

/** Fields of a tree that is being built. */
interface Growing {
  member: boolean
  children: Map<string, FieldSet>
}

export function isEmpty(set: FieldSet): boolean {
  return !set.member && set.children.size === 0
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const children = new Map(a.children)
  for (const [step, child] of b.children) {
    const known = children.get(step)
    children.set(step, known === undefined ? child : union(known, child))
  }
  return { member: a.member || b.member, children }
}

export function difference(a: FieldSet, b: FieldSet): FieldSet {
  return combine(a, b, (inA, inB) => inA && !inB)
}

export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  return combine(a, b, (inA, inB) => inA && inB)
}

function combine(a: FieldSet, b: FieldSet, keep: (inA: boolean, inB: boolean) => boolean): FieldSet {
  const result: Growing = { member: keep(a.member, b.member), children: new Map() }
  for (const [step, child] of a.children) {
    const combined = combine(child, b.children.get(step) ?? emptySet, keep)
    if (!isEmpty(combined)) result.children.set(step, combined)
  }
  return result
}

export function toFieldsV1(set: FieldSet): JsonObject {
  const fields: MutableObject = {}
  if (set.member && set.children.size > 0) fields['.'] = {}
  for (const [step, child] of set.children) fields[step] = toFieldsV1(child)
  return fields
}

export function fromFieldsV1(fields: unknown): FieldSet {
  const entries = Object.entries(objectOf(fields))
  const children = new Map(
    entries.filter(([step]) => step !== '.').map(([step, child]) => [step, fromFieldsV1(child)])
  )
  return { member: children.size === 0 || entries.some(([step]) => step === '.'), children }
}

/** Paths as errors show them: `.spec.containers[name="web"].image`. */
export function paths(set: FieldSet, prefix = ''): string[] {
  const own = set.member && prefix !== '' ? [prefix] : []
  return [...own, ...[...set.children].flatMap(([step, child]) => paths(child, prefix + stepText(step)))]
}

function stepText(step: string): string {
  const rest = step.slice(2)
  if (step.startsWith('f:')) return `.${rest}`
  if (step.startsWith('v:')) return `[=${rest}]`
  const keys = Object.entries(objectOf(JSON.parse(rest)))
  return `[${keys.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}]`
}

export interface Entry {
  readonly step: string
  readonly value: unknown
  readonly type: FieldType
}

/**
 * The parts of a value that are owned one by one; undefined for a value that is owned as a whole.
 * Of what no schema describes, objects are taken apart and lists are not.
 */
export function entriesOf(value: unknown, type: FieldType): readonly Entry[] | undefined {
  if (isObject(value)) {
    if (type.kind === 'scalar' || type.kind === 'list') return undefined
    if (type.kind !== 'untyped' && type.atomic) return undefined
    return Object.entries(value)
      .filter(([, inner]) => inner !== undefined)
      .map(([name, inner]) => ({ step: `f:${name}`, value: inner, type: memberType(type, name) }))
  }
  if (!Array.isArray(value) || type.kind !== 'list' || type.merge === 'atomic') return undefined
  return value.map(item => ({ step: itemStep(item, type), value: item, type: type.items }))
}

const untyped: FieldType = { kind: 'untyped', schema: {} }

export function memberType(type: FieldType, name: string): FieldType {
  if (type.kind === 'struct') return type.field(name) ?? untyped
  return type.kind === 'map' ? type.values : untyped
}

export function itemStep(item: unknown, type: ListType): string {
  if (type.merge === 'set' || !isObject(item)) return `v:${JSON.stringify(item)}`
  const keys: MutableObject = {}
  for (const key of type.keys.toSorted()) {
    const field = memberType(type.items, key)
    const value = item[key] ?? field.schema.default
    if (value !== undefined) keys[key] = value
  }
  return `k:${JSON.stringify(keys)}`
}

function isContainer(type: FieldType): boolean {
  return type.kind === 'map' || type.kind === 'list'
}

/** The fields of a value that an applier sends. */
export function fieldsOf(value: unknown, type: FieldType): FieldSet {
  const entries = entriesOf(value, type)
  if (entries === undefined || entries.length === 0) return leaf
  const children = new Map<string, FieldSet>()
  for (const { step, value: inner, type: innerType } of entries) {
    const fields = fieldsOf(inner, innerType)
    const item = !step.startsWith('f:')
    children.set(step, item ? { ...fields, member: true } : fields)
  }
  return { member: false, children }
}

/** As {@link fieldsOf}, with the maps and lists themselves: what a writer owns who brought them in. */
function fieldsBroughtIn(value: unknown, type: FieldType): FieldSet {
  const entries = entriesOf(value, type)
  if (entries === undefined || entries.length === 0) return leaf
  const children = new Map<string, FieldSet>()
  for (const { step, value: inner, type: innerType } of entries) {
    const fields = fieldsBroughtIn(inner, innerType)
    children.set(step, step.startsWith('f:') ? fields : { ...fields, member: true })
  }
  return { member: isContainer(type), children }
}

export interface Comparison {
  /** Added or modified. */
  readonly changed: FieldSet
  readonly removed: FieldSet
}

export function compare(before: unknown, after: unknown, type: FieldType): Comparison {
  if (equal(before, after)) return { changed: emptySet, removed: emptySet }
  const [old, now] = [entriesOf(before, type), entriesOf(after, type)]
  if (old === undefined || now === undefined) return { changed: leaf, removed: emptySet }
  const changed = new Map<string, FieldSet>()
  const removed = new Map<string, FieldSet>()
  const known = new Map(old.map(entry => [entry.step, entry]))
  for (const entry of now) {
    const previous = known.get(entry.step)
    known.delete(entry.step)
    if (previous === undefined) {
      const fields = fieldsBroughtIn(entry.value, entry.type)
      changed.set(entry.step, entry.step.startsWith('f:') ? fields : { ...fields, member: true })
      continue
    }
    const inner = compare(previous.value, entry.value, entry.type)
    if (!isEmpty(inner.changed)) changed.set(entry.step, inner.changed)
    if (!isEmpty(inner.removed)) removed.set(entry.step, inner.removed)
  }
  for (const [step, entry] of known) {
    const fields = fieldsBroughtIn(entry.value, entry.type)
    removed.set(step, { ...fields, member: true })
  }
  return { changed: { member: false, children: changed }, removed: { member: false, children: removed } }
}
