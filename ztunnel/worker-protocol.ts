/**
 * What the main thread and its workers say to each other. Main has xDS, certificates, the admin interface and
 * the node agent; workers carry connections. How many workers there are changes nothing that a user can see.
 */
import type { PollShare } from '../shared/net/poll.ts'
import type { WorkloadCertificate } from '../shared/identity/certificate.ts'
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'
import type { SharedMesh } from '../shared/mesh/store.ts'
import type { ConnectionEvent } from '../shared/telemetry/connection-events.ts'
import type { MetricsSnapshot } from '../shared/telemetry/metrics.ts'
import type { DataConfig } from './config.ts'
import type { ConnectionSummary } from './connections.ts'
import type { PodDescription } from './pod.ts'

/** Given to a worker when it starts. */
export interface WorkerData {
  readonly index: number
  readonly workers: number
  readonly config: DataConfig
  readonly mesh: SharedMesh
  readonly logFilter: string
  readonly logFormat: 'plain' | 'json'
  /** This process may make transparent sockets. */
  readonly transparent: boolean
  /** For the DNS proxy; undefined without one. */
  readonly poll: PollShare | undefined
}

/** Main asks, the worker answers each exactly once. */
export interface Questions {
  /** Opens the pod's listeners; the error says why that failed. */
  startPod: { readonly ask: PodDescription; readonly answer: PodStarted }
  /** Ends the pod's connections at once and closes its listeners. */
  stopPod: { readonly ask: { readonly uid: string }; readonly answer: undefined }
  /** Stops accepting, lets connections end until the deadline, then cuts them. Answers when none is left. */
  drain: {
    readonly ask: { readonly deadlineMs: number; readonly successors: Successors }
    readonly answer: { readonly inTime: boolean }
  }
  metrics: { readonly ask: undefined; readonly answer: MetricsSnapshot }
  connections: { readonly ask: undefined; readonly answer: readonly PodConnections[] }
  cpuProfile: {
    readonly ask: { readonly seconds: number; readonly frequency: number }
    readonly answer: string
  }
  heapProfile: { readonly ask: undefined; readonly answer: string }
}

/** Sockets of other ztunnels beside ours: how many, by the pod's uid and the port. */
export type Successors = ReadonlyMap<string, ReadonlyMap<number, number>>

export type QuestionKind = keyof Questions

export interface PodStarted {
  /** Bound ports: inbound, passthrough, outbound; only inbound for ztunnel itself. */
  readonly ports: readonly number[]
}

export interface PodConnections {
  readonly uid: string
  readonly connections: readonly ConnectionSummary[]
}

export type ToWorker =
  | { readonly kind: 'ask'; readonly id: number; readonly question: QuestionKind; readonly value: unknown }
  /** Live connections are to be checked against the policies again. */
  | { readonly kind: 'policies-changed' }
  /** The content of CRL_PATH; without CRL_PATH none is sent, with it the first is sent before any pod. */
  | { readonly kind: 'revocation-lists'; readonly bytes: Uint8Array }
  /** Answer to `certificate-wanted`. Only for identities of pods that the worker has. */
  | { readonly kind: 'certificate'; readonly id: number; readonly certificate: WorkloadCertificate }
  | { readonly kind: 'certificate-failed'; readonly id: number; readonly error: string }
  /** A certificate that the worker asked for earlier was renewed. */
  | { readonly kind: 'certificate-renewed'; readonly certificate: WorkloadCertificate }
  /** No pod of that identity is left. */
  | { readonly kind: 'certificate-forgotten'; readonly identity: SpiffeId }
  /** Answer to `address-wanted`: the mesh holds now what there is. */
  | { readonly kind: 'address-answered'; readonly id: number }
  | { readonly kind: 'log-filter'; readonly filter: string }
  /** Somebody watches connections, or nobody does any more. */
  | { readonly kind: 'watch'; readonly active: boolean }

export type FromWorker =
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'answer-failed'; readonly id: number; readonly error: string }
  | { readonly kind: 'certificate-wanted'; readonly id: number; readonly identity: SpiffeId }
  /** On-demand discovery: `network/ip`, `namespace/hostname` or the uid of a workload. */
  | { readonly kind: 'address-wanted'; readonly id: number; readonly name: string }
  /** Log lines, as text. */
  | { readonly kind: 'log'; readonly lines: string }
  /** `lost` events were left out because main was slower than the traffic. */
  | { readonly kind: 'events'; readonly events: readonly ConnectionEvent[]; readonly lost: number }
