/** POST, PUT, PATCH and DELETE of objects. */
import { ApiError, badRequest, invalid, required } from '../api-error.ts'
import type { DeletionRequest } from '../deletion.ts'
import { objectOf, textOf, type JsonObject } from '../json.ts'
import type { ApiObject, ObjectKey } from '../object.ts'
import type { ApiObjects } from '../objects.ts'
import type { WriteContext } from '../write-context.ts'
import { presented } from '../stored-form.ts'
import { applyJsonPatch } from '../patch/json-patch.ts'
import { applyMergePatch } from '../patch/merge-patch.ts'
import { applyStrategicMerge } from '../patch/strategic-merge.ts'
import { apiVersionOf, type Resource } from '../resources.ts'
import { readBodyObject } from './body.ts'
import { expectObject, parseJson, type Exchange } from './exchange.ts'
import { chooseForm } from './media-types.ts'
import { one, selectorOf } from './read.ts'
import type { ResourcePath } from './request-target.ts'

export async function createObject(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): Promise<void> {
  const form = chooseForm(exchange.request.headers.accept)
  const body = withKind(resource, await readBodyObject(exchange))
  const created = objects.create(resource, path.namespace, body, writeContext(exchange, ''))
  exchange.send(201, one(resource, created, form, exchange))
}

export async function replaceObject(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): Promise<void> {
  const form = chooseForm(exchange.request.headers.accept)
  const body = withKind(resource, await readBodyObject(exchange))
  const updated = objects.update(resource, path, body, writeContext(exchange, subresourceOf(path)))
  exchange.send(updated.created ? 201 : 200, one(resource, updated.object, form, exchange))
}

export async function patchObject(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): Promise<void> {
  const form = chooseForm(exchange.request.headers.accept)
  const write = writeContext(exchange, subresourceOf(path))
  if (exchange.contentType === 'application/apply-patch+yaml') {
    const { object, created } = await applyObject(objects, resource, path, exchange, write)
    exchange.send(created ? 201 : 200, one(resource, object, form, exchange))
    return
  }
  const bytes = await exchange.readBody()
  const change = patchOf(resource, exchange.contentType, bytes)
  const patched = objects.patch(resource, path, change, write)
  exchange.send(200, one(resource, patched, form, exchange))
}

async function applyObject(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange,
  write: WriteContext
): Promise<{ object: ApiObject; created: boolean }> {
  if (exchange.query('fieldManager') === undefined) {
    const kind = { group: 'meta.k8s.io', kind: 'PatchOptions' }
    throw invalid(kind, '', [required('fieldManager', 'is required for apply patch')])
  }
  const bytes = await exchange.readBody()
  const body = expectObject(await parseYamlOrJson(bytes))
  return objects.apply(resource, path, body, { ...write, force: exchange.flag('force') })
}

async function parseYamlOrJson(bytes: Buffer): Promise<unknown> {
  if (/^\s*\{/.test(bytes.toString('utf8', 0, 100))) {
    try {
      return JSON.parse(bytes.toString('utf8')) as unknown
    } catch {
      // YAML's flow form looks like JSON too: what it is not either is reported below
    }
  }
  const { parseYaml, YamlError } = await import('../../../shared/kube/yaml.ts')
  try {
    return parseYaml(bytes.toString('utf8'), 'body')
  } catch (error) {
    if (error instanceof YamlError) throw badRequest(`error decoding YAML: ${error.message}`)
    throw error
  }
}

const patchTypes = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/apply-patch+yaml'
]
const strategicType = 'application/strategic-merge-patch+json'

