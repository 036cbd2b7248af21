/** Mandatory fields of builtin kinds. */
import { required, unsupported, type Problem } from '../api-error.ts'
import { isObject, type JsonObject } from '../json.ts'
import type { FieldType } from './field-types.ts'

/**
 * Choices that a spec got wrong. Kubernetes' document also lists mandatory fields, but among them many that the
 * server takes as empty (lists, numbers); those that are really mandatory are objects and texts of a spec.
 */
export function checkRequired(object: JsonObject, type: FieldType): Problem[] {
  if (type.kind !== 'struct') return []
  const spec = type.field('spec')
  return spec === undefined || object['spec'] === undefined ? [] : check(object['spec'], spec, 'spec')
}

function check(value: unknown, type: FieldType, field: string): Problem[] {
  switch (type.kind) {
    case 'struct': {
      if (!isObject(value)) return []
      const missing = (type.schema.required ?? []).filter(
        name => value[name] === undefined && mandatory(type.field(name))
      )
      return [
        ...missing.map(name => required(`${field}.${name}`)),
        ...Object.entries(value).flatMap(([name, inner]) => {
          const innerType = type.field(name)
          return innerType === undefined ? [] : check(inner, innerType, `${field}.${name}`)
        })
      ]
    }
    case 'map':
      return Object.entries(isObject(value) ? value : {}).flatMap(([key, inner]) =>
        check(inner, type.values, `${field}.${key}`)
      )
    case 'list':
      return (Array.isArray(value) ? value : []).flatMap((item, index) =>
        check(item, type.items, `${field}[${index}]`)
      )
    case 'scalar': {
      const { enum: choices } = type.schema
      if (choices === undefined || typeof value !== 'string' || choices.includes(value)) return []
      return [unsupported(field, value, choices.map(String))]
    }
    case 'untyped':
      return []
    default:
      return type satisfies never
  }
}

function mandatory(type: FieldType | undefined): boolean {
  return (
    type !== undefined &&
    (type.kind === 'struct' || (type.kind === 'scalar' && type.schema.type === 'string'))
  )
}
