/** Typed requests to the Kubernetes API. Errors are {@link KubeError} and {@link KubeUnreachableError}. */
import type { IncomingMessage } from 'node:http'
import type { ClusterAccess } from './config.ts'
import { KubeError, type KubeStatus } from './errors.ts'
import { HttpClient, readBody, type HttpAnswer } from './http.ts'
import { apiVersionOf, type KubeObject, type LabelSelector, type ResourceType } from './object.ts'

export interface ObjectRef {
  readonly namespace?: string | undefined
  readonly name: string
}

export interface ListOptions {
  /** Only this namespace; all when absent. */
  readonly namespace?: string | undefined
  readonly labelSelector?: string | undefined
  readonly fieldSelector?: string | undefined
  /** Longest page, in objects. */
  readonly limit?: number | undefined
  readonly continue?: string | undefined
  readonly resourceVersion?: string | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ObjectList<T> {
  readonly items: readonly T[]
  readonly resourceVersion: string
  /** Token of the next page; '' on the last one. */
  readonly continue: string
}

export interface WriteOptions {
  readonly fieldManager?: string | undefined
  /** A sub-resource such as `status`. */
  readonly subresource?: string | undefined
  readonly dryRun?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

export interface PatchOptions extends WriteOptions {
  readonly kind: 'merge' | 'json' | 'strategic' | 'apply'
  /** With `apply`: take over fields that others own. */
  readonly force?: boolean | undefined
}

export interface DeleteOptions {
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'
  readonly gracePeriodSeconds?: number
  /** Only the object with this uid. */
  readonly uid?: string
  readonly signal?: AbortSignal | undefined
}

const patchTypes = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml'
} as const

/** Longest answer that is read into memory: a page of 500 objects of the largest size that etcd takes. */
const maxAnswerBytes = 800 << 20

export class KubeClient {
  readonly access: ClusterAccess
  readonly #http: HttpClient

  constructor(access: ClusterAccess, userAgent = 'underpass') {
    this.access = access
    this.#http = new HttpClient(access, userAgent)
  }

  async get<T extends KubeObject>(type: ResourceType<T>, ref: ObjectRef, signal?: AbortSignal): Promise<T> {
    return this.#call<T>('get', 'GET', type, ref, {}, undefined, { signal })
  }

  /** As {@link get}; undefined when there is no such object. */
  async find<T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    signal?: AbortSignal
  ): Promise<T | undefined> {
    try {
      return await this.get(type, ref, signal)
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return undefined
      throw error
    }
  }

  /** One page, or everything without `limit`. Items have `apiVersion` and `kind` filled in. */
  async list<T extends KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<ObjectList<T>> {
    const { namespace, signal, limit, ...selectors } = options
    const query = { ...selectors, limit: limit === undefined ? undefined : String(limit) }
    const list = await this.#call<{
      items?: readonly T[] | null
      metadata?: { resourceVersion?: string; continue?: string }
    }>('list', 'GET', type, { namespace }, query, undefined, { signal })
    const identity = { apiVersion: apiVersionOf(type), kind: type.kind }
    return {
      items: (list.items ?? []).map(item => (item.kind ? item : { ...item, ...identity })),
      resourceVersion: list.metadata?.resourceVersion ?? '',
      continue: list.metadata?.continue ?? ''
    }
  }

  /** Opens a watch: the body is one JSON object `{ type, object }` a line. Throws on a refusal. */
  async watch(
    type: ResourceType,
    options: ListOptions & { readonly timeoutSeconds: number }
  ): Promise<IncomingMessage> {
    const { namespace, labelSelector, fieldSelector, resourceVersion, timeoutSeconds, signal } = options
    const query = {
      watch: '1',
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(timeoutSeconds),
      labelSelector,
      fieldSelector,
      resourceVersion
    }
    const path = pathOf(type, { namespace }, query)
    const answer = await this.#http.send({ method: 'GET', path, signal })
    if (answer.status !== 200) throw await refusal(answer, needsOf('watch', type, { namespace }))
    return answer.body
  }

  async create<T extends KubeObject>(
    type: ResourceType<T>,
    object: T,
    options: WriteOptions & { readonly name?: string } = {}
  ): Promise<T> {
    const { namespace } = object.metadata
    const ref = {
      namespace,
      ...(options.subresource === undefined ? {} : { name: options.name ?? object.metadata.name })
    }
    return this.#call<T>('create', 'POST', type, ref, writeQuery(options), object, options)
  }

  async replace<T extends KubeObject>(
    type: ResourceType<T>,
    object: T,
    options: WriteOptions = {}
  ): Promise<T> {
    const { namespace, name } = object.metadata
    return this.#call<T>('update', 'PUT', type, { namespace, name }, writeQuery(options), object, options)
  }

  /** `body` is a partial object, the operations of a JSON patch, or a whole manifest for `apply`. */
  async patch<T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    body: unknown,
    options: PatchOptions
  ): Promise<T> {
    const query = { ...writeQuery(options), force: options.force === true ? 'true' : undefined }
    return this.#call<T>('patch', 'PATCH', type, ref, query, body, options, patchTypes[options.kind])
  }

  async delete(type: ResourceType, ref: ObjectRef, options: DeleteOptions = {}): Promise<void> {
    const { propagationPolicy, gracePeriodSeconds, uid, signal } = options
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy,
      gracePeriodSeconds,
      ...(uid === undefined ? {} : { preconditions: { uid } })
    }
    await this.#call('delete', 'DELETE', type, ref, {}, body, { signal })
  }

  /** Any request, for what the typed ones do not cover; the answer is parsed when it is JSON, else text. */
  async raw(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<unknown> {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const answer = await this.#http.send({
      method,
      path,
      signal,
      ...(text === undefined ? {} : { body: text })
    })
    if (answer.status >= 300) throw await refusal(answer, `${method} ${path.split('?')[0]}`)
    const content = await readBody(answer.body, maxAnswerBytes)
    return answer.headers['content-type']?.startsWith('application/json') ? JSON.parse(content) : content
  }

  /** An answer of any length, such as a log that is followed; the signal ends it. Throws on a refusal. */
  async stream(path: string, needs: string, signal: AbortSignal): Promise<IncomingMessage> {
    const answer = await this.#http.send({ method: 'GET', path, accept: '*/*', signal })
    if (answer.status !== 200) throw await refusal(answer, needs)
    return answer.body
  }

  /** Ends the kept connections. Requests in flight fail. */
  close(): void {
    this.#http.close()
  }

  async #call<T>(
    verb: string,
    method: string,
    type: ResourceType,
    ref: Partial<ObjectRef>,
    query: Query,
    body: unknown,
    options: { readonly subresource?: string | undefined; readonly signal?: AbortSignal | undefined },
    contentType = 'application/json'
  ): Promise<T> {
    const { subresource, signal } = options
    const answer = await this.#http.send({
      method,
      path: pathOf(type, ref, query, subresource),
      signal,
      ...(body === undefined ? {} : { body: JSON.stringify(body), contentType })
    })
    if (answer.status >= 300) throw await refusal(answer, needsOf(verb, type, ref, subresource))
    return JSON.parse(await readBody(answer.body, maxAnswerBytes)) as T
  }
}

