/**
 * Makes the classes of waypoints and gateways, which users find by `kubectl get gatewayclasses`, and says of each class
 * of ours that it is one. The leader only. Gateways work without these objects too.
 */
import type { KubeClient } from '../../shared/kube/client.ts'
import { isConflict, isNotFound, KubeError } from '../../shared/kube/errors.ts'
import { gatewayClasses, type GatewayClass } from '../../shared/kube/gateway-api.ts'
import type { Clock } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { Kind } from '../cluster/objects.ts'
import type { Config } from '../config.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import {
  gatewayClass,
  gatewayController,
  waypointClass,
  waypointController
} from '../translate/gateway-class.ts'
import { gatewayClassStatus } from '../translate/gateway-class-status.ts'
import { WorkQueue } from './work-queue.ts'

export interface GatewayClassOptions {
  readonly client: Pick<KubeClient, 'find' | 'create' | 'patch'>
  readonly config: Pick<Config, 'waypoints' | 'gateways'>
  readonly desired: Pick<DesiredState, 'view'>
  readonly log: Logger
  readonly clock: Clock
  readonly signal: AbortSignal
}

interface OwnClass {
  readonly controller: string
  readonly description: string
}

const ownClasses: ReadonlyMap<string, OwnClass> = new Map([
  [waypointClass, { controller: waypointController, description: 'Waypoints of the mesh' }],
  [gatewayClass, { controller: gatewayController, description: 'Gateways into the mesh' }]
])

export class GatewayClassWriter {
  readonly #options: GatewayClassOptions
  readonly #queue: WorkQueue
  #leading = false
  #forbidden = false

  constructor(options: GatewayClassOptions) {
    this.#options = options
    this.#queue = new WorkQueue({
      signal: options.signal,
      concurrency: 1,
      work: async name => this.#write(name),
      onFailure: (name, error) =>
        options.log.warn('writing a GatewayClass failed, trying again', { name, error: messageOf(error) })
    })
  }

  changed(kind: Kind, name: string): void {
    if (kind === 'GatewayClass' && this.#leading) this.#queue.add(name)
  }

  lead(leading: boolean): void {
    this.#leading = leading
    if (!leading) return
    const { desired } = this.#options
    this.#queue.add(waypointClass)
    this.#queue.add(gatewayClass)
    for (const { meta } of desired.view.all('GatewayClass')) this.#queue.add(meta.name)
  }

  async #write(name: string): Promise<void> {
    const { client, clock, desired, signal } = this.#options
    const known = desired.view.get('GatewayClass', name)
    if (!this.#leading || this.#forbidden) return
    // Most classes are others'.
    if (!this.#runs(known?.controller ?? ownClasses.get(name)?.controller)) return
    try {
      const found = (await client.find(gatewayClasses, { name }, signal)) ?? (await this.#make(name))
      const status = found === undefined ? undefined : gatewayClassStatus(found, clock.now())
      if (found === undefined || status === undefined) return
      const body = { metadata: { resourceVersion: found.metadata.resourceVersion }, status }
      await client.patch(gatewayClasses, { name }, body, { kind: 'merge', subresource: 'status', signal })
    } catch (error) {
      if (isConflict(error) || isNotFound(error)) return // the watch brings what is true
      if (!(error instanceof KubeError) || error.status !== 403) throw error
      this.#forbidden = true
      const fields = { name, needs: error.needs }
      this.#options.log.info('the GatewayClasses are not written: a permission is missing', fields)
    }
  }

  #runs(controller: string | undefined): boolean {
    const { gateways, waypoints } = this.#options.config
    if (controller === gatewayController) return gateways.enabled
    return controller === waypointController && waypoints.enabled
  }

  async #make(name: string): Promise<GatewayClass | undefined> {
    const own = ownClasses.get(name)
    if (own === undefined) return undefined
    const { client, signal } = this.#options
    const made = {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'GatewayClass',
      metadata: { name },
      spec: { controllerName: own.controller, description: own.description }
    }
    return client.create(gatewayClasses, made, { fieldManager: 'underpass-controlplane', signal })
  }
}
