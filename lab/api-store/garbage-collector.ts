/**
 * Deletes what belonged to objects that are gone, as their deletion asked: in the background, in the
 * foreground (dependents first), or not at all. Source: Kubernetes, "Garbage Collection".
 */
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { foregroundFinalizer, orphanFinalizer } from './deletion.ts'
import type { Dependent, Dependents } from './dependents.ts'
import type { ApiObject, OwnerReference } from './object.ts'
import type { ApiObjects } from './objects.ts'
import type { WriteContext } from './write-context.ts'
import { parseApiVersion, type Resource } from './resources.ts'
import type { Change } from './storage.ts'

const write: WriteContext = {
  manager: 'garbage-collector',
  subresource: '',
  dryRun: false,
  fieldValidation: 'Ignore',
  warn: () => undefined
}

export class GarbageCollector {
  readonly #objects: ApiObjects
  readonly #dependents: Dependents
  readonly #logger: Logger
  /** Work to do after the write that caused it. */
  readonly #queue: (() => void)[] = []
  #scheduled = false
  #closed = false

  constructor(objects: ApiObjects, dependents: Dependents, logger: Logger) {
    this.#objects = objects
    this.#dependents = dependents
    this.#logger = logger
    objects.storage.observe((collection, change) => this.#observe(collection, change))
  }

  close(): void {
    this.#closed = true
    this.#queue.length = 0
  }

  #observe(collection: string, change: Change): void {
    const { object, previous, type } = change
    if (type === 'DELETED') {
      this.#later(() => this.#ownerGone(object))
      for (const owner of object.metadata.ownerReferences ?? [])
        this.#later(() => this.#finishForeground(owner, object))
      return
    }
    if (type === 'ADDED' && object.metadata.ownerReferences !== undefined) {
      this.#later(() => this.#checkOwners(collection, object))
    }
    const before = previous?.metadata.deletionTimestamp
    if (before !== undefined || object.metadata.deletionTimestamp === undefined) return
    const { finalizers = [] } = object.metadata
    if (finalizers.includes(foregroundFinalizer)) this.#later(() => this.#startForeground(collection, object))
    if (finalizers.includes(orphanFinalizer)) this.#later(() => this.#orphan(collection, object))
  }

  #later(work: () => void): void {
    if (this.#closed) return
    this.#queue.push(work)
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      for (const next of this.#queue.splice(0)) this.#run(next)
    })
  }

  /** One object that cannot be written must not keep the others. */
  #run(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#logger.warn('an owner or dependent could not be cleaned up', { error: messageOf(error) })
    }
  }

  /** Background: a dependent goes with its last owner; one that has another only loses the reference. */
  #ownerGone(owner: ApiObject): void {
    for (const dependent of this.#dependents.of(owner.metadata.uid))
      this.#run(() => this.#release(dependent, owner))
  }

  #release(dependent: Dependent, owner: ApiObject): void {
    const { ownerReferences = [] } = dependent.object.metadata
    const alive = ownerReferences.filter(
      ({ uid }) => uid !== owner.metadata.uid && this.#exists(dependent.object, uid, ownerReferences)
    )
    if (alive.length === 0) this.#delete(dependent, 'Background')
    else this.#setOwners(dependent, alive)
  }

  /** An object that names owners which were gone before it came. */
  #checkOwners(collection: string, object: ApiObject): void {
    const current = this.#objects.storage.collection(collection).get(keyOf(object))
    const { ownerReferences = [] } = current?.metadata ?? {}
    if (current === undefined || current.metadata.uid !== object.metadata.uid || ownerReferences.length === 0)
      return
    if (ownerReferences.some(({ uid }) => this.#exists(current, uid, ownerReferences))) return
    this.#delete({ collection, object: current }, 'Background')
  }

  #startForeground(collection: string, owner: ApiObject): void {
    for (const dependent of this.#dependents.of(owner.metadata.uid)) this.#delete(dependent, 'Foreground')
    this.#finishIfAlone(collection, owner)
  }

  #finishForeground(reference: OwnerReference, dependent: ApiObject): void {
    const resource = this.#resourceOf(reference)
    if (resource === undefined) return
    const namespace = resource.namespaced ? (dependent.metadata.namespace ?? '') : ''
    const owner = this.#objects.find(resource, { namespace, name: reference.name })
    if (owner !== undefined && owner.metadata.uid === reference.uid)
      this.#finishIfAlone(resource.collection, owner)
  }

  /** The owner may go when no dependent that blocks it is left. */
  #finishIfAlone(collection: string, owner: ApiObject): void {
    const { uid, deletionTimestamp, finalizers = [] } = owner.metadata
    if (deletionTimestamp === undefined || !finalizers.includes(foregroundFinalizer)) return
    const blocking = this.#dependents
      .of(uid)
      .some(
        ({ object }) =>
          object.metadata.ownerReferences?.some(
            owner => owner.uid === uid && owner.blockOwnerDeletion === true
          ) === true
      )
    if (!blocking) this.#removeFinalizer(collection, owner, foregroundFinalizer)
  }

  #orphan(collection: string, owner: ApiObject): void {
    for (const dependent of this.#dependents.of(owner.metadata.uid)) {
      const { ownerReferences = [] } = dependent.object.metadata
      this.#setOwners(
        dependent,
        ownerReferences.filter(({ uid }) => uid !== owner.metadata.uid)
      )
    }
    this.#removeFinalizer(collection, owner, orphanFinalizer)
  }

  #removeFinalizer(collection: string, object: ApiObject, finalizer: string): void {
    this.#edit({ collection, object }, current => ({
      finalizers: current.metadata.finalizers?.filter(name => name !== finalizer)
    }))
  }

  #setOwners(dependent: Dependent, ownerReferences: readonly OwnerReference[]): void {
    this.#edit(dependent, () => ({ ownerReferences }))
  }

  #edit({ collection, object }: Dependent, change: (current: ApiObject) => object): void {
    const resource = this.#objects.registry.findCollection(collection)
    const current = resource === undefined ? undefined : this.#objects.find(resource, keyOf(object))
    if (resource === undefined || current?.metadata.uid !== object.metadata.uid) return
    this.#objects.patch(
      resource,
      keyOf(object),
      now => ({ ...now, metadata: { ...now.metadata, ...change(now) } }),
      write
    )
  }

  #delete({ collection, object }: Dependent, propagationPolicy: 'Background' | 'Foreground'): void {
    const resource = this.#objects.registry.findCollection(collection)
    if (resource === undefined) return
    const current = this.#objects.find(resource, keyOf(object))
    if (current?.metadata.uid !== object.metadata.uid) return
    this.#objects.delete(resource, keyOf(object), { propagationPolicy, uid: object.metadata.uid })
  }

  #exists(dependent: ApiObject, uid: string, references: readonly OwnerReference[]): boolean {
    const reference = references.find(owner => owner.uid === uid)
    const resource = reference === undefined ? undefined : this.#resourceOf(reference)
    if (reference === undefined || resource === undefined) return false
    const namespace = resource.namespaced ? (dependent.metadata.namespace ?? '') : ''
    return this.#objects.find(resource, { namespace, name: reference.name })?.metadata.uid === uid
  }

  #resourceOf(reference: OwnerReference): Resource | undefined {
    return this.#objects.registry.findKind({ ...parseApiVersion(reference.apiVersion), kind: reference.kind })
  }
}

function keyOf(object: ApiObject): { namespace: string; name: string } {
  return { namespace: object.metadata.namespace ?? '', name: object.metadata.name }
}
