/**
 * Defaulting and validation of custom resources by their structural schema. CEL rules
 * (`x-kubernetes-validations`) are not evaluated.
 */
import { invalidValue, required, unsupported, type Problem } from '../api-error.ts'
import { clone, define, equal, has, isObject, typeName, type MutableObject } from '../json.ts'
import { parseIp } from '../../../shared/net/address.ts'
import { matchesPattern } from './pattern.ts'
import type { Schema } from './schema.ts'

/** Sets absent fields to their default, in place; a null where none is allowed counts as absent. */
export function setSchemaDefaults(value: unknown, schema: Schema): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) setSchemaDefaults(item, schema.items)
    return
  }
  if (!isObject(value)) return
  const object: MutableObject = value
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (property.default !== undefined) {
      const current = Object.hasOwn(object, name) ? object[name] : undefined
      if (current === undefined || (current === null && property.nullable !== true)) {
        define(object, name, clone(property.default))
      }
    }
    if (has(object, name)) setSchemaDefaults(object[name], property)
  }
  if (typeof schema.additionalProperties === 'object') {
    for (const inner of Object.values(object)) setSchemaDefaults(inner, schema.additionalProperties)
  }
}

/** Every way in which the value breaks its schema; `field` is '' for the whole object. */
export function checkSchema(value: unknown, schema: Schema, field: string): Problem[] {
  if (value === null) {
    if (schema.nullable === true) return []
    return [typeProblem(field, value, schema.type ?? 'object')]
  }
  if (!hasType(value, schema)) return [typeProblem(field, value, expectedType(schema))]
  return [
    ...checkEnum(value, schema, field),
    ...checkText(value, schema, field),
    ...checkNumber(value, schema, field),
    ...checkItems(value, schema, field),
    ...checkProperties(value, schema, field),
    ...checkCombinations(value, schema, field)
  ]
}

function hasType(value: unknown, schema: Schema): boolean {
  if (schema['x-kubernetes-int-or-string'] === true)
    return typeof value === 'string' || Number.isInteger(value)
  switch (schema.type) {
    case undefined:
      return true
    case 'object':
      return isObject(value)
    case 'array':
      return Array.isArray(value)
    case 'integer':
      return Number.isInteger(value)
    case 'number':
      return typeof value === 'number'
    default:
      return typeof value === schema.type
  }
}

function expectedType(schema: Schema): string {
  return schema['x-kubernetes-int-or-string'] === true ? 'integer,string' : (schema.type ?? 'object')
}

function typeProblem(field: string, value: unknown, wanted: string): Problem {
  const detail = `${inBody(field)} must be of type ${wanted}: "${typeName(value)}"`
  return { field, reason: 'FieldValueTypeInvalid', value: typeName(value), detail }
}

function inBody(field: string): string {
  return field === '' ? 'the object' : `${field} in body`
}

function checkEnum(value: unknown, schema: Schema, field: string): Problem[] {
  const { enum: choices } = schema
  if (choices === undefined || choices.some(choice => equal(choice, value))) return []
  return [
    unsupported(
      field,
      value,
      choices.map(choice => (typeof choice === 'string' ? choice : JSON.stringify(choice)))
    )
  ]
}

function checkText(value: unknown, schema: Schema, field: string): Problem[] {
  if (typeof value !== 'string') return []
  const { minLength = 0, maxLength = Infinity, pattern, format } = schema
  // counted in code points, as JSON Schema does
  const length = maxLength === Infinity && minLength === 0 ? 0 : codePoints(value)
  const problems: Problem[] = []
  if (length < minLength) {
    problems.push(invalidValue(field, value, `${inBody(field)} should be at least ${minLength} chars long`))
  }
  if (length > maxLength) {
    problems.push({ field, reason: 'FieldValueTooLong', detail: `may not be more than ${maxLength} bytes` })
  }
  if (pattern !== undefined && !matchesPattern(value, pattern)) {
    problems.push(invalidValue(field, value, `${inBody(field)} should match '${pattern}'`))
  }
  if (format !== undefined && !hasFormat(value, format)) {
    problems.push(
      invalidValue(field, value, `${inBody(field)} must be of type ${format}: ${JSON.stringify(value)}`)
    )
  }
  return problems
}

function codePoints(text: string): number {
  // the halves of a pair count once
  return text.length - (text.match(/[\uD800-\uDBFF][\uDC00-\uDFFF]/g)?.length ?? 0)
}

