/** Serves the resources that CustomResourceDefinitions define, from the moment they are stored until they go. */
import { publishedDefinitions } from '../../shared/kube/definitions.ts'
import { reachable, type GroupVersionKind, type Schema, type Schemas } from './schema/schema.ts'
import { FieldTypes } from './schema/field-types.ts'
import { checkSchema, setSchemaDefaults } from './schema/structural.ts'
import { isObject, listOf, objectOf, textOf, type JsonObject } from './json.ts'
import type { ApiObject } from './object.ts'
import type { PrinterColumn, Resource, ResourceRegistry, ScalePaths } from './resources.ts'
import type { Strategy } from './kinds/strategy.ts'

/** The definitions that the lab starts with: those of Istio and the Gateway API. */
export function bundledDefinitions(): readonly JsonObject[] {
  return publishedDefinitions() as unknown as readonly JsonObject[]
}

const metadataSchema = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta'

/** `builtin` holds the schema of `metadata`. */
export function addDefinition(registry: ResourceRegistry, definition: ApiObject, builtin: Schemas): void {
  const shared = reachable(builtin, [metadataSchema])
  for (const resource of resourcesOf(definition, shared)) registry.add(resource)
}

/** Stops serving what `definition` defined and `next` does not. */
export function removeDefinition(registry: ResourceRegistry, definition: ApiObject, next?: ApiObject): void {
  const spec = objectOf(definition['spec'])
  const kept =
    next === undefined ? [] : servedVersions(objectOf(next['spec'])).map(version => version['name'])
  for (const version of servedVersions(spec)) {
    if (kept.includes(version['name'])) continue
    registry.remove(textOf(spec['group']), textOf(version['name']), textOf(objectOf(spec['names'])['plural']))
  }
}

/** Name of the collection that holds the objects of a definition. */
export function collectionOf(definition: ApiObject): string {
  const spec = objectOf(definition['spec'])
  return `${textOf(spec['group'])}/${textOf(objectOf(spec['names'])['plural'])}`
}

/** Rules of a custom resource in one version. */
export function customStrategy(resource: Resource): Strategy {
  const schema = schemaOf(resource)
  return {
    generation: true,
    setDefaults: object => setSchemaDefaults(object, schema),
    validate: object => checkSchema(object, schema, '')
  }
}

function schemaOf(resource: Resource): Schema {
  const schema = resource.schemas[resource.schemaName]
  if (schema === undefined) throw new Error(`there is no schema ${resource.schemaName}`)
  return schema
}

function servedVersions(spec: JsonObject): readonly JsonObject[] {
  return listOf(spec['versions'])
    .map(objectOf)
    .filter(version => version['served'] === true)
}

function resourcesOf(definition: ApiObject, shared: Schemas): Resource[] {
  const spec = objectOf(definition['spec'])
  const names = objectOf(spec['names'])
  const [group, plural, kind] = [textOf(spec['group']), textOf(names['plural']), textOf(names['kind'])]
  const storage = listOf(spec['versions'])
    .map(objectOf)
    .find(version => version['storage'] === true)
  return servedVersions(spec).map((version): Resource => {
    const subresources = objectOf(version['subresources'])
    const name = textOf(version['name'])
    const schemaName = `${group.split('.').toReversed().join('.')}.${name}.${kind}`
    const schema = objectSchema(objectOf(objectOf(version['schema'])['openAPIV3Schema']), {
      group,
      version: name,
      kind
    })
    const schemas = { ...shared, [schemaName]: schema }
    return {
      group,
      version: name,
      plural,
      singular: textOf(names['singular']),
      kind,
      listKind: textOf(names['listKind']),
      namespaced: spec['scope'] === 'Namespaced',
      shortNames: listOf(names['shortNames']).map(textOf),
      categories: listOf(names['categories']).map(textOf),
      origin: 'custom',
      collection: `${group}/${plural}`,
      storageVersion: textOf(storage?.['name']),
      stored: true,
      subresources: new Set(['status', 'scale'].filter(part => isObject(subresources[part]))),
      scale: isObject(subresources['scale']) ? (subresources['scale'] as unknown as ScalePaths) : undefined,
      type: new FieldTypes(schemas).named(schemaName),
      schemaName,
      schemas,
      columns: Array.isArray(version['additionalPrinterColumns'])
        ? (version['additionalPrinterColumns'] as PrinterColumn[])
        : undefined,
      selectableFields: listOf(version['selectableFields']).map(field =>
        textOf(objectOf(field)['jsonPath']).slice(1)
      ),
      deprecation: version['deprecated'] === true ? deprecationOf(version, group, name, kind) : undefined
    }
  })
}

function deprecationOf(version: JsonObject, group: string, name: string, kind: string): string {
  return textOf(version['deprecationWarning']) || `${group}/${name} ${kind} is deprecated`
}

/** The definition's schema with the fields that every object has. */
function objectSchema(schema: Schema, kind: GroupVersionKind): Schema {
  return {
    ...schema,
    properties: {
      ...schema.properties,
      apiVersion: { type: 'string', description: apiVersionText },
      kind: { type: 'string', description: kindText },
      metadata: { description: metadataText, allOf: [{ $ref: `#/components/schemas/${metadataSchema}` }] }
    },
    'x-kubernetes-group-version-kind': [kind]
  }
}

const apiVersionText =
  'APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources'
const kindText =
  'Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds'
const metadataText =
  "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
