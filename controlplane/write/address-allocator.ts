/** Writes the addresses that hosts of ServiceEntries get into their status. The leader only. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { KubeError, isConflict, isNotFound } from '../../shared/kube/errors.ts'
import { serviceEntries } from '../../shared/kube/istio-api.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { byAge, type Kind } from '../cluster/objects.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import { addressOwners, allocate, ownerOf, type Allocation } from '../translate/allocation.ts'
import { WorkQueue } from './work-queue.ts'

export interface AllocatorOptions {
  readonly client: Pick<KubeClient, 'find' | 'patch'>
  readonly desired: DesiredState
  readonly log: Logger
  readonly signal: AbortSignal
}

/** All entries are looked at together, since one's choice depends on the others'. */
const everything = 'ServiceEntries'

export class AddressAllocator {
  readonly #options: AllocatorOptions
  readonly #queue: WorkQueue
  #leading = false
  #forbidden = false

  constructor(options: AllocatorOptions) {
    this.#options = options
    this.#queue = new WorkQueue({
      signal: options.signal,
      concurrency: 1,
      work: async () => this.#allocateAll(),
      onFailure: (_, error) =>
        options.log.warn('allocating addresses failed, trying again', { error: messageOf(error) })
    })
  }

  lead(leading: boolean): void {
    this.#leading = leading
    this.changed('ServiceEntry')
  }

  changed(kind: Kind): void {
    if (kind === 'ServiceEntry' && this.#leading && !this.#forbidden) this.#queue.add(everything)
  }

  async #allocateAll(): Promise<void> {
    const { desired } = this.#options
    const entries = [...desired.view.all('ServiceEntry')]
      .filter(({ meta }) => desired.view.discovers(meta.namespace))
      .toSorted(byAge)
    const owners = new Map(addressOwners(entries))
    for (const entry of entries) {
      const addresses = allocate(entry, owners)
      if (addresses === undefined || !this.#leading) continue
      for (const { host, value } of addresses) owners.set(value, ownerOf(entry, host))
      await this.#write(entry.meta, addresses)
    }
  }

  async #write(
    meta: { readonly namespace: string; readonly name: string },
    addresses: readonly Allocation[]
  ): Promise<void> {
    const { client, log, signal } = this.#options
    const { namespace, name } = meta
    try {
      const found = await client.find(serviceEntries, { namespace, name }, signal)
      if (found === undefined) return
      const { resourceVersion } = found.metadata
      const body = { metadata: { resourceVersion }, status: { addresses } }
      await client.patch(serviceEntries, { namespace, name }, body, {
        kind: 'merge',
        subresource: 'status',
        signal
      })
    } catch (error) {
      if (isNotFound(error)) return
      if (error instanceof KubeError && error.status === 403) {
        if (!this.#forbidden)
          log.warn('addresses are not allocated: a permission is missing', { needs: error.needs })
        this.#forbidden = true
        return
      }
      if (!isConflict(error)) throw error
      this.#queue.add(everything)
    }
  }
}
