/** Gives a namespace its default service account, and empties and removes it when it is deleted. */
import type { ApiObject } from './object.ts'
import type { ApiObjects } from './objects.ts'
import type { WriteContext } from './write-context.ts'
import type { Change } from './storage.ts'

const write: WriteContext = {
  manager: 'namespace-controller',
  subresource: '',
  dryRun: false,
  fieldValidation: 'Ignore',
  warn: () => undefined
}

export class NamespaceLifecycle {
  readonly #objects: ApiObjects
  #scheduled = false
  #closed = false

  constructor(objects: ApiObjects) {
    this.#objects = objects
    objects.storage.observe((collection, change) => this.#observe(collection, change))
  }

  close(): void {
    this.#closed = true
  }

  #observe(collection: string, { type, object }: Change): void {
    if (collection === '/namespaces' && type === 'ADDED') this.#addDefaultAccount(object.metadata.name)
    const ends = collection === '/namespaces' && object.metadata.deletionTimestamp !== undefined
    if (ends || type === 'DELETED') this.#sweepLater()
  }

  /** Before the write returns, so that a pod which follows at once finds its account. */
  #addDefaultAccount(namespace: string): void {
    const accounts = this.#objects.registry.find('', 'v1', 'serviceaccounts')
    if (accounts === undefined) return
    this.#objects.create(
      accounts,
      namespace,
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default' } },
      write
    )
  }

  #sweepLater(): void {
    if (this.#scheduled || this.#closed) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      if (!this.#closed) this.#sweep()
    })
  }

  #sweep(): void {
    for (const namespace of [...this.#objects.storage.collection('/namespaces').all()]) {
      if (namespace.metadata.deletionTimestamp !== undefined) this.#empty(namespace)
    }
  }

  /** Deletes what is left in the namespace; once nothing is, the namespace itself. */
  #empty(namespace: ApiObject): void {
    const { name } = namespace.metadata
    let left = 0
    for (const [collection, kept] of [...this.#objects.storage.collections()]) {
      const resource = this.#objects.registry.findCollection(collection)
      if (resource === undefined || !resource.namespaced) continue
      for (const object of [...kept.all()].filter(({ metadata }) => metadata.namespace === name)) {
        if (object.metadata.deletionTimestamp !== undefined || !this.#delete(collection, object)) left += 1
      }
    }
    const namespaces = this.#objects.registry.find('', 'v1', 'namespaces')
    if (left === 0 && namespaces !== undefined)
      this.#objects.finalizeNamespace(namespaces, { namespace: '', name }, [])
  }

  /** Whether the object is gone; false while something is to end first. */
  #delete(collection: string, object: ApiObject): boolean {
    const resource = this.#objects.registry.findCollection(collection)
    if (resource === undefined) return false
    const key = { namespace: object.metadata.namespace ?? '', name: object.metadata.name }
    // may be gone already, as a dependent of one that went before it
    if (this.#objects.find(resource, key) === undefined) return true
    return this.#objects.delete(resource, key, { propagationPolicy: 'Background' }).gone
  }
}
