/**
 * A local copy of all objects of one kind that follows the API server: list in pages, then watch with
 * bookmarks, resumed from the last version seen. When that version is no longer kept (410) everything is
 * listed again and only differences are reported, so a handler sees each change once.
 */
import type { IncomingMessage } from 'node:http'
import { Backoff } from '../runtime/backoff.ts'
import { sleep } from '../runtime/clock.ts'
import { messageOf } from '../runtime/errors.ts'
import { silent, type Logger } from '../telemetry/logger.ts'
import type { KubeClient } from './client.ts'
import { KubeError, isExpired, isNotFound, type KubeStatus } from './errors.ts'
import { objectKey, type KubeObject, type ResourceType } from './object.ts'

export type Change<T> =
  | { readonly type: 'added'; readonly object: T }
  | { readonly type: 'modified'; readonly object: T; readonly previous: T }
  | { readonly type: 'deleted'; readonly object: T }

export interface InformerOptions<T> {
  readonly namespace?: string | undefined
  readonly labelSelector?: string | undefined
  readonly fieldSelector?: string | undefined
  readonly signal: AbortSignal
  /** What is kept of an object: drop the fields that nobody reads, to save memory. Metadata's uid and resourceVersion must stay. */
  readonly trim?: (object: T) => T
  readonly onChange?: (change: Change<T>) => void
  /** After the first complete list, and once more after each later one. */
  readonly onSynced?: () => void
  readonly log?: Logger
  /** Objects a page. */
  readonly pageSize?: number
  /** First and longest waiting time after a failure, in milliseconds. */
  readonly backoff?: { readonly initialMs: number; readonly maxMs: number }
}

export interface Informer<T> {
  readonly type: ResourceType
  /** The objects by `namespace/name`, or by `name` for kinds without namespaces. Live: it changes as they do. */
  items(): ReadonlyMap<string, T>
  get(key: string): T | undefined
  /** Resolves when the first list is complete (a kind that the cluster does not have counts as empty); never rejects. */
  readonly synced: Promise<void>
  readonly isSynced: boolean
  /** Milliseconds since the API server last said something about this kind. */
  ageMs(): number
  /** Why the last attempt failed; undefined while all is well. */
  readonly problem: string | undefined
}

/** A watch is asked to end after this time, in seconds; spread so that not all of them return at once. */
const watchSeconds = { least: 290, spread: 120 }
/**
 * A watch that the server has not ended so long after the time it was asked to, in seconds, is dead. Silence before
 * says nothing: kinds that have not changed since the server started get no bookmarks. A peer that is gone is found
 * within a minute by TCP keepalive.
 */
const overdueSeconds = 30
/** A watch that ends sooner without an event, in milliseconds, ended because something is wrong. */
const hastyMs = 10_000
/** Longest line of a watch; etcd takes objects of 1.5 MiB, JSON may be a few times that. */
const maxLineBytes = 32 << 20

export function informer<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType<T>,
  options: InformerOptions<T>
): Informer<T> {
  const follower = new Follower(client, type, options)
  follower.start()
  return follower
}

class Follower<T extends KubeObject> implements Informer<T> {
  readonly type: ResourceType<T>
  readonly synced: Promise<void>
  readonly #client: KubeClient
  readonly #options: InformerOptions<T>
  readonly #log: Logger
  readonly #items = new Map<string, T>()
  readonly #backoff: Backoff
  #markSynced: () => void = () => undefined
  #isSynced = false
  #heardAt = performance.now()
  #problem: string | undefined
  /** '' = list first. */
  #resourceVersion = ''

  constructor(client: KubeClient, type: ResourceType<T>, options: InformerOptions<T>) {
    this.#client = client
    this.type = type
    this.#options = options
    this.#log = options.log ?? silent
    this.#backoff = new Backoff({ initialMs: 250, maxMs: 15_000, jitter: 0.2, ...options.backoff })
    this.synced = new Promise(resolve => {
      this.#markSynced = resolve
    })
  }

  get isSynced(): boolean {
    return this.#isSynced
  }

  get problem(): string | undefined {
    return this.#problem
  }

  items(): ReadonlyMap<string, T> {
    return this.#items
  }

  get(key: string): T | undefined {
    return this.#items.get(key)
  }

  ageMs(): number {
    return performance.now() - this.#heardAt
  }

  start(): void {
    // #follow catches what its rounds throw; a rejection here would be a fault of this file and must be seen
    void this.#follow()
  }

