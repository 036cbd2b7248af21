/** Where the API server keeps objects of a kind, asked of the server itself: a manifest may hold any kind. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { isNotFound } from '../../shared/kube/errors.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import type { Manifest } from './manifest.ts'

interface ResourceList {
  readonly resources?: readonly {
    readonly name: string
    readonly kind: string
    readonly namespaced: boolean
  }[]
}

export class Kinds {
  readonly #client: KubeClient
  readonly #lists = new Map<string, Promise<ResourceList>>()

  constructor(client: KubeClient) {
    this.#client = client
  }

  /** Undefined when the server does not know the kind, for example because its definition is not there yet. */
  async find(
    { apiVersion, kind }: Pick<KubeObject, 'apiVersion' | 'kind'>,
    signal: AbortSignal
  ): Promise<ResourceType<Manifest> | undefined> {
    let list = this.#lists.get(apiVersion)
    if (list === undefined) {
      list = this.#read(apiVersion, signal)
      this.#lists.set(apiVersion, list)
    }
    const found = (await list).resources?.find(row => row.kind === kind && !row.name.includes('/'))
    if (found === undefined) return undefined
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion]
    return {
      group: group ?? '',
      version: version ?? '',
      plural: found.name,
      kind,
      namespaced: found.namespaced
    }
  }

  async #read(apiVersion: string, signal: AbortSignal): Promise<ResourceList> {
    const path = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
    try {
      return (await this.#client.raw('GET', path, undefined, signal)) as ResourceList
    } catch (error) {
      if (isNotFound(error)) return {}
      throw error
    }
  }
}
