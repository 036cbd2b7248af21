/** Which objects name which as their owner, kept up to date with every change. */
import type { ApiObject } from './object.ts'
import { compareKeys, keyOf, type Storage } from './storage.ts'

export interface Dependent {
  readonly collection: string
  readonly object: ApiObject
}

export class Dependents {
  /** By owner's uid, then by collection and key. */
  readonly #byOwner = new Map<string, Map<string, Dependent>>()

  constructor(storage: Storage) {
    storage.observe((collection, { type, object, previous }) => {
      const id = `${collection}\n${keyOf(object)}`
      for (const { uid } of previous?.metadata.ownerReferences ?? []) this.#forget(uid, id)
      if (type === 'DELETED') return
      for (const { uid } of object.metadata.ownerReferences ?? []) {
        const dependents = this.#byOwner.get(uid) ?? new Map<string, Dependent>()
        this.#byOwner.set(uid, dependents.set(id, { collection, object }))
      }
    })
  }

  of(uid: string): readonly Dependent[] {
    const entries = [...(this.#byOwner.get(uid) ?? [])]
    return entries.toSorted(([a], [b]) => compareKeys(a, b)).map(([, dependent]) => dependent)
  }

  #forget(uid: string, id: string): void {
    const dependents = this.#byOwner.get(uid)
    dependents?.delete(id)
    if (dependents?.size === 0) this.#byOwner.delete(uid)
  }
}