/** What a patch makes of an object. Throws 415 for a kind of patch that the resource does not take. */
export function patchOf(
  resource: Resource,
  contentType: string,
  bytes: Buffer
): (current: ApiObject) => unknown {
  switch (contentType) {
    case 'application/json-patch+json': {
      const operations = parseJson(bytes)
      return current => applyJsonPatch(current, operations)
    }
    case 'application/merge-patch+json': {
      const patch = expectObject(parseJson(bytes))
      return current => applyMergePatch(current, patch)
    }
    case strategicType: {
      if (resource.origin === 'custom') break
      const patch = expectObject(parseJson(bytes))
      return current => applyStrategicMerge(current, patch, resource.type)
    }
    default:
  }
  const accepted = resource.origin === 'custom' ? patchTypes : [...patchTypes, strategicType]
  throw new ApiError(
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`
  )
}

export async function deleteObject(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): Promise<void> {
  const { request, dryRun } = await readDeletion(exchange)
  const { object, gone } = objects.delete(resource, path, request, dryRun)
  if (!gone || answersWithObject.has(resource.collection)) {
    exchange.send(200, presented(resource, object))
    return
  }
  const { name, uid } = object.metadata
  const details = {
    name,
    ...(resource.group === '' ? {} : { group: resource.group }),
    kind: resource.plural,
    uid
  }
  exchange.send(200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details })
}

/** Kinds of which the last state is answered in place of a Status. */
const answersWithObject = new Set([
  '/pods',
  '/services',
  '/serviceaccounts',
  '/persistentvolumes',
  '/persistentvolumeclaims',
  '/podtemplates',
  '/resourcequotas'
])

export async function deleteCollection(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): Promise<void> {
  const { request, dryRun } = await readDeletion(exchange)
  const matches = selectorOf(resource, path, exchange)
  const doomed = [...objects.collection(resource).all()].filter(matches)
  const items = doomed.map(object => objects.delete(resource, keyOf(object), request, dryRun).object)
  const metadata = { resourceVersion: String(objects.storage.revision) }
  exchange.send(200, { kind: resource.listKind, apiVersion: apiVersionOf(resource), metadata, items })
}

function keyOf(object: ApiObject): ObjectKey {
  return { namespace: object.metadata.namespace ?? '', name: object.metadata.name }
}

async function readDeletion(exchange: Exchange): Promise<{ request: DeletionRequest; dryRun: boolean }> {
  const body = objectOf(await readBodyObject(exchange, { kind: 'DeleteOptions', apiVersion: 'v1' }))
  const preconditions = objectOf(body['preconditions'])
  const grace = exchange.number('gracePeriodSeconds') ?? body['gracePeriodSeconds']
  const dryRun = [
    ...(Array.isArray(body['dryRun']) ? body['dryRun'] : []),
    exchange.query('dryRun')
  ].includes('All')
  const orphan = body['orphanDependents']
  return {
    dryRun,
    request: {
      gracePeriodSeconds: typeof grace === 'number' ? grace : undefined,
      propagationPolicy: readPropagation(
        exchange.query('propagationPolicy') ??
          body['propagationPolicy'] ??
          (orphan === true ? 'Orphan' : undefined)
      ),
      uid: textOf(preconditions['uid']) || undefined,
      resourceVersion: textOf(preconditions['resourceVersion']) || undefined
    }
  }
}

function readPropagation(value: unknown): DeletionRequest['propagationPolicy'] {
  if (value === undefined || value === 'Background' || value === 'Foreground' || value === 'Orphan')
    return value
  throw badRequest(
    `propagationPolicy: Unsupported value: ${JSON.stringify(value)}: supported values: "Background", "Foreground", "Orphan"`
  )
}

export function writeContext(exchange: Exchange, subresource: WriteContext['subresource']): WriteContext {
  const dryRun = exchange.query('dryRun')
  if (dryRun !== undefined && dryRun !== 'All')
    throw badRequest(`dryRun: Unsupported value: ${JSON.stringify(dryRun)}: supported values: "All"`)
  const fieldValidation = exchange.query('fieldValidation') ?? 'Warn'
  if (fieldValidation !== 'Strict' && fieldValidation !== 'Warn' && fieldValidation !== 'Ignore') {
    throw badRequest(
      `fieldValidation: Unsupported value: ${JSON.stringify(fieldValidation)}: supported values: "Ignore", "Strict", "Warn"`
    )
  }
  return {
    manager: managerOf(exchange),
    subresource,
    dryRun: dryRun === 'All',
    fieldValidation,
    warn: text => exchange.warn(text)
  }
}

const maxManagerLength = 128

function managerOf(exchange: Exchange): string {
  const given = exchange.query('fieldManager')
  if (given !== undefined && (given.length > maxManagerLength || !/^[\x20-\x7e]+$/.test(given))) {
    throw badRequest(
      `fieldManager: Invalid value: ${JSON.stringify(given)}: must be at most ${maxManagerLength} printable characters`
    )
  }
  const agent = exchange.request.headers['user-agent']?.split('/', 1)[0]?.slice(0, maxManagerLength)
  return given ?? (agent || 'unknown')
}

function subresourceOf(path: ResourcePath): WriteContext['subresource'] {
  return path.subresource === 'status' ? 'status' : ''
}

/** Kind and version may be left out of a body: the path says them. */
function withKind(resource: Resource, body: JsonObject): JsonObject {
  const apiVersion = apiVersionOf(resource)
  if (body['kind'] === undefined && body['apiVersion'] === undefined)
    return { apiVersion, kind: resource.kind, ...body }
  return body
}
