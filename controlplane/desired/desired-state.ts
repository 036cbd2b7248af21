/**
 * From changes of objects to changes of resources: holds the cluster, remembers which units are out of date
 * and translates just those when asked.
 */
import { affected, everything, type Unit } from './affected.ts'
import { Cluster, type ClusterView } from '../cluster/cluster.ts'
import type { Kind, MeshObject } from '../cluster/objects.ts'
import type { MeshSettings } from '../cluster/settings.ts'
import { Snapshot, type Changes, type Translated } from './snapshot.ts'
import { allowWaypoint } from '../translate/attachment.ts'
import { translateBackendTls } from '../translate/backend-tls.ts'
import { translateDestinationRule } from '../translate/destination-rule.ts'
import { hostOwner } from '../translate/hostname.ts'
import { translateGateway, translateSecret } from '../translate/gateway.ts'
import { translateRoute } from '../translate/route.ts'
import { staticStrict, translatePeerAuthentication } from '../translate/peer-authentication.ts'
import type { ConfigMessage } from '../translate/messages.ts'
import { meshConfigForWaypoints } from '../translate/mesh-config.ts'
import { translatePolicy } from '../translate/policy.ts'
import { targetedPolicy } from '../translate/targeted-policy.ts'
import { translateTelemetry } from '../translate/telemetry.ts'
import { furtherRecipients } from '../translate/service-recipients.ts'
import { translateService } from '../translate/service.ts'
import { translateVirtualService } from '../translate/virtual-service.ts'
import {
  translatePod,
  translateServiceEntryEndpoints,
  translateSlice,
  translateWorkloadEntry
} from '../translate/workload.ts'

/** Kinds that carry a revision; pods, services, namespaces and gateways are everybody's. */
const revisioned: ReadonlySet<Kind> = new Set([
  'AuthorizationPolicy',
  'DestinationRule',
  'PeerAuthentication',
  'RateLimitPolicy',
  'RequestAuthentication',
  'Telemetry',
  'ServiceEntry',
  'VirtualService',
  'WorkloadEntry'
])

export class DesiredState {
  readonly snapshot = new Snapshot()
  readonly #cluster: Cluster
  readonly #outdated = new Map<string, Unit>()
  #allOutdated = false

  constructor(settings: MeshSettings) {
    this.#cluster = new Cluster(settings)
  }

  get view(): ClusterView {
    return this.#cluster
  }

  count(kind: Kind): number {
    return this.#cluster.count(kind)
  }

  /** Whether there is anything to translate. */
  get outdated(): boolean {
    return this.#allOutdated || this.#outdated.size > 0
  }

