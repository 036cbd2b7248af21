/** Watches: changes as one JSON object a line, with bookmarks; a client that is too slow is sent off with 410. */
import type { ServerResponse } from 'node:http'
import { ApiError, expired } from '../api-error.ts'
import type { ApiObject } from '../object.ts'
import type { ApiObjects } from '../objects.ts'
import { presented } from '../stored-form.ts'
import { apiVersionOf, type Resource } from '../resources.ts'
import type { Match } from '../selectors.ts'
import type { Change, Collection } from '../storage.ts'
import type { Exchange } from './exchange.ts'
import { chooseForm, type Form } from './media-types.ts'
import { includeOf, readRevision, selectorOf } from './read.ts'
import type { ResourcePath } from './request-target.ts'
import { metadataOnly, table, type Include } from './tables.ts'

/** Events that wait for a client which does not read; then it has to list again. */
export const maxWaiting = 1000
/** How long a client has to read why its watch ended. */
const lastWordMs = 10_000
/** Longest watch without `timeoutSeconds`; clients start the next one where this ended. */
const defaultTimeoutSeconds = 1800

export interface WatchOptions {
  /** How often a client that asked for it learns the current revision. */
  readonly bookmarkMs: number
  /** Aborts when the store closes. */
  readonly closing: AbortSignal
}

type EventType = 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'

export function watchObjects(
  objects: ApiObjects,
  resource: Resource,
  path: ResourcePath,
  exchange: Exchange,
  { bookmarkMs, closing }: WatchOptions
): void {
  const form = chooseForm(exchange.request.headers.accept)
  const matches = selectorOf(resource, path, exchange)
  const collection = objects.collection(resource)
  const start = readRevision(exchange, objects.storage.revision)
  const initial = exchange.flag('sendInitialEvents')
  const fromState = start === undefined || start === 0 || initial
  const missed = fromState ? [] : changesSince(collection, start)
  const stream = new WatchStream(exchange.response, resource, form, includeOf(exchange))
  if (missed instanceof ApiError) return stream.fail(missed)
  if (fromState) {
    for (const object of collection.all()) if (matches(object)) stream.send('ADDED', object)
    if (initial) stream.bookmark(objects.storage.revision, true)
  }
  for (const change of missed) sendChange(stream, change, matches)

  const stop = collection.listen({
    onChange: change => sendChange(stream, change, matches),
    onEnd: () => stream.end()
  })
  const timeout = setTimeout(
    () => stream.end(),
    (exchange.number('timeoutSeconds') || defaultTimeoutSeconds) * 1000
  )
  const bookmarks = exchange.flag('allowWatchBookmarks')
    ? setInterval(() => stream.bookmark(objects.storage.revision, false), bookmarkMs)
    : undefined
  timeout.unref()
  bookmarks?.unref()
  const end = (): void => stream.end()
  closing.addEventListener('abort', end, { once: true })
  exchange.response.once('close', () => {
    stop()
    clearTimeout(timeout)
    clearInterval(bookmarks)
    closing.removeEventListener('abort', end)
  })
  if (closing.aborted) end()
}

/** What happened since; or that it is forgotten, which the client learns from the stream. */
function changesSince(collection: Collection, revision: number): readonly Change[] | ApiError {
  try {
    return collection.since(revision)
  } catch (error) {
    if (error instanceof ApiError) return error
    throw error
  }
}

/** An object that starts or stops to match is added or deleted, as the client sees it. */
function sendChange(stream: WatchStream, change: Change, matches: Match): void {
  const { previous, object } = change
  const before = previous !== undefined && matches(previous)
  const after = change.type !== 'DELETED' && matches(object)
  if (after) stream.send(before ? 'MODIFIED' : 'ADDED', object)
  else if (before) {
    // the last state that matched, under the revision at which it ceased to
    const gone = change.type === 'DELETED' ? object : withRevision(previous, object.metadata.resourceVersion)
    stream.send('DELETED', gone)
  }
}

function withRevision(object: ApiObject, resourceVersion: string): ApiObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion } }
}

class WatchStream {
  readonly #response: ServerResponse
  readonly #resource: Resource
  readonly #form: Form
  readonly #include: Include
  #waiting: (() => string)[] = []
  #blocked = false
  #ended = false
  #first = true

  constructor(response: ServerResponse, resource: Resource, form: Form, include: Include) {
    this.#response = response
    this.#resource = resource
    this.#form = form
    this.#include = include
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
    response.flushHeaders()
    response.on('drain', () => this.#drain())
    response.on('error', () => this.end()) // the client is gone
  }

  send(type: EventType, object: ApiObject): void {
    this.#push(() => this.#line(type, this.#formed(presented(this.#resource, object))))
  }

  bookmark(revision: number, initialEventsEnd: boolean): void {
    const annotations = { 'k8s.io/initial-events-end': 'true' }
    const object = {
      kind: this.#resource.kind,
      apiVersion: apiVersionOf(this.#resource),
      metadata: {
        resourceVersion: String(revision),
        creationTimestamp: null,
        ...(initialEventsEnd ? { annotations } : {})
      }
    }
    this.#push(() => this.#line('BOOKMARK', this.#formedBookmark(object)))
  }

  fail(error: ApiError): void {
    if (this.#ended) return
    this.#response.write(this.#line('ERROR', error.toStatus()))
    this.end()
  }

  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#waiting = []
    this.#response.end()
  }

  /** What waits is kept as the objects that the store holds anyway, and written out when there is room. */
  #push(line: () => string): void {
    if (this.#ended) return
    if (!this.#blocked) {
      this.#blocked = !this.#response.write(line())
      return
    }
    this.#waiting.push(line)
    if (this.#waiting.length <= maxWaiting) return
    this.#sendOff()
  }

  /** Ends the connection too: a client that fell behind may not read for long. */
  #sendOff(): void {
    const { socket } = this.#response
    this.#response.once('finish', () => socket?.end())
    this.fail(expired(`the watch fell more than ${maxWaiting} events behind; list again`))
    const timer = setTimeout(() => socket?.destroy(), lastWordMs)
    timer.unref()
    socket?.once('close', () => clearTimeout(timer))
  }

  #drain(): void {
    this.#blocked = false
    let next = 0
    for (; next < this.#waiting.length && !this.#blocked; next += 1) {
      const line = this.#waiting[next]
      if (line !== undefined) this.#blocked = !this.#response.write(line())
    }
    this.#waiting = this.#waiting.slice(next)
  }

  #line(type: EventType, object: unknown): string {
    return `${JSON.stringify({ type, object })}\n`
  }

  #formed(object: ApiObject): unknown {
    if (this.#form === 'metadata') return metadataOnly(object)
    if (this.#form === 'object') return object
    const rows = table(this.#resource, [object], this.#include, this.#first)
    this.#first = false
    return { ...rows, metadata: { resourceVersion: object.metadata.resourceVersion } }
  }

  #formedBookmark(object: { readonly metadata: { readonly resourceVersion: string } }): unknown {
    if (this.#form === 'object') return object
    if (this.#form === 'metadata')
      return { ...object, kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1' }
    const { resourceVersion } = object.metadata
    return {
      kind: 'Table',
      apiVersion: 'meta.k8s.io/v1',
      metadata: { resourceVersion },
      columnDefinitions: null,
      rows: [{ cells: [], object }]
    }
  }
}
