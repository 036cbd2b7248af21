/** GET of one object and of collections, in pages and in the form that the client wants. */
import { ApiError, badRequest } from '../api-error.ts'
import type { JsonObject } from '../json.ts'
import type { ApiObject } from '../object.ts'
import type { ApiObjects } from '../objects.ts'
import { presented } from '../stored-form.ts'
import { apiVersionOf, type Resource } from '../resources.ts'
import { parseFieldSelector, parseLabelSelector, type Match } from '../selectors.ts'
import { keyOf, compareKeys } from '../storage.ts'
import type { Exchange } from './exchange.ts'
import { chooseForm, type Form } from './media-types.ts'
import type { ResourcePath } from './request-target.ts'
import { metadataOnly, table, type Include } from './tables.ts'

export function getObject(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): void {
  const form = chooseForm(exchange.request.headers.accept)
  const object = objects.get(resource, path)
  exchange.send(200, one(resource, object, form, exchange))
}

/** An object in the form that the client wants. */
export function one(resource: Resource, object: ApiObject, form: Form, exchange: Exchange): JsonObject {
  if (form === 'table') {
    return {
      ...table(resource, [object], includeOf(exchange), true),
      metadata: { resourceVersion: object.metadata.resourceVersion }
    }
  }
  return form === 'metadata' ? metadataOnly(object) : object
}

export function listObjects(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): void {
  const form = chooseForm(exchange.request.headers.accept)
  const { storage } = objects
  const page = readPage(exchange, storage.revision)
  const collection = objects.collection(resource)
  const all = page.revision === undefined ? collection.all() : collection.allAt(page.revision)
  const matches = selectorOf(resource, path, exchange)
  const items: ApiObject[] = []
  let [last, more] = ['', 0]
  for (const object of all) {
    const key = keyOf(object)
    if (page.after !== undefined && compareKeys(key, page.after) <= 0) continue
    if (!matches(object)) continue
    if (items.length === page.limit) more += 1
    else {
      items.push(presented(resource, object))
      last = key
    }
  }
  const revision = page.revision ?? storage.revision
  const selective =
    exchange.query('labelSelector') !== undefined || exchange.query('fieldSelector') !== undefined
  const metadata = {
    resourceVersion: String(revision),
    ...(more === 0 ? {} : { continue: continueToken(revision, last) }),
    ...(more === 0 || selective ? {} : { remainingItemCount: more })
  }
  exchange.send(200, { ...listOfForm(resource, items, form, exchange), metadata })
}

function listOfForm(
  resource: Resource,
  items: readonly ApiObject[],
  form: Form,
  exchange: Exchange
): JsonObject {
  if (form === 'table') return table(resource, items, includeOf(exchange), true)
  if (form === 'metadata') {
    const kind = { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1' }
    return { ...kind, items: items.map(metadataOnly) }
  }
  const bare =
    resource.origin === 'builtin'
      ? items.map(item => ({ ...item, kind: undefined, apiVersion: undefined }))
      : items
  return { kind: resource.listKind, apiVersion: apiVersionOf(resource), metadata: {}, items: bare }
}

export function includeOf(exchange: Exchange): Include {
  const include = exchange.query('includeObject') ?? 'Metadata'
  if (include === 'None' || include === 'Metadata' || include === 'Object') return include
  throw badRequest(`invalid includeObject value: ${JSON.stringify(include)}`)
}

/** Whether an object is in the namespace and matches the selectors of the request. */
export function selectorOf(resource: Resource, path: ResourcePath, exchange: Exchange): Match {
  const [labels, fields] = [exchange.query('labelSelector'), exchange.query('fieldSelector')]
  const byLabel = labels === undefined ? undefined : parseLabelSelector(labels)
  const byField = fields === undefined ? undefined : parseFieldSelector(fields, resource.selectableFields)
  return object =>
    (path.namespace === '' || object.metadata.namespace === path.namespace) &&
    (path.name === '' || object.metadata.name === path.name) &&
    (byLabel === undefined || byLabel(object.metadata.labels ?? {})) &&
    (byField === undefined || byField(object))
}

interface Page {
  /** State to list; undefined = now. */
  readonly revision: number | undefined
  /** Key of the last object of the page before. */
  readonly after: string | undefined
  readonly limit: number
}

function readPage(exchange: Exchange, current: number): Page {
  const limit = exchange.number('limit') || Infinity
  const token = exchange.query('continue')
  const wanted = readRevision(exchange, current)
  const match = exchange.query('resourceVersionMatch')
  if (match !== undefined && wanted === undefined) {
    throw badRequest('resourceVersionMatch is forbidden unless resourceVersion is provided')
  }
  if (token === undefined)
    return { revision: match === 'Exact' ? wanted : undefined, after: undefined, limit }
  const { revision, after } = readContinueToken(token)
  return { revision, after, limit }
}

/** `resourceVersion` of the query; 0 = any. Throws 504 for one that lies in the future. */
export function readRevision(exchange: Exchange, current: number): number | undefined {
  const revision = exchange.number('resourceVersion')
  if (revision === undefined || revision <= current) return revision
  throw new ApiError('Timeout', `Too large resource version: ${revision}, current: ${current}`, {}, [
    { reason: 'ResourceVersionTooLarge', message: 'Too large resource version', field: '' }
  ])
}

function continueToken(revision: number, after: string): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: revision, start: after })).toString(
    'base64url'
  )
}

function readContinueToken(token: string): { revision: number; after: string } {
  try {
    const { rv, start } = JSON.parse(Buffer.from(token, 'base64url').toString('utf8')) as {
      rv: unknown
      start: unknown
    }
    if (typeof rv === 'number' && typeof start === 'string') return { revision: rv, after: start }
  } catch {
    // answered below: a token that is not JSON is as wrong as one with other fields
  }
  throw badRequest('continue key is not valid')
}
