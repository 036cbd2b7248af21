/**
 * Runs the waypoints and gateways that Gateways ask for, and says in the status of each what became of it. The leader
 * only. A waypoint gets its address when its Deployment was available once: from then on the mesh relies on it.
 */
import { deployments } from '../../shared/kube/apps-api.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { pods, serviceAccounts, services } from '../../shared/kube/core-api.ts'
import { isConflict, isNotFound, KubeError } from '../../shared/kube/errors.ts'
import { gateways } from '../../shared/kube/gateway-api.ts'
import { informer } from '../../shared/kube/informer.ts'
import { sleep, type Clock } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { keyOf, type GatewayObject, type Kind } from '../cluster/objects.ts'
import type { Config } from '../config.ts'
import type { Unit } from '../desired/affected.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import { assignedAddresses } from '../translate/gateway-address.ts'
import { runsAs } from '../translate/gateway-class.ts'
import { gatewayReport, isTaken } from '../translate/gateway-report.ts'
import { gatewayStatus, type GatewayReport, type Programmed } from '../translate/gateway-status.ts'
import { gatewayManager, gatewayWorkload } from '../translate/gateway-workload.ts'
import { managedLabel, type ProxySettings, type ProxyWorkload } from '../translate/proxy-workload.ts'
import { waypointReport } from '../translate/waypoint-report.ts'
import { waypointManager, waypointWorkload } from '../translate/waypoint-workload.ts'
import { WorkQueue } from './work-queue.ts'

export interface DeployerOptions {
  readonly client: KubeClient
  readonly config: Pick<Config, 'waypoints' | 'gateways' | 'podName'>
  readonly desired: DesiredState
  readonly log: Logger
  readonly clock: Clock
  readonly signal: AbortSignal
}

const fieldManager = 'underpass-controlplane'

interface Applied {
  /** Of all three objects, with their namespace. */
  readonly name: string
  /** The objects as JSON. */
  readonly workload: string
  readonly programmed: Programmed
}

export class GatewayDeployer {
  readonly #options: DeployerOptions
  readonly #queue: WorkQueue
  /** What was applied last, by Gateway, and what became of it; forgotten when one of the objects changes. */
  readonly #applied = new Map<string, Applied>()
  /** Changes of objects that were seen: what is applied while one comes may be older than it. */
  #seen = 0
  #leading: AbortController | undefined
  #forbidden = false
  #image: string | undefined