  put(object: MeshObject): void {
    const { revision } = this.#cluster.settings
    const label = object.meta.labels['istio.io/rev']
    if (label !== undefined && label !== revision && revisioned.has(object.kind)) {
      const { namespace, name } = object.meta
      this.delete(object.kind, namespace === '' ? name : `${namespace}/${name}`)
      return
    }
    const previous = this.#cluster.put(object)
    if (!this.#allOutdated) affected(this.#cluster, previous, object, this.#touch)
  }

  delete(kind: Kind, key: string): void {
    const previous = this.#cluster.delete(kind, key)
    if (!this.#allOutdated) affected(this.#cluster, previous, undefined, this.#touch)
  }

  configure(settings: MeshSettings): void {
    this.#cluster.configure(settings)
    this.outdateAll()
  }

  /** Everything is translated the next time; until then single changes need no bookkeeping. */
  outdateAll(): void {
    this.#allOutdated = true
  }

  /**
   * Translates what is out of date into the snapshot; `onTranslated` hears of each unit. A unit whose
   * translation throws keeps what it made before: one object must not hold up the others.
   */
  refresh(onTranslated?: (unit: Unit) => void, onFault?: (unit: Unit, error: unknown) => void): Changes {
    if (this.#allOutdated) {
      this.#allOutdated = false
      everything(this.#cluster, this.#touch)
      // What was made before and is no longer found must go too.
      for (const unit of this.#made.values()) this.#touch(unit)
    }
    const translated = new Map<string, readonly Translated[]>()
    for (const [id, unit] of this.#outdated) {
      let resources: readonly Translated[]
      try {
        resources = this.#translate(unit)
      } catch (error) {
        onFault?.(unit, error)
        continue
      }
      if (resources.length > 0) this.#made.set(id, unit)
      else this.#made.delete(id)
      translated.set(id, resources)
      onTranslated?.(unit)
    }
    this.#outdated.clear()
    return this.snapshot.replace(translated)
  }

  /** Units that made resources. */
  readonly #made = new Map<string, Unit>()

  readonly #touch = (unit: Unit): void => {
    this.#outdated.set(`${unit.kind} ${unit.key}`, unit)
  }

  #translate(unit: Unit): readonly Translated[] {
    const view = this.#cluster
    const namespace = unit.key.slice(0, Math.max(0, unit.key.indexOf('/')))
    if (namespace !== '' && !view.discovers(namespace)) return []
    switch (unit.kind) {
      case 'Pod': {
        const pod = view.get('Pod', unit.key)
        return pod === undefined ? [] : workload(translatePod(view, pod))
      }
      case 'WorkloadEntry': {
        const entry = view.get('WorkloadEntry', unit.key)
        return entry === undefined ? [] : workload(translateWorkloadEntry(view, entry))
      }
      case 'ServiceEntry': {
        const entry = view.get('ServiceEntry', unit.key)
        return entry === undefined ? [] : translateServiceEntryEndpoints(view, entry).flatMap(workload)
      }
      case 'EndpointSlice': {
        const slice = view.get('EndpointSlice', unit.key)
        return slice === undefined ? [] : translateSlice(view, slice).flatMap(workload)
      }
      case 'Host': {
        const hostname = unit.key.slice(namespace.length + 1)
        const owner = hostOwner(view, namespace, hostname)
        if (owner === undefined) return []
        const routed = furtherRecipients(view, owner, hostname)
        return [{ kind: 'service', message: translateService(view, owner, hostname), routed }]
      }
      case 'AuthorizationPolicy': {
        const policy = view.get('AuthorizationPolicy', unit.key)
        if (policy === undefined) return []
        const translation = translatePolicy(policy, view.settings)
        return translation.kind === 'sent'
          ? authorization(translation.message)
          : config(targetedPolicy(view, policy))
      }
      case 'PeerAuthentication': {
        const policy = view.get('PeerAuthentication', unit.key)
        return authorization(policy === undefined ? undefined : translatePeerAuthentication(view, policy))
      }
      case 'Gateway': {
        const gateway = view.get('Gateway', unit.key)
        if (gateway === undefined) return []
        return [...authorization(allowWaypoint(view, gateway)), ...config(translateGateway(view, gateway))]
      }
      case 'Secret': {
        const secret = view.get('Secret', unit.key)
        return config(secret === undefined ? undefined : translateSecret(view, secret))
      }
      case 'HTTPRoute':
      case 'GRPCRoute':
      case 'TLSRoute': {
        const route = view.get(unit.kind, unit.key)
        return config(route === undefined ? undefined : translateRoute(view, route))
      }
      case 'RequestAuthentication':
      case 'RateLimitPolicy': {
        const policy = view.get(unit.kind, unit.key)
        return config(policy === undefined ? undefined : targetedPolicy(view, policy))
      }
      case 'Telemetry': {
        const telemetry = view.get('Telemetry', unit.key)
        return config(telemetry === undefined ? undefined : translateTelemetry(view, telemetry))
      }
      case 'DestinationRule': {
        const rule = view.get('DestinationRule', unit.key)
        return config(rule === undefined ? undefined : translateDestinationRule(view, rule))
      }
      case 'BackendTLSPolicy': {
        const policy = view.get('BackendTLSPolicy', unit.key)
        return config(policy === undefined ? undefined : translateBackendTls(view, policy))
      }
      case 'VirtualService': {
        const virtualService = view.get('VirtualService', unit.key)
        return config(
          virtualService === undefined ? undefined : translateVirtualService(view, virtualService)
        )
      }
      case 'MeshConfig':
        return config(meshConfigForWaypoints(view))
      case 'StaticStrict':
        return view.count('PeerAuthentication') === 0
          ? []
          : authorization(staticStrict(view.settings.rootNamespace))
      default:
        return unit satisfies never
    }
  }
}

function workload(message: ReturnType<typeof translatePod>): readonly Translated[] {
  return message === undefined ? [] : [{ kind: 'workload', message }]
}

function authorization(message: ReturnType<typeof allowWaypoint>): readonly Translated[] {
  return message === undefined ? [] : [{ kind: 'authorization', message }]
}

function config(message: ConfigMessage | undefined): readonly Translated[] {
  return message === undefined ? [] : [message]
}
