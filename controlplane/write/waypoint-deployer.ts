/**
 * Runs the waypoints that Gateways ask for, and says in the status of each what became of it. The leader only.
 * A Gateway gets its address when its Deployment was available once: from then on the mesh relies on it.
 */
import { deployments, type Deployment } from '../../shared/kube/apps-api.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { pods, serviceAccounts, services } from '../../shared/kube/core-api.ts'
import { isConflict, isNotFound, KubeError } from '../../shared/kube/errors.ts'
import { gatewayClasses, gateways, type Gateway } from '../../shared/kube/gateway-api.ts'
import { informer } from '../../shared/kube/informer.ts'
import type { Clock } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { gatewayNameLabel } from '../cluster/cluster.ts'
import { keyOf, type GatewayObject, type Kind } from '../cluster/objects.ts'
import type { Config } from '../config.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import {
  managedBy,
  managedLabel,
  runsWaypoint,
  waypointClass,
  waypointController,
  waypointHostname,
  waypointWorkload
} from '../translate/waypoint-workload.ts'
import { gatewayStatus, type Programmed } from '../translate/gateway-status.ts'
import { WorkQueue } from './work-queue.ts'

export interface DeployerOptions {
  readonly client: KubeClient
  readonly config: Pick<Config, 'waypoints' | 'podName'>
  readonly desired: DesiredState
  readonly log: Logger
  readonly clock: Clock
  readonly signal: AbortSignal
}

const fieldManager = 'underpass-controlplane'
const ownClass = 'the class of our own'

export class WaypointDeployer {
  readonly #options: DeployerOptions
  readonly #queue: WorkQueue
  #leading: AbortController | undefined
  #forbidden = false

  constructor(options: DeployerOptions) {
    this.#options = options
    this.#queue = new WorkQueue({
      signal: options.signal,
      concurrency: 2,
      work: async key => (key === ownClass ? this.#makeClass() : this.#reconcile(key)),
      onFailure: (gateway, error) =>
        options.log.warn('running a waypoint failed, trying again', { gateway, error: messageOf(error) })
    })
  }

  changed(kind: Kind, key: string): void {
    if (kind === 'Gateway' && this.#leading !== undefined) this.#queue.add(key)
  }

  /** Starts or stops writing. */
  lead(leading: boolean): void {
    this.#leading?.abort()
    this.#leading = undefined
    const { client, config, desired, log, signal } = this.#options
    if (!leading || !config.waypoints.enabled) return
    this.#leading = new AbortController()
    this.#queue.add(ownClass)
    informer(client, deployments, {
      labelSelector: `${managedLabel}=${managedBy}`,
      signal: AbortSignal.any([signal, this.#leading.signal]),
      log,
      onChange: ({ object: { metadata } }) =>
        this.changed('Gateway', `${metadata.namespace}/${metadata.labels?.[gatewayNameLabel]}`)
    })
    for (const gateway of desired.view.all('Gateway')) this.changed('Gateway', keyOf(gateway.meta))
  }

  /** Users find it by `kubectl get gatewayclasses`; Gateways work without it too. */
  async #makeClass(): Promise<void> {
    const { client, log, signal } = this.#options
    const made = {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'GatewayClass',
      metadata: { name: waypointClass },
      spec: { controllerName: waypointController, description: 'Waypoints of the mesh' }
    }
    try {
      await client.create(gatewayClasses, made, { fieldManager, signal })
    } catch (error) {
      if (isConflict(error) || isNotFound(error)) return
      if (!(error instanceof KubeError) || error.status !== 403) throw error
      log.info('the GatewayClass is not made: a permission is missing', {
        name: waypointClass,
        needs: error.needs
      })
    }
  }

  async #reconcile(key: string): Promise<void> {
    const { client, config, desired, signal } = this.#options
    const { view } = desired
    const gateway = view.get('Gateway', key)
    if (this.#leading === undefined || this.#forbidden || gateway === undefined) return
    if (!runsWaypoint(view, gateway, config.waypoints.istioClasses)) return
    const { namespace, name } = gateway.meta
    try {
      const found = await client.find(gateways, { namespace, name }, signal)
      if (found === undefined || found.metadata.uid !== gateway.meta.uid) return
      // An operator who gives an address runs the waypoint.
      if ((found.spec?.addresses ?? []).length > 0) return
      const existing = await client.find(deployments, { namespace, name }, signal)
      const programmed = isForeign(existing) ? { kind: 'foreign' as const } : await this.#apply(gateway)
      await this.#writeStatus(gateway, found, programmed)
    } catch (error) {
      if (isNotFound(error) || isConflict(error)) return // the watch brings what is true
      if (!(error instanceof KubeError) || error.status !== 403 || error.message.includes('being terminated'))
        throw error
      this.#forbidden = true
      const fields = { needs: error.needs, remedy: 'waypoints.enabled of the chart' }
      this.#options.log.warn('waypoints are not run: a permission is missing', fields)
    }
  }

  async #apply(gateway: GatewayObject): Promise<Programmed> {
    const { client, desired, signal } = this.#options
    const { settings } = desired.view
    const image = await this.#image()
    const { serviceAccount, deployment, service } = waypointWorkload(gateway, { ...settings, image })
    const { namespace, name } = gateway.meta
    const ref = { namespace, name }
    const options = { kind: 'apply', fieldManager, force: true, signal } as const
    await client.patch(serviceAccounts, ref, serviceAccount, options)
    await client.patch(services, ref, service, options)
    const { status } = await client.patch(deployments, ref, deployment, options)
    const available = status?.conditions?.find(({ type }) => type === 'Available')
    if (available?.status === 'True') {
      return { kind: 'available', hostname: waypointHostname(gateway, settings.domain) }
    }
    return { kind: 'unavailable', reason: available?.message ?? 'no replica was started yet' }
  }

  /** The image of this very program, which holds all programs, unless another one is set. */
  async #image(): Promise<string> {
    const { client, config, desired, signal } = this.#options
    const { image, defaultImage } = config.waypoints
    if (image !== '') return image
    const ref = { namespace: desired.view.settings.systemNamespace, name: config.podName }
    const own = await client.find(pods, ref, signal)
    return own?.spec?.containers?.find(({ name }) => name === 'discovery')?.image ?? defaultImage
  }

  async #writeStatus(gateway: GatewayObject, found: Gateway, programmed: Programmed): Promise<void> {
    const { client, clock, signal } = this.#options
    const status = gatewayStatus(found, programmed, clock.now())
    if (status === undefined) return
    const { namespace, name } = gateway.meta
    const body = { metadata: { resourceVersion: found.metadata.resourceVersion }, status }
    await client.patch(gateways, { namespace, name }, body, { kind: 'merge', subresource: 'status', signal })
  }
}

/** A Deployment of the same name that somebody else made is left alone. */
function isForeign(existing: Deployment | undefined): boolean {
  return existing !== undefined && existing.metadata.labels?.[managedLabel] !== managedBy
}
