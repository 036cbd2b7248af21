/**
 * Objects in memory under one growing revision, as etcd keeps them: each collection holds its current objects
 * and the newest changes, so that a watch can start, and a paged list can go on, at a revision of the past.
 */
import { expired, ApiError } from './api-error.ts'
import { deepFreeze } from './json.ts'
import { withMetadata, type ApiObject, type ObjectKey } from './object.ts'

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly revision: number
  readonly key: string
  /** After the change; of a deleted object its last state, with the revision of the deletion. */
  readonly object: ApiObject
  readonly previous: ApiObject | undefined
}

/** Changes that a collection remembers; beyond them a watch has to list again (410). */
export const historyLimit = 2000

export class Storage {
  #revision = 1
  readonly #observers: ((collection: string, change: Change) => void)[] = []
  readonly #collections = new Map<string, Collection>()
  readonly #historyLimit: number

  constructor(limit = historyLimit) {
    this.#historyLimit = limit
  }

  get revision(): number {
    return this.#revision
  }

  /** The collection of a resource, named `group/plural`. */
  collection(name: string): Collection {
    let collection = this.#collections.get(name)
    if (collection === undefined) {
      collection = new Collection(this.#historyLimit, () => ++this.#revision, this.#revision)
      this.#collections.set(name, collection)
      collection.listen({
        onChange: change => {
          for (const observer of this.#observers) observer(name, change)
        },
        onEnd: () => undefined
      })
    }
    return collection
  }

  /** Calls the observer for every change of any collection, inside the write. */
  observe(observer: (collection: string, change: Change) => void): void {
    this.#observers.push(observer)
  }

  /** Forgets a collection; those who watch it are told to list again. */
  drop(name: string): void {
    this.#collections.get(name)?.end()
    this.#collections.delete(name)
  }

  collections(): Iterable<[name: string, collection: Collection]> {
    return this.#collections
  }
}

export interface ChangeListener {
  onChange(change: Change): void
  /** The collection is gone. */
  onEnd(): void
}

export class Collection {
  readonly #objects = new Map<string, ApiObject>()
  readonly #history: Change[] = []
  readonly #historyLimit: number
  readonly #listeners = new Set<ChangeListener>()
  readonly #nextRevision: () => number
  /** Changes after this revision are all in the history. */
  #compacted: number
  #sorted: readonly string[] | undefined

  constructor(limit: number, nextRevision: () => number, revision: number) {
    this.#historyLimit = limit
    this.#nextRevision = nextRevision
    this.#compacted = revision
  }

  get size(): number {
    return this.#objects.size
  }

  get compacted(): number {
    return this.#compacted
  }

  get(key: ObjectKey): ApiObject | undefined {
    return this.#objects.get(keyText(key))
  }

  /** Sorted by namespace, then name. */
  *all(): Generator<ApiObject> {
    this.#sorted ??= [...this.#objects.keys()].toSorted(compareKeys)
    for (const key of this.#sorted) {
      const object = this.#objects.get(key)
      if (object !== undefined) yield object
    }
  }

  /** What `all` gave at a revision of the past. Throws 410 when that is forgotten. */
  allAt(revision: number): readonly ApiObject[] {
    if (revision < this.#compacted) {
      throw expired('The provided continue parameter is too old to display a consistent list result.')
    }
    const objects = new Map(this.#objects)
    for (const change of this.#history.toReversed()) {
      if (change.revision <= revision) break
      if (change.previous === undefined) objects.delete(change.key)
      else objects.set(change.key, change.previous)
    }
    return [...objects].toSorted(([a], [b]) => compareKeys(a, b)).map(([, object]) => object)
  }

  /** Writes an object under a new revision and returns it as it is kept, frozen. */
  put(object: ApiObject): ApiObject {
    const key = keyOf(object)
    const previous = this.#objects.get(key)
    const revision = this.#nextRevision()
    const kept = deepFreeze(withMetadata(object, { resourceVersion: String(revision) }))
    this.#objects.set(key, kept)
    if (previous === undefined) this.#sorted = undefined
    this.#record({
      type: previous === undefined ? 'ADDED' : 'MODIFIED',
      revision,
      key,
      object: kept,
      previous
    })
    return kept
  }

  /** Removes an object that is there and returns its last state. */
  remove(object: ApiObject): ApiObject {
    const key = keyOf(object)
    const previous = this.#objects.get(key)
    if (previous === undefined) throw new ApiError('InternalError', `${key} is not stored`)
    const revision = this.#nextRevision()
    const last = deepFreeze(withMetadata(object, { resourceVersion: String(revision) }))
    this.#objects.delete(key)
    this.#sorted = undefined
    this.#record({ type: 'DELETED', revision, key, object: last, previous })
    return last
  }

  /** Changes after `revision`, oldest first. Throws 410 when some of them are forgotten. */
  since(revision: number): readonly Change[] {
    if (revision < this.#compacted) {
      throw expired(`too old resource version: ${revision} (${this.#compacted})`)
    }
    return this.#history.slice(firstAfter(this.#history, revision))
  }

  /** Forgets changes up to `revision`. */
  compact(revision: number): void {
    this.#history.splice(0, firstAfter(this.#history, revision))
    this.#compacted = Math.max(this.#compacted, revision)
  }

  /** Calls the listener for every later change, inside the write; the result stops it. */
  listen(listener: ChangeListener): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  end(): void {
    for (const listener of [...this.#listeners]) listener.onEnd()
    this.#listeners.clear()
  }

  #record(change: Change): void {
    this.#history.push(change)
    // trimmed in steps, so that a full history does not cost a move of every entry at each write
    if (this.#history.length > this.#historyLimit * 1.25) {
      const dropped = this.#history.splice(0, this.#history.length - this.#historyLimit)
      this.#compacted = dropped.at(-1)?.revision ?? this.#compacted
    }
    for (const listener of [...this.#listeners]) listener.onChange(change)
  }
}

function firstAfter(history: readonly Change[], revision: number): number {
  let [low, high] = [0, history.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((history[middle]?.revision ?? 0) > revision) high = middle
    else low = middle + 1
  }
  return low
}

/** `\n` sorts before every character of a name, so that keys sort by namespace first. */
export function keyText({ namespace, name }: ObjectKey): string {
  return `${namespace}\n${name}`
}

export function keyOf(object: ApiObject): string {
  return keyText({ namespace: object.metadata.namespace ?? '', name: object.metadata.name })
}

export function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
