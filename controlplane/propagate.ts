/** From an event of the cluster to everybody who has to know: clients by xDS, authors by the status of their object. */
import type { KubeClient } from '../shared/kube/client.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { LogOutput } from '../shared/telemetry/logger.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import type { Config } from './config.ts'
import type { AddressAllocator } from './write/address-allocator.ts'
import { Debounce } from './xds/debounce.ts'
import type { DesiredState } from './desired/desired-state.ts'
import { readMeshConfig } from './cluster/mesh-config.ts'
import type { metricFamilies } from './metrics.ts'
import { keyOf, type MeshObject } from './cluster/objects.ts'
import type { PublishedConfigMap } from './write/published-config-map.ts'
import type { StatusWriter } from './write/status.ts'
import { watch, type Watch, type WatchHandlers } from './cluster/watch.ts'
import type { GatewayClassWriter } from './write/gateway-class.ts'
import type { GatewayDeployer } from './write/gateway-deployer.ts'
import type { XdsServer } from './xds/server.ts'

export interface PropagateOptions {
  readonly client: KubeClient
  readonly config: Config
  readonly desired: DesiredState
  readonly xds: XdsServer
  readonly status: StatusWriter
  readonly published: readonly PublishedConfigMap[]
  readonly allocator: AddressAllocator
  readonly deployer: GatewayDeployer
  readonly classes: GatewayClassWriter
  readonly metrics: Metrics<typeof metricFamilies>
  readonly logs: LogOutput
  readonly signal: AbortSignal
}

export interface Propagation {
  readonly watching: Watch
  /** Resolves when every kind of object has been listed and translated once. */
  readonly ready: Promise<void>
}

/** Runs until the signal aborts. Nothing is sent before all of the cluster is known: half a mesh would be a wrong one. */
export function propagate(options: PropagateOptions): Propagation {
  const { client, config, desired, xds, status, deployer, metrics, logs, signal } = options
  const log = logs.logger('controlplane')
  let synced = false
  const refresh = (firstAt: number): void => {
    const started = performance.now()
    const changes = desired.refresh(
      unit => {
        status.translated(unit)
        deployer.translated(unit)
      },
      ({ kind, key }, error) =>
        log.error('a translation failed; what it gave before stays in force', {
          kind,
          object: key,
          error: messageOf(error)
        })
    )
    metrics.series('underpass_translation_seconds_total').add((performance.now() - started) / 1000)
    xds.push(changes)
    metrics.series('pilot_proxy_convergence_time').observe((performance.now() - firstAt) / 1000)
  }
  const debounce = new Debounce({
    quietMs: config.debounceAfterMs,
    maxMs: config.debounceMaxMs,
    run: refresh
  })
  signal.addEventListener('abort', () => debounce.stop(), { once: true })
  const changed = (): void => {
    if (synced && !signal.aborted) debounce.touch()
  }
  desired.outdateAll()
  const watching = watch({
    client,
    signal,
    secrets: config.gateways.enabled,
    authorities: config.waypoints.enabled || config.gateways.enabled,
    log: logs.logger('watch'),
    meshConfigMap: { namespace: config.mesh.systemNamespace, name: config.meshConfigMap },
    handlers: handlers(options, changed)
  })
  const ready = watching.synced.then(() => {
    if (signal.aborted) return
    synced = true
    refresh(performance.now())
    log.info('the cluster is known', {
      pods: desired.count('Pod'),
      services: desired.count('Service'),
      addresses: desired.snapshot.table('address').size,
      policies: desired.snapshot.table('authorization').size
    })
  })
  return { watching, ready }
}

function handlers(options: PropagateOptions, changed: () => void): WatchHandlers {
  const { config, desired, status, published, allocator, deployer, classes, metrics, logs } = options
  const log = logs.logger('controlplane')
  return {
    put: object => {
      desired.put(object)
      status.readable(object)
      status.changed(object)
      allocator.changed(object.kind)
      deployer.changed(object.kind, keyOf(object.meta))
      classes.changed(object.kind, keyOf(object.meta))
      if (object.kind === 'Namespace') {
        for (const each of published) each.namespaceAppeared(object.meta.name)
        warnUndiscovered(options, object)
      }
      changed()
    },
    delete: (kind, key) => {
      desired.delete(kind, key)
      status.gone(kind, key)
      deployer.gone(kind, key)
      if (kind === 'Namespace') for (const each of published) each.namespaceGone(key)
      changed()
    },
    broken: (kind, key, { field, message }) => {
      metrics.series('pilot_k8s_object_errors', kind).add()
      const fields = { kind, object: key, field, error: message }
      log.error('an object cannot be read; what it said before stays in force', fields)
      status.broken(kind, key, message)
      changed()
    },
    meshConfig: text => {
      const read = readMeshConfig(text, config.mesh)
      if (read.kind === 'settings') desired.configure(read.settings)
      else {
        const fields = { error: read.message }
        log.error('the mesh configuration cannot be read; the former one stays in force', fields)
      }
      changed()
    }
  }
}

/** Agents would enrol its pods, whom no other ztunnel would know. */
function warnUndiscovered({ desired, logs }: PropagateOptions, { meta }: MeshObject): void {
  if (meta.labels['istio.io/dataplane-mode'] !== 'ambient' || desired.view.discovers(meta.name)) return
  logs
    .logger('controlplane')
    .warn('a namespace is enrolled but not discovered: see discoverySelectors of the mesh configuration', {
      namespace: meta.name
    })
}
