/** How controllers in the store's own process read, write and watch objects. */
import type { ObjectRef } from '../../shared/kube/client.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'

export interface Filter {
  /** Only this namespace; all when absent. */
  readonly namespace?: string | undefined
  /** As in `kubectl -l`. */
  readonly labelSelector?: string | undefined
  /** As in `kubectl --field-selector`. */
  readonly fieldSelector?: string | undefined
}

export interface WriteOptions {
  /** Name under which `managedFields` record the change; by default `lab`. */
  readonly fieldManager?: string
  readonly subresource?: 'status'
}

export interface DeleteOptions {
  /** 0 removes a pod at once; the kubelet's way to say that its containers have ended. */
  readonly gracePeriodSeconds?: number
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'
  /** Only the object with this uid. */
  readonly uid?: string
}

export interface ObjectEvent<T> {
  readonly type: 'added' | 'modified' | 'deleted'
  /** After the change; of a deleted object its last state. */
  readonly object: T
  /** Before the change. */
  readonly previous?: T
}

/**
 * All calls but watch callbacks are synchronous: what one call wrote the next one reads. They pass the same
 * defaulting, validation and allocation as REST requests, and throw `ApiError`.
 */
export interface ObjectAccess {
  get<T extends KubeObject>(type: ResourceType<T>, ref: ObjectRef): T | undefined
  /** Sorted by namespace and name. */
  list<T extends KubeObject>(type: ResourceType<T>, filter?: Filter): readonly T[]
  create<T extends KubeObject>(type: ResourceType<T>, object: T, options?: WriteOptions): T
  /** Replaces the object; refused with 409 when `metadata.resourceVersion` is set and not the current one. */
  update<T extends KubeObject>(type: ResourceType<T>, object: T, options?: WriteOptions): T
  /** Writes what `change` makes of the current object; undefined when there is no such object. */
  edit<T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    change: (current: T) => T,
    options?: WriteOptions
  ): T | undefined
  /** Server-side apply of a partial object, taking over fields that others own. */
  apply<T extends KubeObject>(type: ResourceType<T>, object: KubeObject, options?: WriteOptions): T
  /** False when there is no such object. */
  delete(type: ResourceType, ref: ObjectRef, options?: DeleteOptions): boolean
  /**
   * Calls `listener` with `added` for each object that is there, then with every change, in order, never from
   * inside a write: each batch in a microtask of its own. Call the result, or abort the signal, to stop.
   */
  watch<T extends KubeObject>(
    type: ResourceType<T>,
    filter: Filter,
    listener: (event: ObjectEvent<T>) => void,
    signal?: AbortSignal
  ): () => void
}
