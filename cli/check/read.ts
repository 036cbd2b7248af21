/** Reads for checks: what may not be read is a finding, what is not installed is nothing. */
import type { KubeClient, ListOptions } from '../../shared/kube/client.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import { finding, type Finding } from './findings.ts'

export class Reader {
  readonly #client: KubeClient
  readonly #limit: () => AbortSignal
  readonly #refused = new Map<string, Finding>()

  constructor(client: KubeClient, limit: () => AbortSignal) {
    this.#client = client
    this.#limit = limit
  }

  async list<T extends KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<readonly T[]> {
    const found = await this.read(() => this.#client.list(type, { ...options, signal: this.#limit() }))
    return found?.items ?? []
  }

  async find<T extends KubeObject>(
    type: ResourceType<T>,
    ref: { readonly namespace?: string; readonly name: string }
  ): Promise<T | undefined> {
    return this.read(() => this.#client.find(type, ref, this.#limit()))
  }

  /** Undefined when it may not be read, or is not served. */
  async read<T>(ask: () => Promise<T>): Promise<T | undefined> {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof KubeError) || (error.status !== 403 && error.status !== 404)) throw error
      if (error.status === 403) {
        this.#refused.set(error.needs, finding('UP0002', 'you', `not checked for lack of: ${error.needs}`))
      }
      return undefined
    }
  }

  /** One for each permission that was missing. */
  refused(): readonly Finding[] {
    return [...this.#refused.values()]
  }
}