  async #follow(): Promise<void> {
    const { signal } = this.#options
    while (!signal.aborted) {
      try {
        if (this.#resourceVersion === '') await this.#list()
        await this.#watch()
      } catch (error) {
        if (signal.aborted) return
        await sleep(this.#afterFailure(error), signal)
      }
    }
  }

  /** Notes the failure; returns the time to wait, in milliseconds. */
  #afterFailure(error: unknown): number {
    const wait = this.#backoff.next()
    if (isExpired(error)) {
      this.#resourceVersion = ''
      return wait
    }
    if (isNotFound(error)) {
      // the cluster does not have this kind (yet): quiet, and what was known is gone with it
      this.#resourceVersion = ''
      if (!this.#isSynced || this.#items.size > 0) this.#reconcile(new Map())
      this.#problem = `the cluster has no ${this.type.plural}.${this.type.group}`
      return wait
    }
    const text =
      error instanceof KubeError && error.status === 403
        ? `${error.message} (needs: ${error.needs})`
        : messageOf(error)
    if (this.#problem !== text)
      this.#log.warn(`watching ${this.type.plural} failed, trying again`, { error: text })
    this.#problem = text
    return error instanceof KubeError ? Math.max(wait, error.retryAfterSeconds * 1000) : wait
  }

  async #list(): Promise<void> {
    const { namespace, labelSelector, fieldSelector, signal, pageSize = 500, trim } = this.#options
    const found = new Map<string, T>()
    let page = ''
    let version = ''
    do {
      const list = await this.#client.list(this.type, {
        namespace,
        labelSelector,
        fieldSelector,
        limit: pageSize,
        continue: page,
        signal
      })
      for (const item of list.items) found.set(objectKey(item), trim === undefined ? item : trim(item))
      page = list.continue
      version = list.resourceVersion
    } while (page !== '')
    this.#heard()
    this.#reconcile(found)
    this.#resourceVersion = version
  }

  /** Makes the copy equal to `found`, telling the differences. */
  #reconcile(found: ReadonlyMap<string, T>): void {
    for (const [key, object] of this.#items) if (!found.has(key)) this.#remove(key, object)
    for (const [key, object] of found) this.#put(key, object)
    this.#isSynced = true
    this.#markSynced()
    this.#guarded('a complete list', () => this.#options.onSynced?.())
  }

  #put(key: string, object: T): void {
    const previous = this.#items.get(key)
    if (previous !== undefined && previous.metadata.uid !== object.metadata.uid) {
      // deleted and made anew under the same name while nobody watched
      this.#remove(key, previous)
      this.#put(key, object)
      return
    }
    if (previous?.metadata.resourceVersion === object.metadata.resourceVersion && previous !== undefined)
      return
    this.#items.set(key, object)
    this.#tell(previous === undefined ? { type: 'added', object } : { type: 'modified', object, previous })
  }

  #remove(key: string, object: T): void {
    if (this.#items.delete(key)) this.#tell({ type: 'deleted', object })
  }

  #tell(change: Change<T>): void {
    this.#guarded(`${change.type} ${objectKey(change.object)}`, () => this.#options.onChange?.(change))
  }

  /** One object that a handler cannot take must not stop the others. */
  #guarded(what: string, handle: () => void): void {
    try {
      handle()
    } catch (error) {
      this.#log.error(`handling ${what} of ${this.type.plural} failed`, { error: messageOf(error) })
    }
  }

  async #watch(): Promise<void> {
    const { namespace, labelSelector, fieldSelector, signal } = this.#options
    const timeoutSeconds = watchSeconds.least + Math.floor(Math.random() * watchSeconds.spread)
    const body = await this.#client.watch(this.type, {
      namespace,
      labelSelector,
      fieldSelector,
      resourceVersion: this.#resourceVersion,
      timeoutSeconds,
      signal
    })
    this.#heard()
    const begun = performance.now()
    const longest = (timeoutSeconds + overdueSeconds) * 1000
    const overdue = setTimeout(
      () => body.destroy(new Error('the server did not end the watch in time')),
      longest
    )
    overdue.unref()
    let events = 0
    try {
      for await (const line of linesOf(body)) {
        this.#event(line)
        if (++events === 1) this.#backoff.reset()
      }
    } catch (error) {
      if (!isConnectionLost(error)) throw error
      throw new Error('the connection to the API server was lost', { cause: error })
    } finally {
      clearTimeout(overdue)
      body.destroy()
    }
    // a server that ends each watch at once must not be asked in a tight loop
    if (events === 0 && performance.now() - begun < hastyMs) await sleep(this.#backoff.next(), signal)
    else this.#backoff.reset()
  }

  #event(line: Buffer): void {
    const event = JSON.parse(line.toString('utf8')) as { type: string; object: T & KubeStatus }
    this.#heard()
    if (event.type === 'ERROR') {
      throw new KubeError(event.object.code ?? 500, event.object, `watch ${this.type.plural}`)
    }
    const { object } = event
    this.#resourceVersion = object.metadata.resourceVersion ?? this.#resourceVersion
    if (event.type === 'BOOKMARK') return
    const key = objectKey(object)
    const kept = this.#options.trim?.(object) ?? object
    if (event.type === 'DELETED') this.#remove(key, kept)
    else this.#put(key, kept)
  }

  #heard(): void {
    this.#heardAt = performance.now()
    this.#problem = undefined
  }
}

/** Node says no more than `aborted` of a body that ends before its time. */
function isConnectionLost(error: unknown): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === 'ECONNRESET'
}

/** The lines of a body as they arrive; an unfinished last one is dropped, because the watch resumes before it. */
async function* linesOf(body: IncomingMessage): AsyncGenerator<Buffer> {
  let rest: Buffer[] = []
  let restBytes = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      const piece = chunk.subarray(start, end)
      const line = rest.length === 0 ? piece : Buffer.concat([...rest, piece])
      rest = []
      restBytes = 0
      if (line.length > 0) yield line
      start = end + 1
    }
    if (start < chunk.length) {
      rest.push(chunk.subarray(start))
      restBytes += chunk.length - start
      if (restBytes > maxLineBytes) throw new Error(`an event of more than ${maxLineBytes} bytes`)
    }
  }
}
