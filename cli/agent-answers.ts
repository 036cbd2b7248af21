/** What the agents answer on paths of their own, as far as the CLI reads it. Any field may be absent in another version. */

/** `GET /v1/pods` of a node agent. */
export interface NodePods {
  readonly node?: string
  readonly captureMode?: string
  readonly pods: readonly NodePod[]
}

export interface NodePod {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly rulesWritten?: boolean
  /** What the newest ztunnel said. */
  readonly ztunnel?: string
  /** Why it is not captured as it should be. */
  readonly problem?: string | null
}

/** `GET /v1/rules?pod=namespace/name` of a node agent. */
export interface PodRules {
  readonly pod: string
  readonly netns?: string
  readonly mode?: string
  readonly backend?: string
  readonly desired: readonly string[]
  readonly actual: readonly string[]
  readonly drift: { readonly missing: readonly string[]; readonly unexpected: readonly string[] }
  /** In words; empty when the rules are as they should be. */
  readonly summary?: string
}

/** `GET /v1/xds` of a ztunnel. */
export interface XdsState {
  /** `off` when it runs without a control plane. */
  readonly state?: string
  readonly connected?: boolean
  readonly lastError?: string
  readonly types?: readonly XdsType[]
}

export interface XdsType {
  readonly typeUrl: string
  readonly resources?: number
  readonly synced?: boolean
  readonly lastRejection?: string
}

/** One entry of `GET /debug/syncz` of the control plane. */
export interface SyncEntry {
  readonly proxy: string
  readonly types?: Readonly<Record<string, SyncType>>
}

export interface SyncType {
  /** `SYNCED`, `STALE`, `ERROR`. */
  readonly status: string
  readonly sent?: number | string
  readonly acked?: number | string
  readonly error?: string
}