  constructor(options: DeployerOptions) {
    this.#options = options
    this.#queue = new WorkQueue({
      signal: options.signal,
      concurrency: 2,
      work: async key => this.#reconcile(key),
      onFailure: (gateway, error) =>
        options.log.warn('running a gateway failed, trying again', { gateway, error: messageOf(error) })
    })
  }

  changed(kind: Kind, key: string): void {
    if (this.#leading === undefined) return
    if (kind === 'Gateway') this.#queue.add(key)
    if (kind === 'Service') this.#applyAgain(key)
  }

  gone(kind: Kind, key: string): void {
    if (kind === 'Gateway') this.#applied.delete(key)
    if (kind === 'Service') this.#applyAgain(key)
  }

  /** Somebody, perhaps we ourselves, changed an object (`namespace/name`) that was applied. */
  #applyAgain(object: string): void {
    this.#seen += 1
    for (const [gateway, { name }] of this.#applied) {
      if (name !== object) continue
      this.#applied.delete(gateway)
      this.#queue.add(gateway)
    }
  }

  /** What its status says may be another: routes, certificates, its Service. */
  translated(unit: Unit): void {
    if (unit.kind === 'Gateway') this.changed(unit.kind, unit.key)
  }

  /** Starts or stops writing. */
  lead(leading: boolean): void {
    this.#leading?.abort()
    this.#leading = undefined
    this.#applied.clear()
    const { client, config, desired, log, signal } = this.#options
    if (!leading || !(config.waypoints.enabled || config.gateways.enabled)) return
    this.#leading = new AbortController()
    informer(client, deployments, {
      labelSelector: `${managedLabel} in (${waypointManager}, ${gatewayManager})`,
      signal: AbortSignal.any([signal, this.#leading.signal]),
      log,
      onChange: ({ object: { metadata } }) => {
        this.#seen += 1
        for (const { kind, name } of metadata.ownerReferences ?? []) {
          if (kind !== 'Gateway') continue
          this.#applied.delete(`${metadata.namespace}/${name}`)
          this.changed('Gateway', `${metadata.namespace}/${name}`)
        }
      }
    })
    for (const gateway of desired.view.all('Gateway')) this.changed('Gateway', keyOf(gateway.meta))
  }

  async #reconcile(key: string): Promise<void> {
    const { client, clock, desired, signal } = this.#options
    const gateway = desired.view.get('Gateway', key)
    if (this.#leading === undefined || this.#forbidden || gateway === undefined) return
    const { namespace, name, uid, generation } = gateway.meta
    try {
      const found = await client.find(gateways, { namespace, name }, signal)
      if (found === undefined || found.metadata.uid !== uid) return
      // What was decided of another generation is not said of this one: the watch brings it.
      if ((found.metadata.generation ?? 0) !== generation) return
      const report = await this.#run(key, gateway)
      const status = report === undefined ? undefined : gatewayStatus(found, report, clock.now())
      if (status === undefined) return
      const body = { metadata: { resourceVersion: found.metadata.resourceVersion }, status }
      await client.patch(gateways, { namespace, name }, body, {
        kind: 'merge',
        subresource: 'status',
        signal
      })
    } catch (error) {
      if (isNotFound(error) || isConflict(error)) return // the watch brings what is true
      if (!(error instanceof KubeError) || error.status !== 403 || error.message.includes('being terminated'))
        throw error
      this.#forbidden = true
      const fields = { needs: error.needs, remedy: 'waypoints.enabled and gateways.enabled of the chart' }
      this.#options.log.warn('waypoints and gateways are not run: a permission is missing', fields)
    }
  }

  /** What became of it; undefined where that is not for us to say. */
  async #run(key: string, gateway: GatewayObject): Promise<GatewayReport | undefined> {
    const { clock, config, desired } = this.#options
    const { view } = desired
    switch (runsAs(view, gateway, config.waypoints.istioClasses)) {
      case 'waypoint': {
        // An operator who gives an address runs the waypoint.
        if (!config.waypoints.enabled || gateway.requestedAddresses.length > 0) return undefined
        const workload = waypointWorkload(gateway, await this.#settings())
        return waypointReport(gateway, await this.#apply(key, workload))
      }
      case 'gateway': {
        if (!config.gateways.enabled) return undefined
        const programmed = isTaken(view, gateway)
          ? await this.#apply(key, gatewayWorkload(view, gateway, await this.#settings()))
          : ({ kind: 'unavailable', reason: 'the Gateway is not accepted' } as const)
        const assigned = assignedAddresses(view, gateway, clock.now())
        if (assigned.kind === 'pending' && assigned.againMs !== undefined) this.#later(key, assigned.againMs)
        return gatewayReport(view, gateway, programmed, assigned)
      }
      default:
        return undefined
    }
  }

  async #apply(key: string, workload: ProxyWorkload): Promise<Programmed> {
    const wanted = JSON.stringify(workload)
    const known = this.#applied.get(key)
    if (known?.workload === wanted) return known.programmed
    const { client, desired, signal } = this.#options
    const seen = this.#seen
    const { serviceAccount, deployment, service } = workload
    const { namespace = '', name } = deployment.metadata
    const ref = { namespace, name }
    const existing = await client.find(deployments, ref, signal)
    // One of the same name that somebody else made is left alone.
    const manager = deployment.metadata.labels?.[managedLabel]
    if (existing !== undefined && existing.metadata.labels?.[managedLabel] !== manager) {
      return { kind: 'foreign' }
    }
    const options = { kind: 'apply', fieldManager, force: true, signal } as const
    await client.patch(serviceAccounts, ref, serviceAccount, options)
    await client.patch(services, ref, service, options)
    const { status } = await client.patch(deployments, ref, deployment, options)
    const available = status?.conditions?.find(({ type }) => type === 'Available')
    const programmed: Programmed =
      available?.status === 'True'
        ? { kind: 'available', hostname: `${name}.${namespace}.svc.${desired.view.settings.domain}` }
        : { kind: 'unavailable', reason: available?.message ?? 'no replica was started yet' }
    if (seen === this.#seen) {
      this.#applied.set(key, { name: `${namespace}/${name}`, workload: wanted, programmed })
    }
    return programmed
  }

  async #settings(): Promise<ProxySettings> {
    this.#image ??= await this.#findImage()
    return { ...this.#options.desired.view.settings, image: this.#image }
  }

  /** The image of this very program, which holds all programs, unless another one is set. */
  async #findImage(): Promise<string> {
    const { client, config, desired, signal } = this.#options
    const { image, defaultImage } = config.waypoints
    if (image !== '') return image
    const ref = { namespace: desired.view.settings.systemNamespace, name: config.podName }
    const own = await client.find(pods, ref, signal)
    return own?.spec?.containers?.find(({ name }) => name === 'discovery')?.image ?? defaultImage
  }

  #later(key: string, ms: number): void {
    const leading = this.#leading
    void sleep(ms, leading?.signal).then(slept => {
      if (slept && leading === this.#leading) this.#queue.add(key)
    })
  }
}
