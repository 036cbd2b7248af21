/** The mesh over delta xDS: what istiod, or our control plane, says of workloads, services and policies. */
import type { MeshStore } from '../shared/mesh/store.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import type { Config } from './config.ts'
import type { mainFamilies } from './families.ts'

export interface XdsDeps {
  readonly mesh: MeshStore
  readonly metrics: Metrics<typeof mainFamilies>
  readonly log: Logger
  /** A policy was accepted or removed. */
  readonly onPoliciesChanged: () => void
  readonly signal: AbortSignal
}

export interface Xds {
  /** Resolves when every type was received once; at once where there is no control plane. */
  readonly synced: Promise<void>
  state(): unknown
  close(): Promise<void> | void
}

export async function startXds(config: Config, _deps: XdsDeps): Promise<Xds> {
  if (config.xds.address === undefined) {
    return { synced: Promise.resolve(), state: () => ({ state: 'off' }), close: () => undefined }
  }
  throw new Error('in progress')
}
