/** Answers requests: who asks, what for, and which handler knows. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Logger } from '../../../shared/telemetry/logger.ts'
import { messageOf } from '../../../shared/runtime/errors.ts'
import { ApiError, badRequest } from '../api-error.ts'
import type { Authenticator } from '../auth/authenticate.ts'
import { issuer, type TokenAuthority, type User } from '../auth/tokens.ts'
import { listOf, objectOf, textOf } from '../json.ts'
import type { ApiObjects } from '../objects.ts'
import type { PodRuntime } from '../pod-runtime.ts'
import type { Resource } from '../resources.ts'
import { readBodyObject } from './body.ts'
import { aggregated, coreVersions, groupDocument, groupList, resourceList, verbsOf } from './discovery.ts'
import { expectObject, Exchange } from './exchange.ts'
import { wantsAggregated } from './media-types.ts'
import { swaggerProtobuf, type OpenApi } from './openapi.ts'
import { sendLogs } from './pod-logs.ts'
import { getObject, listObjects } from './read.ts'
import { readTarget, type RequestTarget, type ResourcePath } from './request-target.ts'
import { review } from './reviews.ts'
import { bindPod, changeScale, requestToken, scaleOf } from './subresources.ts'
import { version } from './version.ts'
import { watchObjects } from './watch.ts'
import {
  createObject,
  deleteCollection,
  deleteObject,
  patchObject,
  patchOf,
  replaceObject,
  writeContext
} from './write.ts'

export interface ServerDeps {
  readonly objects: ApiObjects
  readonly openApi: OpenApi
  readonly authenticator: Authenticator
  readonly tokens: TokenAuthority
  readonly pods: () => PodRuntime | undefined
  readonly logger: Logger
  readonly bookmarkMs: number
  /** Aborts when the store closes. */
  readonly closing: AbortSignal
}

/** Paths that load balancers and probes read without credentials. */
const openPaths = ['/healthz', '/livez', '/readyz', '/version']
const anonymous: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] }

export async function answer(
  deps: ServerDeps,
  request: IncomingMessage,
  response: ServerResponse
): Promise<void> {
  const url = URL.parse(request.url ?? '/', 'https://store')
  const exchange = new Exchange(request, response, url ?? new URL('https://store/'), anonymous)
  try {
    const target = url === null ? undefined : readTarget(url.pathname)
    if (url === null || target === undefined) throw badRequest('the path is not a valid URL path')
    const open =
      target.kind === 'other' &&
      openPaths.some(path => target.path === path || target.path.startsWith(`${path}/`))
    const user = open ? anonymous : deps.authenticator.authenticate(request.headers)
    await answerTarget(deps, target, new Exchange(request, response, url, user))
  } catch (error) {
    exchange.fail(asApiError(error, deps.logger, request))
  }
}

/** A fault of ours is logged and answered with 500. */
export function asApiError(error: unknown, logger: Logger, request: IncomingMessage): ApiError {
  if (error instanceof ApiError) return error
  if (request.errored !== null && request.errored !== undefined)
    return badRequest('the request ended before its body did')
  logger.error('a request to the API store failed', {
    method: request.method,
    path: request.url,
    error: error instanceof Error ? error.stack : messageOf(error)
  })
  return new ApiError('InternalError', `Internal error occurred: ${messageOf(error)}`)
}

async function answerTarget(deps: ServerDeps, target: RequestTarget, exchange: Exchange): Promise<void> {
  if (target.kind === 'other') return answerDocument(deps, target.path, exchange)
  const { path } = target
  const resource = deps.objects.registry.find(target.group, target.version, path.plural)
  if (resource === undefined)
    throw new ApiError('NotFound', 'the server could not find the requested resource')
  if (path.namespace !== '' && !resource.namespaced)
    throw new ApiError('NotFound', 'the server could not find the requested resource')
  if (path.subresource !== '' && path.subresource !== 'status')
    return answerSubresource(deps, resource, path, exchange)
  if (path.subresource === 'status' && !resource.subresources.has('status')) {
    throw new ApiError('NotFound', 'the server could not find the requested resource')
  }
  if (resource.deprecation !== undefined) exchange.warn(resource.deprecation)
  if (!resource.stored) return answerReview(deps, resource, exchange)
  return path.name === ''
    ? answerCollection(deps, resource, path, exchange)
    : answerObject(deps, resource, path, exchange)
}

async function answerCollection(
  deps: ServerDeps,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): Promise<void> {
  const { objects } = deps
  switch (exchange.method) {
    case 'GET':
      return exchange.flag('watch')
        ? watchObjects(objects, resource, path, exchange, deps)
        : listObjects(objects, resource, path, exchange)
    case 'POST':
      if (resource.namespaced && path.namespace === '') throw methodNotAllowed(exchange)
      return createObject(objects, resource, path, exchange)
    case 'DELETE':
      if (!verbsOf(resource).includes('deletecollection')) throw methodNotAllowed(exchange)
      return deleteCollection(objects, resource, path, exchange)
    default:
      throw methodNotAllowed(exchange)
  }
}

async function answerObject(
  deps: ServerDeps,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): Promise<void> {
  const { objects } = deps
  switch (exchange.method) {
    case 'GET':
      return getObject(objects, resource, path, exchange)
    case 'PUT':
      return replaceObject(objects, resource, path, exchange)
    case 'PATCH':
      return patchObject(objects, resource, path, exchange)
    case 'DELETE':
      if (path.subresource !== '') throw methodNotAllowed(exchange)
      return deleteObject(objects, resource, path, exchange)
    default:
      throw methodNotAllowed(exchange)
  }
}

