/** The part of a Kubernetes client that writers use, over a map; conflicts as the API server has them. */
import { KubeError } from '../../shared/kube/errors.ts'
import type { ObjectRef, PatchOptions } from '../../shared/kube/client.ts'
import { objectKey, type KubeObject, type ResourceType } from '../../shared/kube/object.ts'

export class FakeKube {
  readonly objects = new Map<string, KubeObject>()
  readonly writes: string[] = []
  /** Runs before each write; may change the store, as another writer would, or throw. */
  beforeWrite: () => void = () => undefined
  #version = 0

  put(type: ResourceType, object: KubeObject): KubeObject {
    this.#version += 1
    const metadata = {
      ...object.metadata,
      resourceVersion: String(this.#version),
      uid: `uid-${this.#version}`
    }
    const kept = { ...object, metadata }
    this.objects.set(keyOf(type, metadata), kept)
    return kept
  }

  find = async <T extends KubeObject>(type: ResourceType<T>, ref: ObjectRef): Promise<T | undefined> =>
    this.objects.get(keyOf(type, ref)) as T | undefined

  create = async <T extends KubeObject>(type: ResourceType<T>, object: T): Promise<T> => {
    this.beforeWrite()
    if (this.objects.has(keyOf(type, object.metadata)))
      throw new KubeError(409, { reason: 'AlreadyExists' }, '')
    this.writes.push(`create ${keyOf(type, object.metadata)}`)
    return this.put(type, object) as T
  }

  replace = async <T extends KubeObject>(type: ResourceType<T>, object: T): Promise<T> => {
    this.beforeWrite()
    this.#check(type, object.metadata, object.metadata.resourceVersion)
    this.writes.push(`replace ${keyOf(type, object.metadata)}`)
    return this.put(type, object) as T
  }

  patch = async <T extends KubeObject>(
    type: ResourceType<T>,
    ref: ObjectRef,
    body: unknown,
    options: PatchOptions
  ): Promise<T> => {
    this.beforeWrite()
    const change = body as { metadata?: { resourceVersion?: string } }
    const found = this.#check(type, ref, change.metadata?.resourceVersion)
    this.writes.push(
      `patch ${keyOf(type, ref)}${options.subresource === undefined ? '' : `/${options.subresource}`}`
    )
    return this.put(type, { ...found, ...change, metadata: found.metadata }) as T
  }

  #check(type: ResourceType, ref: ObjectRef, version: string | undefined): KubeObject {
    const found = this.objects.get(keyOf(type, ref))
    if (found === undefined) throw new KubeError(404, { reason: 'NotFound' }, '')
    if (version !== undefined && version !== found.metadata.resourceVersion) {
      throw new KubeError(409, { reason: 'Conflict' }, '')
    }
    return found
  }
}

function keyOf(type: ResourceType, ref: ObjectRef): string {
  const { name, namespace } = ref
  return `${type.kind} ${objectKey({ metadata: namespace === undefined ? { name } : { name, namespace } })}`
}