/** Formats that the API server knows; others are not checked. */
function hasFormat(value: string, format: string): boolean {
  switch (format) {
    case 'date-time':
      return /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/.test(value)
    case 'date':
      return /^\d{4}-\d{2}-\d{2}$/.test(value)
    case 'ipv4':
      return parseIp(value)?.includes('.') === true
    case 'ipv6':
      return parseIp(value)?.includes(':') === true
    case 'byte':
      return /^[A-Za-z0-9+/]*={0,2}$/.test(value)
    case 'uuid':
      return /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i.test(value)
    case 'uri':
      return URL.canParse(value) || value.startsWith('/')
    case 'hostname':
      return value.length <= 253 && /^[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?$/.test(value)
    default:
      return true
  }
}

function checkNumber(value: unknown, schema: Schema, field: string): Problem[] {
  if (typeof value !== 'number') return []
  const { minimum, maximum, exclusiveMinimum = false, exclusiveMaximum = false, multipleOf } = schema
  const problems: Problem[] = []
  if (minimum !== undefined && (exclusiveMinimum ? value <= minimum : value < minimum)) {
    const bound = exclusiveMinimum ? 'greater than' : 'greater than or equal to'
    problems.push(invalidValue(field, value, `${inBody(field)} should be ${bound} ${minimum}`))
  }
  if (maximum !== undefined && (exclusiveMaximum ? value >= maximum : value > maximum)) {
    const bound = exclusiveMaximum ? 'less than' : 'less than or equal to'
    problems.push(invalidValue(field, value, `${inBody(field)} should be ${bound} ${maximum}`))
  }
  if (multipleOf !== undefined && value % multipleOf !== 0) {
    problems.push(invalidValue(field, value, `${inBody(field)} should be a multiple of ${multipleOf}`))
  }
  return problems
}

function checkItems(value: unknown, schema: Schema, field: string): Problem[] {
  if (!Array.isArray(value)) return []
  const { items, minItems = 0, maxItems = Infinity } = schema
  const problems: Problem[] = []
  if (value.length > maxItems) {
    problems.push({
      field,
      reason: 'FieldValueTooMany',
      value: value.length,
      detail: `must have at most ${maxItems} items`
    })
  }
  if (value.length < minItems) {
    problems.push(
      invalidValue(field, value.length, `${inBody(field)} should have at least ${minItems} items`)
    )
  }
  if (items !== undefined) {
    value.forEach((item, index) => problems.push(...checkSchema(item, items, `${field}[${index}]`)))
  }
  return [...problems, ...checkItemIdentity(value, schema, field)]
}

/** Items of a set, and the keys of a keyed list, are there once. */
function checkItemIdentity(value: readonly unknown[], schema: Schema, field: string): Problem[] {
  const listType = schema['x-kubernetes-list-type']
  const keys = schema['x-kubernetes-list-map-keys'] ?? []
  if (listType === undefined || listType === 'atomic') return []
  const seen = new Set<string>()
  return value.flatMap((item, index): Problem[] => {
    const identity =
      listType === 'map' && isObject(item)
        ? Object.fromEntries(keys.map(key => [key, item[key] ?? schema.items?.properties?.[key]?.default]))
        : item
    const text = JSON.stringify(identity)
    if (seen.has(text))
      return [{ field: `${field}[${index}]`, reason: 'FieldValueDuplicate', value: identity }]
    seen.add(text)
    return []
  })
}

function checkProperties(value: unknown, schema: Schema, field: string): Problem[] {
  if (!isObject(value)) return []
  const { properties = {}, additionalProperties, minProperties = 0, maxProperties = Infinity } = schema
  const join = (name: string): string => (field === '' ? name : `${field}.${name}`)
  const count = Object.keys(value).length
  return [
    ...(schema.required ?? []).flatMap(name => (has(value, name) ? [] : [required(join(name))])),
    ...(count < minProperties
      ? [invalidValue(field, count, `${inBody(field)} should have at least ${minProperties} properties`)]
      : []),
    ...(count > maxProperties
      ? [
          {
            field,
            reason: 'FieldValueTooMany' as const,
            value: count,
            detail: `must have at most ${maxProperties} items`
          }
        ]
      : []),
    ...Object.entries(value).flatMap(([name, inner]) => {
      if (inner === undefined) return []
      const property = Object.hasOwn(properties, name) ? properties[name] : undefined
      if (property !== undefined) return checkSchema(inner, property, join(name))
      return typeof additionalProperties === 'object'
        ? checkSchema(inner, additionalProperties, join(name))
        : []
    })
  ]
}

function checkCombinations(value: unknown, schema: Schema, field: string): Problem[] {
  const { allOf = [], anyOf = [], oneOf = [], not } = schema
  const fits = (part: Schema): boolean => checkSchema(value, part, field).length === 0
  const problems = allOf.flatMap(part => checkSchema(value, part, field))
  if (anyOf.length > 0 && schema['x-kubernetes-int-or-string'] !== true && !anyOf.some(fits)) {
    problems.push(invalidValue(field, value, `${inBody(field)} must validate at least one schema (anyOf)`))
  }
  if (oneOf.length > 0) {
    const fitting = oneOf.filter(fits).length
    if (fitting !== 1) {
      const found = fitting === 0 ? 'Found none valid' : `Found ${fitting} valid alternatives`
      problems.push(
        invalidValue(field, value, `${inBody(field)} must validate one and only one schema (oneOf). ${found}`)
      )
    }
  }
  if (not !== undefined && fits(not)) {
    problems.push(invalidValue(field, value, `${inBody(field)} must not validate the schema (not)`))
  }
  return problems
}