async function answerSubresource(
  deps: ServerDeps,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange
): Promise<void> {
  const { objects } = deps
  if (!resource.subresources.has(path.subresource)) {
    throw new ApiError('NotFound', 'the server could not find the requested resource')
  }
  const is = (subresource: string, method: string): boolean =>
    path.subresource === subresource && exchange.method === method
  if (is('scale', 'GET')) return exchange.send(200, scaleOf(resource, objects.get(resource, path)))
  if (is('scale', 'PUT')) {
    const scale = await readBodyObject(exchange)
    return exchange.send(
      200,
      changeScale(objects, resource, path, () => scale, writeContext(exchange, 'scale'))
    )
  }
  if (is('scale', 'PATCH')) {
    const change = patchOf(resource, exchange.contentType, await exchange.readBody())
    const apply = (scale: unknown): unknown => change(scale as Parameters<typeof change>[0])
    return exchange.send(200, changeScale(objects, resource, path, apply, writeContext(exchange, 'scale')))
  }
  if (is('token', 'POST')) {
    const body = await readBodyObject(exchange)
    return exchange.send(201, requestToken(objects, deps.tokens, objects.get(resource, path), body))
  }
  if (is('binding', 'POST')) {
    bindPod(objects, resource, path, await readBodyObject(exchange), writeContext(exchange, ''))
    return exchange.send(201, {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Success',
      code: 201
    })
  }
  if (is('eviction', 'POST')) {
    const options = objectOf((await readBodyObject(exchange))['deleteOptions'])
    const { gracePeriodSeconds } = options
    objects.delete(resource, path, {
      gracePeriodSeconds: typeof gracePeriodSeconds === 'number' ? gracePeriodSeconds : undefined
    })
    return exchange.send(201, {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Success',
      code: 201
    })
  }
  if (is('finalize', 'PUT')) {
    const body = expectObject(await readBodyObject(exchange))
    return exchange.send(
      200,
      objects.finalizeNamespace(resource, path, listOf(objectOf(body['spec'])['finalizers']).map(textOf))
    )
  }
  if (is('log', 'GET')) return sendLogs(objects, resource, path, deps.pods(), exchange, deps.closing)
  if (is('ephemeralcontainers', 'GET')) return getObject(objects, resource, path, exchange)
  if (path.subresource === 'exec' || path.subresource === 'portforward') {
    throw badRequest('Upgrade request required')
  }
  throw methodNotAllowed(exchange)
}

async function answerReview(deps: ServerDeps, resource: Resource, exchange: Exchange): Promise<void> {
  if (exchange.method !== 'POST') throw methodNotAllowed(exchange)
  const body = await readBodyObject(exchange)
  const authenticate = (token: string): User | undefined => deps.authenticator.userOf(token)
  exchange.send(201, review(resource, body, exchange.user, authenticate, deps.tokens))
}

function answerDocument(deps: ServerDeps, path: string, exchange: Exchange): void {
  if (exchange.method !== 'GET') throw methodNotAllowed(exchange)
  const { registry } = deps.objects
  const [, first = '', second = '', third = ''] = path.split('/')
  if (['healthz', 'livez', 'readyz'].includes(first))
    return exchange.send(200, 'ok', 'text/plain; charset=utf-8')
  if (path === '/version') return exchange.send(200, version)
  if (path === '/openid/v1/jwks') return exchange.send(200, deps.tokens.jwks(), 'application/jwk-set+json')
  if (path === '/.well-known/openid-configuration') return exchange.send(200, openIdConfiguration())
  if (path === '/openapi/v2') {
    const wantsProtobuf = exchange.request.headers.accept?.includes(swaggerProtobuf.wanted) === true
    if (wantsProtobuf) return exchange.send(200, swaggerProtobuf.document, swaggerProtobuf.contentType)
    return exchange.send(200, deps.openApi.swagger())
  }
  if (path === '/openapi/v3') return exchange.send(200, deps.openApi.root())
  if (path.startsWith('/openapi/v3/')) {
    const document = deps.openApi.document(path.slice('/openapi/v3/'.length))
    if (document === undefined) throw notFoundPath()
    return exchange.send(200, document.text)
  }
  const { accept } = exchange.request.headers
  if ((path === '/api' || path === '/apis') && wantsAggregated(accept)) {
    const type = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList'
    return exchange.send(200, aggregated(registry, path === '/api'), type)
  }
  if (path === '/api') return exchange.send(200, coreVersions())
  if (path === '/apis') return exchange.send(200, groupList(registry))
  const document =
    first === 'api'
      ? resourceList(registry, '', second)
      : third === ''
        ? groupDocument(registry, second)
        : resourceList(registry, second, third)
  if ((first !== 'api' && first !== 'apis') || document === undefined) throw notFoundPath()
  exchange.send(200, document)
}

function openIdConfiguration(): object {
  return {
    issuer,
    jwks_uri: `${issuer}/openid/v1/jwks`,
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['ES256']
  }
}

function notFoundPath(): ApiError {
  return new ApiError('NotFound', 'the server could not find the requested resource')
}

function methodNotAllowed(exchange: Exchange): ApiError {
  return new ApiError(
    'MethodNotAllowed',
    `the server does not allow this method on the requested resource (${exchange.method} ${exchange.url.pathname})`
  )
}
