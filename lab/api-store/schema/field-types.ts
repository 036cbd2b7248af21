/**
 * What a field is for those who merge, own, prune or patch it. Made from schemas on first use, then kept, so
 * that recursive schemas work and each is read once.
 */
import { resolve, type Schema, type Schemas } from './schema.ts'

export type FieldType = ScalarType | StructType | MapType | ListType | UntypedType

/** A value that is replaced as a whole. */
export interface ScalarType {
  readonly kind: 'scalar'
  readonly schema: Schema
}

/** An object with named fields. */
export interface StructType {
  readonly kind: 'struct'
  readonly schema: Schema
  readonly atomic: boolean
  /** Fields that the schema does not name are kept. */
  readonly open: boolean
  /** An object with apiVersion, kind and metadata of its own. */
  readonly embedded: boolean
  readonly names: readonly string[]
  field(name: string): FieldType | undefined
}

/** An object whose keys are data. */
export interface MapType {
  readonly kind: 'map'
  readonly schema: Schema
  readonly atomic: boolean
  readonly values: FieldType
}

export interface ListType {
  readonly kind: 'list'
  readonly schema: Schema
  /** `map`: items are told apart by their `keys`; `set`: by their value. */
  readonly merge: 'atomic' | 'set' | 'map'
  readonly keys: readonly string[]
  readonly items: FieldType
  /** For strategic merge patches: the field that tells items apart; with `patchMerge` alone items are values of a set. */
  readonly patchMergeKey: string | undefined
  readonly patchMerge: boolean
}

/** Anything goes and nothing is known. */
export interface UntypedType {
  readonly kind: 'untyped'
  readonly schema: Schema
}

export class FieldTypes {
  readonly #schemas: Schemas
  readonly #known = new WeakMap<Schema, FieldType>()

  constructor(schemas: Schemas) {
    this.#schemas = schemas
  }

  of(schema: Schema): FieldType {
    const known = this.#known.get(schema)
    if (known !== undefined) return known
    const type = this.#read(resolve(schema, this.#schemas))
    this.#known.set(schema, type)
    return type
  }

  /** The type behind a name of the document. */
  named(name: string): FieldType {
    const schema = this.#schemas[name]
    if (schema === undefined) throw new Error(`there is no schema ${name}`)
    return this.of(schema)
  }

  #read(schema: Schema): FieldType {
    if (schema['x-kubernetes-int-or-string'] === true) return { kind: 'scalar', schema }
    if (schema.type === 'array' && schema.items !== undefined) return this.#list(schema, schema.items)
    const { properties, additionalProperties } = schema
    const open = schema['x-kubernetes-preserve-unknown-fields'] === true
    if (properties !== undefined || schema['x-kubernetes-embedded-resource'] === true) {
      return this.#struct(schema, properties ?? {}, open)
    }
    if (typeof additionalProperties === 'object') {
      const atomic = schema['x-kubernetes-map-type'] === 'atomic'
      return lazy({ kind: 'map', schema, atomic }, { values: () => this.of(additionalProperties) })
    }
    if (schema.type === 'object' || (schema.type === undefined && schema.oneOf === undefined)) {
      return { kind: 'untyped', schema }
    }
    return { kind: 'scalar', schema }
  }

  #struct(schema: Schema, properties: Readonly<Record<string, Schema>>, open: boolean): StructType {
    const field = (name: string): FieldType | undefined => {
      const property = Object.hasOwn(properties, name) ? properties[name] : undefined
      return property === undefined ? undefined : this.of(property)
    }
    const embedded = schema['x-kubernetes-embedded-resource'] === true
    const atomic = schema['x-kubernetes-map-type'] === 'atomic'
    return { kind: 'struct', schema, atomic, open, embedded, names: Object.keys(properties), field }
  }

  #list(schema: Schema, itemSchema: Schema): ListType {
    const patchMergeKey = schema['x-kubernetes-patch-merge-key']
    const base = {
      kind: 'list' as const,
      schema,
      merge: schema['x-kubernetes-list-type'] ?? ('atomic' as const),
      keys: schema['x-kubernetes-list-map-keys'] ?? [],
      patchMergeKey,
      patchMerge: schema['x-kubernetes-patch-strategy']?.split(',').includes('merge') === true
    }
    return lazy(base, { items: () => this.of(itemSchema) })
  }
}

/** Adds a field that is computed when first read: a schema may contain itself. */
function lazy<T extends object, K extends string, V>(base: T, fields: Record<K, () => V>): T & Record<K, V> {
  for (const [name, compute] of Object.entries<() => V>(fields)) {
    Object.defineProperty(base, name, { get: compute, enumerable: true })
  }
  return base as T & Record<K, V>
}
