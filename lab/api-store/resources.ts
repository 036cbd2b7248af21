/** The resources that are served: what they are called, where they are kept, what their objects look like. */
import {
  loadBuiltinSchemas,
  kindKey,
  schemaNames,
  type GroupVersionKind,
  type Schemas
} from './schema/schema.ts'
import { FieldTypes, type FieldType } from './schema/field-types.ts'
import { builtinResources } from './builtin/resources.ts'

/** What the resource lists of the discovery document say. */
export interface ResourceNames {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly singular: string
  readonly kind: string
  readonly listKind: string
  readonly namespaced: boolean
  readonly shortNames: readonly string[]
  readonly categories: readonly string[]
}

/** A column of `kubectl get`, as a CustomResourceDefinition gives it. */
export interface PrinterColumn {
  readonly name: string
  readonly type: string
  readonly format?: string
  readonly description?: string
  readonly priority?: number
  readonly jsonPath: string
}

/** Where a custom resource keeps the numbers of its scale sub-resource. */
export interface ScalePaths {
  readonly specReplicasPath: string
  readonly statusReplicasPath: string
  readonly labelSelectorPath?: string
}

export interface Resource extends ResourceNames {
  /** `builtin` kinds follow Kubernetes' own rules, `custom` ones their definition. */
  readonly origin: 'builtin' | 'custom'
  /** Name of the collection, shared by all versions. */
  readonly collection: string
  /** Version in which objects are kept. */
  readonly storageVersion: string
  /** Objects can be stored; others, such as TokenReview, are only answered. */
  readonly stored: boolean
  readonly subresources: ReadonlySet<string>
  readonly scale: ScalePaths | undefined
  readonly type: FieldType
  /** Name of the object's schema in the OpenAPI document, and the schemas that it needs. */
  readonly schemaName: string
  readonly schemas: Schemas
  /** Columns that the definition asks for; undefined = the default for the kind. */
  readonly columns: readonly PrinterColumn[] | undefined
  /** Fields that fieldSelector may name beyond metadata.name and metadata.namespace. */
  readonly selectableFields: readonly string[]
  readonly deprecation: string | undefined
}

export class ResourceRegistry {
  readonly #resources = new Map<string, Resource>()
  #generation = 0

  constructor() {
    const schemas = loadBuiltinSchemas()
    const types = new FieldTypes(schemas)
    const names = schemaNames(schemas)
    for (const row of builtinResources) {
      const version = row.version ?? 'v1'
      const schemaName = names.get(kindKey({ ...row, version }))
      if (schemaName === undefined) throw new Error(`no schema for ${row.kind} ${row.group}/${version}`)
      this.add({
        ...row,
        version,
        singular: row.kind.toLowerCase(),
        listKind: `${row.kind}List`,
        shortNames: row.shortNames ?? [],
        categories: row.categories ?? [],
        origin: 'builtin',
        collection: row.collection ?? `${row.group}/${row.plural}`,
        storageVersion: version,
        stored: row.stored ?? true,
        subresources: new Set(row.subresources ?? []),
        scale: undefined,
        type: types.named(schemaName),
        schemaName,
        schemas,
        columns: undefined,
        selectableFields: row.selectableFields ?? [],
        deprecation: row.deprecation
      })
    }
  }

  /** Grows whenever the resources change, for those who keep something derived from them. */
  get generation(): number {
    return this.#generation
  }

  add(resource: Resource): void {
    this.#resources.set(resourceKey(resource.group, resource.version, resource.plural), resource)
    this.#generation += 1
  }

  remove(group: string, version: string, plural: string): void {
    if (this.#resources.delete(resourceKey(group, version, plural))) this.#generation += 1
  }

  find(group: string, version: string, plural: string): Resource | undefined {
    return this.#resources.get(resourceKey(group, version, plural))
  }

  findKind(kind: GroupVersionKind): Resource | undefined {
    return this.all().find(
      resource =>
        resource.kind === kind.kind && resource.group === kind.group && resource.version === kind.version
    )
  }

  /** Any version of a kind, preferring the one in which objects are kept. */
  findCollection(collection: string): Resource | undefined {
    const versions = this.all().filter(resource => resource.collection === collection)
    return versions.find(resource => resource.version === resource.storageVersion) ?? versions[0]
  }

  all(): readonly Resource[] {
    return [...this.#resources.values()]
  }
}

export function apiVersionOf({
  group,
  version
}: {
  readonly group: string
  readonly version: string
}): string {
  return group === '' ? version : `${group}/${version}`
}

/** Reads `group/version`, or `version` for the core group. */
export function parseApiVersion(text: string): { group: string; version: string } {
  const slash = text.indexOf('/')
  return slash === -1
    ? { group: '', version: text }
    : { group: text.slice(0, slash), version: text.slice(slash + 1) }
}

function resourceKey(group: string, version: string, plural: string): string {
  return `${group}/${version}/${plural}`
}
