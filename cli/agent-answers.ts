/** What node agents and ztunnels answer on their own admin paths, as far as the CLI reads it. */

/** `GET /v1/pods` of a node agent. */
export interface NodePods {
  readonly node?: string
  readonly pods: readonly NodePod[]
}

export interface NodePod {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  /** What the agent has made of it: `enabled`, `pending`, `failed`, or a word that a later version knows. */
  readonly state: string
  /** Whether the capture rules are as they should be. */
  readonly rules?: string
  /** Why it is not enabled. */
  readonly problem?: string
}

/** `GET /v1/rules?pod=namespace/name` of a node agent. */
export interface PodRules {
  readonly pod: string
  readonly mode?: string
  readonly backend?: string
  readonly desired: unknown
  readonly actual: unknown
  readonly matches?: boolean
  readonly problems?: readonly string[]
}

/** `GET /v1/xds` of a ztunnel. */
export interface XdsState {
  readonly connected?: boolean
  readonly server?: string
  readonly types: readonly XdsType[]
}

export interface XdsType {
  readonly typeUrl: string
  readonly version?: string
  readonly resources?: number
  readonly lastAckMs?: number
  readonly lastNackMs?: number
  readonly lastNack?: string
}