type Query = Readonly<Record<string, string | undefined>>

/** Path of a kind's collection, of one object, or of its sub-resource. */
export function pathOf(
  type: ResourceType,
  ref: Partial<ObjectRef>,
  query: Query = {},
  subresource?: string
): string {
  const root = type.group === '' ? `/api/${type.version}` : `/apis/${type.group}/${type.version}`
  const parts = [root]
  if (type.namespaced && ref.namespace !== undefined)
    parts.push('namespaces', encodeURIComponent(ref.namespace))
  parts.push(type.plural)
  if (ref.name !== undefined) parts.push(encodeURIComponent(ref.name))
  if (subresource !== undefined) parts.push(subresource)
  const set = Object.entries(query).filter(
    (pair): pair is [string, string] => pair[1] !== undefined && pair[1] !== ''
  )
  const suffix = set.length === 0 ? '' : `?${new URLSearchParams(set).toString()}`
  return parts.join('/') + suffix
}

/** A label selector as the query parameter `labelSelector` wants it; '' selects everything. */
export function formatSelector(selector: LabelSelector): string {
  const labels = Object.entries(selector.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`)
  const expressions = (selector.matchExpressions ?? []).map(({ key, operator, values = [] }) => {
    switch (operator) {
      case 'In':
        return `${key} in (${values.join(',')})`
      case 'NotIn':
        return `${key} notin (${values.join(',')})`
      case 'Exists':
        return key
      case 'DoesNotExist':
        return `!${key}`
      default:
        return operator satisfies never
    }
  })
  return [...labels, ...expressions].join(',')
}

function writeQuery({ fieldManager, dryRun }: WriteOptions): Query {
  return { fieldManager, dryRun: dryRun === true ? 'All' : undefined }
}

/** `list pods in namespace shop`, as an operator would write the missing rule. */
function needsOf(verb: string, type: ResourceType, ref: Partial<ObjectRef>, subresource?: string): string {
  const group = type.group === '' ? '' : `.${type.group}`
  const resource = `${type.plural}${group}${subresource === undefined ? '' : `/${subresource}`}`
  if (!type.namespaced) return `${verb} ${resource}`
  return `${verb} ${resource} in ${ref.namespace === undefined ? 'all namespaces' : `namespace ${ref.namespace}`}`
}

async function refusal(answer: HttpAnswer, needs: string): Promise<KubeError> {
  const text = await readBody(answer.body, 1 << 20).catch(() => '') // the status says enough when the body breaks
  return kubeErrorFrom(answer.status, text, needs, Number(answer.headers['retry-after'] ?? 0) || 0)
}

/** The error in an answer that was refused; the body is a `metav1.Status` in JSON, or any text from a proxy. */
export function kubeErrorFrom(status: number, body: string, needs: string, retryAfterSeconds = 0): KubeError {
  let parsed: KubeStatus = {}
  try {
    const value: unknown = JSON.parse(body)
    if (typeof value === 'object' && value !== null) parsed = value
  } catch {
    // not JSON: what a proxy in between said is kept, shortened
    parsed = body.trim() === '' ? {} : { message: `${status}: ${body.trim().slice(0, 300)}` }
  }
  return new KubeError(status, parsed, needs, retryAfterSeconds)
}
