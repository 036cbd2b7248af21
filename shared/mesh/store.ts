/** The mesh's resources on the thread that receives them: applies changes, keeps them encoded in shared memory. */
import type { Policy, Service, Workload } from './model.ts'
import type { MeshView } from './view.ts'

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

/** Memory that worker threads open with `openSharedMesh`; may be posted to them. */
export interface SharedMesh {
  readonly header: SharedArrayBuffer
  readonly slots: SharedArrayBuffer
  readonly index: SharedArrayBuffer
  readonly heap: SharedArrayBuffer
}

export interface MeshStoreSurface {
  apply(changes: readonly MeshChange[]): ApplyResult
  view(): MeshView
  shared(): SharedMesh
}

/** A worker's access to the shared mesh. */
export interface MeshReaderSurface {
  /** Runs a pure function on a consistent view; runs it again when the writer moved underneath. */
  read<T>(fn: (view: MeshView) => T): T
  /** Resolves with the first value that is not undefined, looking again after every change; undefined when the signal aborts. */
  until<T>(fn: (view: MeshView) => T | undefined, signal: AbortSignal): Promise<T | undefined>
}
