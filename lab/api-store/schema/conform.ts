/** Takes what a client sent into the shape of its kind: unknown fields are dropped and reported. */
import { define, isObject, typeName, type JsonObject, type MutableObject } from '../json.ts'
import type { FieldType, StructType } from './field-types.ts'

export interface Conformed {
  readonly value: JsonObject
  /** Paths that the kind does not have, such as `spec.replica`. */
  readonly unknown: readonly string[]
  /** Fields whose JSON type is wrong, each a sentence. Custom resources are validated later, by their schema. */
  readonly mistyped: readonly string[]
}

interface Report {
  readonly unknown: string[]
  readonly mistyped: string[]
  /** Builtin kinds take null for absent, as Go does; custom resources validate it. */
  readonly builtin: boolean
}

/** Apart from its root an embedded object has these fields too, whatever its schema says. */
const identityFields = ['apiVersion', 'kind', 'metadata']

export function conform(value: JsonObject, type: FieldType, origin: 'builtin' | 'custom'): Conformed {
  const report: Report = { unknown: [], mistyped: [], builtin: origin === 'builtin' }
  const conformed = conformValue(value, type, '', report) as MutableObject
  const metadata = type.kind === 'struct' ? type.field('metadata') : undefined
  if (origin === 'custom' && metadata !== undefined && value['metadata'] !== undefined) {
    // pruned above; here its types are held to, as those of a builtin kind
    const typed: Report = { unknown: [], mistyped: report.mistyped, builtin: true }
    conformed['metadata'] = conformValue(value['metadata'], metadata, 'metadata', typed)
  }
  return { value: conformed, unknown: report.unknown, mistyped: report.mistyped }
}

function conformValue(value: unknown, type: FieldType, path: string, report: Report): unknown {
  switch (type.kind) {
    case 'untyped':
      return report.builtin && type.schema.type === 'object' ? expectObject(value, path, report) : value
    case 'scalar':
      return report.builtin ? conformScalar(value, type, path, report) : value
    case 'list': {
      if (!Array.isArray(value)) return mistyped(value, 'an array', path, report)
      return value.map((item, index) => conformValue(item, type.items, `${path}[${index}]`, report))
    }
    case 'map': {
      if (!isObject(value)) return mistyped(value, 'an object', path, report)
      const map: MutableObject = {}
      for (const [key, item] of Object.entries(value)) {
        const inner = item === null && report.builtin ? emptyOf(type.values) : item
        define(map, key, conformValue(inner, type.values, join(path, key), report))
      }
      return map
    }
    case 'struct':
      if (!isObject(value)) return mistyped(value, 'an object', path, report)
      return conformStruct(value, type, path, report)
    default:
      return type satisfies never
  }
}

function conformStruct(value: JsonObject, type: StructType, path: string, report: Report): JsonObject {
  const struct: MutableObject = {}
  for (const [name, inner] of Object.entries(value)) {
    const field = type.field(name)
    if (field !== undefined) {
      if (report.builtin && (inner === null || (isEmptyCollection(inner, field) && !isRequired(type, name))))
        continue
      define(struct, name, conformValue(inner, field, join(path, name), report))
    } else if (type.open || (type.embedded && identityFields.includes(name))) define(struct, name, inner)
    else report.unknown.push(join(path, name))
  }
  return struct
}

/** Builtin kinds keep no empty lists and maps, unless the field is always there. */
function isEmptyCollection(value: unknown, type: FieldType): boolean {
  if (type.kind === 'list') return Array.isArray(value) && value.length === 0
  return type.kind === 'map' && isObject(value) && Object.keys(value).length === 0
}

function isRequired(type: StructType, name: string): boolean {
  return type.schema.required?.includes(name) === true
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

function conformScalar(
  value: unknown,
  type: Extract<FieldType, { kind: 'scalar' }>,
  path: string,
  report: Report
): unknown {
  const { type: wanted, format, oneOf } = type.schema
  if (format === 'int-or-string') {
    if (typeof value === 'string' || Number.isInteger(value)) return value
    return mistyped(value, 'an integer or a string', path, report)
  }
  // a Quantity: kept as text however it was written
  if (oneOf !== undefined) {
    if (typeof value === 'number') return String(value)
    return typeof value === 'string' ? value : mistyped(value, 'a quantity', path, report)
  }
  if (format === 'byte' && typeof value === 'string' && !base64.test(value.replaceAll(/[\r\n]/g, ''))) {
    return mistyped(value, 'base64', path, report)
  }
  if (wanted === 'string')
    return typeof value === 'string' ? value : mistyped(value, 'a string', path, report)
  if (wanted === 'boolean')
    return typeof value === 'boolean' ? value : mistyped(value, 'true or false', path, report)
  if (wanted === 'integer')
    return Number.isInteger(value) ? value : mistyped(value, 'an integer', path, report)
  if (wanted === 'number')
    return typeof value === 'number' ? value : mistyped(value, 'a number', path, report)
  return value
}

function expectObject(value: unknown, path: string, report: Report): unknown {
  return isObject(value) ? value : mistyped(value, 'an object', path, report)
}

function mistyped(value: unknown, wanted: string, path: string, report: Report): unknown {
  if (report.builtin)
    report.mistyped.push(
      `${path}: expected ${wanted}, found ${wanted === 'base64' ? 'other text' : typeName(value)}`
    )
  return value
}

function emptyOf(type: FieldType): unknown {
  if (type.kind === 'scalar') return type.schema.type === 'string' ? '' : null
  return type.kind === 'list' ? [] : {}
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`
}
