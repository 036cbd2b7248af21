/**
 * OpenAPI documents: one for each group and version (v3), and all in one (v2). Schemas are complete; paths are
 * described as far as clients look: the operations of objects, their kinds, and the parameters they take.
 */
import { createHash } from 'node:crypto'
import type { JsonObject, MutableObject } from '../json.ts'
import { isObject } from '../json.ts'
import { apiVersionOf, type Resource, type ResourceRegistry } from '../resources.ts'
import { reachable, type Schemas } from '../schema/schema.ts'
import { version } from './version.ts'

const info = { title: 'Kubernetes', version: version.gitVersion }

/**
 * Version 2 as kubectl asks for it, for kinds that version 3 does not have: an empty `openapi.v2.Document`
 * (field 1, `swagger`, is "2.0"), by which it knows none either and goes on to say so.
 */
export const swaggerProtobuf = {
  wanted: 'com.github.proto-openapi.spec.v2',
  contentType: 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf',
  document: '\n\u00032.0'
} as const

/** Paths such as `api/v1` and `apis/apps/v1` with where their document is; the hash lets clients keep it. */
export class OpenApi {
  readonly #registry: ResourceRegistry
  readonly #documents = new Map<string, { readonly text: string; readonly hash: string }>()
  #generation = -1

  constructor(registry: ResourceRegistry) {
    this.#registry = registry
  }

  root(): JsonObject {
    const paths = [...new Set(this.#registry.all().map(groupPath))].toSorted()
    return {
      paths: Object.fromEntries(
        paths.map(path => [
          path,
          { serverRelativeURL: `/openapi/v3/${path}?hash=${this.document(path)?.hash}` }
        ])
      )
    }
  }

  /** The document of a group and version; undefined when nothing of it is served. */
  document(path: string): { readonly text: string; readonly hash: string } | undefined {
    if (this.#generation !== this.#registry.generation) this.#documents.clear()
    this.#generation = this.#registry.generation
    const known = this.#documents.get(path)
    if (known !== undefined) return known
    const resources = this.#registry.all().filter(resource => groupPath(resource) === path)
    if (resources.length === 0) return undefined
    const text = JSON.stringify({
      openapi: '3.0.0',
      info,
      paths: Object.assign({}, ...resources.map(pathsOf)) as JsonObject,
      components: { schemas: schemasOf(resources) }
    })
    const document = { text, hash: createHash('sha256').update(text).digest('hex').toUpperCase() }
    this.#documents.set(path, document)
    return document
  }

  /** Version 2: the schemas of everything under `definitions`. */
  swagger(): JsonObject {
    const resources = this.#registry.all()
    return {
      swagger: '2.0',
      info,
      paths: Object.assign({}, ...resources.map(pathsOf)) as JsonObject,
      definitions: toVersion2(schemasOf(resources))
    }
  }
}

function groupPath(resource: Resource): string {
  return `${resource.group === '' ? 'api' : 'apis'}/${apiVersionOf(resource)}`
}

function schemasOf(resources: readonly Resource[]): Schemas {
  const found: Record<string, Schemas[string]> = {}
  for (const { schemaName, schemas } of resources) Object.assign(found, reachable(schemas, [schemaName]))
  return found
}

const writeParameters = ['dryRun', 'fieldManager', 'fieldValidation'].map(queryParameter)

function queryParameter(name: string): JsonObject {
  return { name, in: 'query', schema: { type: 'string', uniqueItems: true } }
}

function pathsOf(resource: Resource): JsonObject {
  const { group, version, kind, plural } = resource
  const place = resource.namespaced ? `namespaces/{namespace}/${plural}` : plural
  const collection = `/${groupPath(resource)}/${place}`
  const schema = { $ref: `#/components/schemas/${resource.schemaName}` }
  const operation = (action: string, parameters: readonly JsonObject[]): JsonObject => ({
    tags: [group === '' ? `core_${version}` : `${group.split('.')[0]}_${version}`],
    operationId: `${action}${kind}${resource.namespaced ? 'Namespaced' : ''}`,
    parameters,
    responses: { 200: { description: 'OK', content: { 'application/json': { schema } } } },
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': { group, version, kind }
  })
  if (!resource.stored) return { [collection]: { post: operation('post', writeParameters) } }
  return {
    [collection]: { get: operation('list', []), post: operation('post', writeParameters) },
    [`${collection}/{name}`]: {
      get: operation('get', []),
      put: operation('put', writeParameters),
      patch: operation('patch', [...writeParameters, queryParameter('force')]),
      delete: operation('delete', [queryParameter('dryRun')])
    }
  }
}

/** Version 2 keeps schemas elsewhere and has neither `nullable` nor alternatives. */
function toVersion2(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toVersion2)
  if (!isObject(value)) return value
  const result: MutableObject = {}
  for (const [key, inner] of Object.entries(value)) {
    if (key === '$ref' && typeof inner === 'string')
      result[key] = inner.replace('#/components/schemas/', '#/definitions/')
    else if (key !== 'nullable' && key !== 'oneOf' && key !== 'anyOf') result[key] = toVersion2(inner)
  }
  const [only] = Array.isArray(result['allOf']) ? (result['allOf'] as unknown[]) : []
  return isObject(only) && only['$ref'] !== undefined ? only : result
}
