/** OpenAPI schemas of objects: the builtin kinds' from Kubernetes' published document, others' from their definition. */
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import type { JsonObject } from '../json.ts'

/** The subset of OpenAPI 3.0 that Kubernetes uses, with its extensions. */
export interface Schema {
  readonly $ref?: string
  readonly type?: string
  readonly format?: string
  readonly title?: string
  readonly description?: string
  readonly default?: unknown
  readonly nullable?: boolean
  readonly enum?: readonly unknown[]
  readonly pattern?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: boolean
  readonly exclusiveMaximum?: boolean
  readonly multipleOf?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly uniqueItems?: boolean
  readonly minProperties?: number
  readonly maxProperties?: number
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
  readonly allOf?: readonly Schema[]
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly not?: Schema
  readonly 'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map'
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
  readonly 'x-kubernetes-map-type'?: 'atomic' | 'granular'
  readonly 'x-kubernetes-patch-merge-key'?: string
  readonly 'x-kubernetes-patch-strategy'?: string
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean
  readonly 'x-kubernetes-int-or-string'?: boolean
  readonly 'x-kubernetes-embedded-resource'?: boolean
  readonly 'x-kubernetes-group-version-kind'?: readonly GroupVersionKind[]
}

export interface GroupVersionKind {
  readonly group: string
  readonly version: string
  readonly kind: string
}

export type Schemas = Readonly<Record<string, Schema>>

const referencePrefix = '#/components/schemas/'

/** Schemas of the builtin kinds by their name in the OpenAPI document (`builtin/README.md` says where they come from). */
export function loadBuiltinSchemas(): Schemas {
  return readData('builtin/schemas.json.gz') as Schemas
}

/** A compressed JSON file of this folder. */
export function readData(file: string): unknown {
  const bytes = readFileSync(new URL(`../${file}`, import.meta.url))
  return JSON.parse(gunzipSync(bytes).toString('utf8')) as unknown
}

/** Name of the schema of a builtin kind. Throws when the document has none. */
export function schemaNames(schemas: Schemas): ReadonlyMap<string, string> {
  const names = new Map<string, string>()
  for (const [name, schema] of Object.entries(schemas)) {
    const kinds = schema['x-kubernetes-group-version-kind'] ?? []
    // options such as DeleteOptions are listed under every group; they are no resource's schema
    if (kinds.length === 1) for (const kind of kinds) names.set(kindKey(kind), name)
  }
  return names
}

export function kindKey({ group, version, kind }: GroupVersionKind): string {
  return `${group}/${version}/${kind}`
}

/** Follows a reference, also one that is wrapped in `allOf` so that it can carry a default. */
export function resolve(schema: Schema, schemas: Schemas): Schema {
  const [only, ...more] = schema.allOf ?? []
  const reference = schema.$ref ?? (more.length === 0 && schema.type === undefined ? only?.$ref : undefined)
  if (reference === undefined) return schema
  const target = schemas[reference.slice(referencePrefix.length)]
  if (target === undefined) throw new Error(`the schema ${reference} does not exist`)
  const { $ref: _reference, allOf: _wrapped, ...own } = schema
  return { ...resolve(target, schemas), ...own }
}

/** The schemas that `names` need, with what these refer to, as an OpenAPI document carries them. */
export function reachable(schemas: Schemas, names: Iterable<string>): Schemas {
  const found: Record<string, Schema> = {}
  const visit = (name: string): void => {
    const schema = schemas[name]
    if (schema === undefined || found[name] !== undefined) return
    found[name] = schema
    for (const reference of referencesOf(schema)) visit(reference)
  }
  for (const name of names) visit(name)
  return found
}

function referencesOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(referencesOf)
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value as JsonObject).flatMap(([key, inner]) =>
    key === '$ref' && typeof inner === 'string' ? [inner.slice(referencePrefix.length)] : referencesOf(inner)
  )
}
