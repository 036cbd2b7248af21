/** The in-process side of the store: `ObjectAccess` over the same rules as REST. */
import type { ObjectRef } from '../../shared/kube/client.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import { qualified, ApiError } from './api-error.ts'
import type { JsonObject } from './json.ts'
import type { DeleteOptions, Filter, ObjectAccess, ObjectEvent, WriteOptions } from './object-access.ts'
import type { ApiObject, ObjectKey } from './object.ts'
import type { ApiObjects } from './objects.ts'
import type { WriteContext } from './write-context.ts'
import { presented } from './stored-form.ts'
import type { Resource } from './resources.ts'
import { parseFieldSelector, parseLabelSelector, type Match } from './selectors.ts'
import type { Change } from './storage.ts'

export class LocalAccess implements ObjectAccess {
  readonly #objects: ApiObjects

  constructor(objects: ApiObjects) {
    this.#objects = objects
  }

  get<T extends KubeObject>(type: ResourceType<T>, ref: ObjectRef): T | undefined {
    const found = this.#objects.find(this.#resource(type), keyOf(ref))
    return found as unknown as T | undefined
  }

  list<T extends KubeObject>(type: ResourceType<T>, filter: Filter = {}): readonly T[] {
    const resource = this.#resource(type)
    const matches = matcher(resource, filter)
    const found = [...this.#objects.collection(resource).all()].filter(matches)
    return found.map(object => presented(resource, object) as unknown as T)
  }

  create<T extends KubeObject>(type: ResourceType<T>, object: T, options: WriteOptions = {}): T {
    const resource = this.#resource(type)
    const created = this.#objects.create(
      resource,
      object.metadata.namespace ?? '',
      json(object),
      context(options)
    )
    if (options.subresource !== 'status' || json(object)['status'] === undefined)
      return created as unknown as T
    // a controller may create an object with its status at once
    const status = json(object)['status']
    return this.#objects.patch(
      resource,
      keyOf(object.metadata),
      now => ({ ...now, status }),
      context(options)
    ) as unknown as T
  }

  update<T extends KubeObject>(type: ResourceType<T>, object: T, options: WriteOptions = {}): T {
    const updated = this.#objects.update(
      this.#resource(type),
      keyOf(object.metadata),
      json(object),
      context(options)
    )
    return updated.object as unknown as T
  }

  edit<T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    change: (current: T) => T,
    options: WriteOptions = {}
  ): T | undefined {
    const resource = this.#resource(type)
    if (this.#objects.find(resource, keyOf(ref)) === undefined) return undefined
    const edit = (current: ApiObject): unknown => change(current as unknown as T)
    return this.#objects.patch(resource, keyOf(ref), edit, context(options)) as unknown as T
  }

  apply<T extends KubeObject>(type: ResourceType<T>, object: KubeObject, options: WriteOptions = {}): T {
    const write = { ...context(options), force: true }
    return this.#objects.apply(this.#resource(type), keyOf(object.metadata), json(object), write)
      .object as unknown as T
  }

  delete(type: ResourceType, ref: ObjectRef, options: DeleteOptions = {}): boolean {
    const resource = this.#resource(type)
    if (this.#objects.find(resource, keyOf(ref)) === undefined) return false
    this.#objects.delete(resource, keyOf(ref), options)
    return true
  }

  watch<T extends KubeObject>(
    type: ResourceType<T>,
    filter: Filter,
    listener: (event: ObjectEvent<T>) => void,
    signal?: AbortSignal
  ): () => void {
    const resource = this.#resource(type)
    const matches = matcher(resource, filter)
    const show = (object: ApiObject): T => presented(resource, object) as unknown as T
    const waiting: ObjectEvent<T>[] = []
    let stopped = signal?.aborted === true
    const deliver = (event: ObjectEvent<T>): void => {
      if (!stopped) listener(event)
    }
    const flush = (): void => {
      // what the listener writes is queued behind, and delivered by this loop
      for (let event = waiting.shift(); event !== undefined; event = waiting.shift()) deliver(event)
    }
    const push = (event: ObjectEvent<T> | undefined): void => {
      if (event === undefined || stopped) return
      waiting.push(event)
      if (waiting.length === 1) queueMicrotask(flush)
    }
    for (const object of this.#objects.collection(resource).all()) {
      if (matches(object)) push({ type: 'added', object: show(object) })
    }
    const unlisten = this.#objects.collection(resource).listen({
      onChange: change => push(eventOf(change, matches, show)),
      onEnd: () => undefined
    })
    const stop = (): void => {
      stopped = true
      unlisten()
      signal?.removeEventListener('abort', stop)
    }
    if (stopped) stop()
    else signal?.addEventListener('abort', stop, { once: true })
    return stop
  }

  #resource(type: ResourceType): Resource {
    const resource = this.#objects.registry.find(type.group, type.version, type.plural)
    if (resource === undefined) {
      throw new ApiError('NotFound', `the store does not serve ${qualified(type)} in version ${type.version}`)
    }
    return resource
  }
}

function eventOf<T>(
  change: Change,
  matches: Match,
  show: (object: ApiObject) => T
): ObjectEvent<T> | undefined {
  const { previous, object } = change
  const before = previous !== undefined && matches(previous)
  if (change.type !== 'DELETED' && matches(object)) {
    return before
      ? { type: 'modified', object: show(object), previous: show(previous) }
      : { type: 'added', object: show(object) }
  }
  return before ? { type: 'deleted', object: show(object), previous: show(previous) } : undefined
}

function matcher(resource: Resource, { namespace, labelSelector, fieldSelector }: Filter): Match {
  const byLabel = labelSelector === undefined ? undefined : parseLabelSelector(labelSelector)
  const byField =
    fieldSelector === undefined ? undefined : parseFieldSelector(fieldSelector, resource.selectableFields)
  return object =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    (byLabel === undefined || byLabel(object.metadata.labels ?? {})) &&
    (byField === undefined || byField(object))
}

function context(options: WriteOptions): WriteContext {
  return {
    manager: options.fieldManager ?? 'lab',
    subresource: options.subresource ?? '',
    dryRun: false,
    // a field that the kind does not have is a mistake in our own code
    fieldValidation: 'Strict',
    warn: () => undefined
  }
}

function keyOf({ namespace = '', name }: ObjectRef): ObjectKey {
  return { namespace, name }
}

function json(object: KubeObject): JsonObject {
  return object as unknown as JsonObject
}
