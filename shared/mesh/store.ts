/**
 * The mesh's resources on the thread that receives them: checks changes, keeps what is accepted encoded in shared
 * memory, where all threads read it. What the view shows follows from the resources held, not from their order:
 * endpoints of a service that is not known wait for it.
 */
import { messageOf } from '../runtime/errors.ts'
import { decodeAddress, decodeAuthorization, scopeOf } from './decode.ts'
import type { SharedMesh } from './memory.ts'
import { MemoryView } from './memory-view.ts'
import { MeshRecords } from './memory-records.ts'
import { ResourceWriter } from './resource-writer.ts'
import type { Policy, Service, Workload } from './model.ts'
import type { MeshView } from './view.ts'

export type { SharedMesh } from './memory.ts'

/** One change, from the wire (`bytes`: istio.workload.Address or istio.security.Authorization) or as a value. */
export type MeshChange =
  | { readonly kind: 'address'; readonly name: string; readonly bytes: Uint8Array }
  | { readonly kind: 'authorization'; readonly name: string; readonly bytes: Uint8Array }
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'service'; readonly service: Service }
  | { readonly kind: 'policy'; readonly policy: Policy }
  /** A workload's uid, or `namespace/hostname`. */
  | { readonly kind: 'address-removed'; readonly name: string }
  | { readonly kind: 'authorization-removed'; readonly name: string }

export interface Rejection {
  readonly name: string
  /** Names the field. */
  readonly reason: string
}

export interface ApplyResult {
  readonly rejected: readonly Rejection[]
  /** A policy was accepted or removed: live connections are to be checked again. */
  readonly policiesChanged: boolean
}

/** Access to the mesh by lookups that see one moment of it; `openSharedMesh` gives one on any thread. */
export interface MeshReaderSurface {
  /** Runs a pure function on a consistent view; again when the writer moved underneath. */
  read<T>(fn: (view: MeshView) => T): T
  /** The first value that is not undefined, looking again after every change; undefined when the signal aborts. */
  until<T>(fn: (view: MeshView) => T | undefined, signal: AbortSignal): Promise<T | undefined>
}

export interface MeshStoreOptions {
  /** Called for each workload that came, changed or went, once readers can see it. */
  readonly onWorkload?: (previous: Workload | undefined, current: Workload | undefined) => void
}

/** Changes that readers see at once, at most; more are let through in parts, so that readers wait a millisecond at most. */
const partSize = 64

export class MeshStore {
  readonly #writer: ResourceWriter
  readonly #view: MemoryView

  constructor({ onWorkload }: MeshStoreOptions = {}) {
    this.#writer = new ResourceWriter(onWorkload ?? (() => undefined))
    this.#view = new MemoryView(new MeshRecords(this.#writer.memory, false))
  }

  /** Applies what is valid; what is not changes nothing, but a policy that cannot be read shuts what it names. */
  apply(changes: Iterable<MeshChange>): ApplyResult {
    const rejected: Rejection[] = []
    const policyVersion = this.#writer.policyVersion
    let part: (() => void)[] = []
    const flush = (): void => {
      const steps = part
      part = []
      if (steps.length > 0) this.#writer.write(steps)
    }
    for (const change of changes) {
      try {
        part.push(this.#prepare(change))
      } catch (error) {
        const name = 'name' in change ? change.name : change.kind
        rejected.push({ name, reason: messageOf(error) })
        if (change.kind === 'authorization')
          part.push(this.#standIn(change.name, change.bytes, messageOf(error)))
      }
      if (part.length >= partSize) flush()
    }
    flush()
    return { rejected, policiesChanged: policyVersion !== this.#writer.policyVersion }
  }

  /** For this thread, within one synchronous step. */
  view(): MeshView {
    return this.#view
  }

  /** For `openSharedMesh` on other threads. */
  shared(): SharedMesh {
    return this.#writer.memory.shared
  }

  /** Bytes taken from the system. */
  memoryUsage(): { readonly slots: number; readonly index: number; readonly heap: number } {
    return this.#writer.usage()
  }

  /** All the work that can fail or takes time; the step that is returned only writes. */
  #prepare(change: MeshChange): () => void {
    const writer = this.#writer
    switch (change.kind) {
      case 'address': {
        const decoded = decodeAddress(change.bytes)
        return decoded.kind === 'workload'
          ? writer.putWorkload(decoded.workload)
          : writer.putService(decoded.service)
      }
      case 'workload':
        return writer.putWorkload(change.workload)
      case 'service':
        return writer.putService(change.service)
      case 'authorization':
        return writer.putPolicy(decodeAuthorization(change.bytes))
      case 'policy':
        return writer.putPolicy(change.policy)
      case 'address-removed':
        return () => writer.removeAddress(change.name)
      case 'authorization-removed':
        return () => writer.removePolicy(change.name)
      default:
        return change satisfies never
    }
  }

  /** A policy that is new and cannot be read denies everything in its scope; one that is held stays as it is. */
  #standIn(key: string, bytes: Uint8Array, reason: string): () => void {
    const slash = key.indexOf('/')
    const put = this.#writer.putPolicy({
      name: key.slice(slash + 1),
      namespace: key.slice(0, Math.max(0, slash)),
      scope: scopeOf(bytes) ?? 'Namespace',
      action: 'Deny',
      rules: [[]],
      dryRun: false,
      unreadable: reason
    })
    return () => {
      const held = this.#view.policy(key)
      if (held === undefined || held.unreadable !== undefined) put()
    }
  }
}
