/** Runs the controllers: a change of an object marks keys, each marked key is reconciled once, soon. */
import { Backoff } from '../../shared/runtime/backoff.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { ApiError } from '../api-store/api-error.ts'
import type { ObjectAccess, ObjectEvent } from '../api-store/object-access.ts'

/** What one controller looks at and does. Reconciling twice changes nothing more. */
export interface Controller {
  readonly name: string
  readonly watches: readonly Watched[]
  readonly reconcile: (objects: ObjectAccess, key: string) => void | Promise<void>
}

/** A kind, and whom a change of one of its objects concerns. */
export interface Watched {
  readonly type: ResourceType
  readonly keysOf: (object: KubeObject, objects: ObjectAccess) => readonly string[]
}

/** The key of an object: `namespace/name`. */
export function keyOf({ metadata }: Pick<KubeObject, 'metadata'>): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`
}

export function refOfKey(key: string): { namespace: string; name: string } {
  const [namespace = '', name = ''] = key.split('/')
  return { namespace, name }
}

/** Watches objects of a kind for themselves. */
export function itself(type: ResourceType): Watched {
  return { type, keysOf: object => [keyOf(object)] }
}

/** Watches objects of a kind for the controller object of this kind that owns them. */
export function ownerOf(type: ResourceType, ownerKind: string): Watched {
  return {
    type,
    keysOf: ({ metadata }) =>
      (metadata.ownerReferences ?? [])
        .filter(({ kind, controller }) => kind === ownerKind && controller === true)
        .map(({ name }) => `${metadata.namespace ?? ''}/${name}`)
  }
}

const retry = { initialMs: 50, maxMs: 5000 }

/** Returns when all are watching; they end with the signal. */
export function runControllers(
  objects: ObjectAccess,
  controllers: readonly Controller[],
  logger: Logger,
  signal: AbortSignal
): void {
  for (const controller of controllers) {
    const queue = new Queue(
      key => controller.reconcile(objects, key),
      signal,
      (key, error) => {
        // Another writer was faster, or something is on its way: the retry settles it.
        const expected =
          error instanceof ApiError && (error.reason === 'Conflict' || error.reason === 'Forbidden')
        logger[expected ? 'debug' : 'warn'](`${controller.name} ${key}: ${messageOf(error)}`)
      }
    )
    for (const { type, keysOf } of controller.watches) {
      const listener = ({ object, previous }: ObjectEvent<KubeObject>): void => {
        for (const key of keysOf(object, objects)) queue.add(key)
        if (previous !== undefined) for (const key of keysOf(previous, objects)) queue.add(key)
      }
      objects.watch(type, {}, listener, signal)
    }
  }
}

/** Keys that wait, each at most once; a key is never worked on twice at the same time. */
class Queue {
  readonly #work: (key: string) => void | Promise<void>
  readonly #onError: (key: string, error: unknown) => void
  readonly #signal: AbortSignal
  readonly #waiting = new Set<string>()
  readonly #active = new Set<string>()
  readonly #pauses = new Map<string, Backoff>()
  #scheduled = false

  constructor(
    work: (key: string) => void | Promise<void>,
    signal: AbortSignal,
    onError: (key: string, error: unknown) => void
  ) {
    this.#work = work
    this.#signal = signal
    this.#onError = onError
  }

  add(key: string): void {
    this.#waiting.add(key)
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => this.#drain())
  }

  #drain(): void {
    this.#scheduled = false
    if (this.#signal.aborted) return
    for (const key of this.#waiting) {
      if (this.#active.has(key)) continue
      this.#waiting.delete(key)
      this.#active.add(key)
      void this.#one(key)
    }
  }

  async #one(key: string): Promise<void> {
    try {
      await this.#work(key)
      this.#pauses.delete(key)
    } catch (error) {
      this.#onError(key, error)
      const pause = this.#pauses.get(key) ?? new Backoff(retry)
      this.#pauses.set(key, pause)
      setTimeout(() => this.add(key), pause.next()).unref()
    } finally {
      this.#active.delete(key)
      if (this.#waiting.has(key)) this.add(key)
    }
  }
}
