/**
 * Writes what became of an object into its status, so that `kubectl get -o yaml` tells its author. Only the
 * leading replica writes, only what differs from what is there, and only conditions of our own types.
 */
import type { KubeClient } from '../../shared/kube/client.ts'
import { KubeError, isConflict, isNotFound } from '../../shared/kube/errors.ts'
import { namespaces, services } from '../../shared/kube/core-api.ts'
import {
  backendTlsPolicies,
  gateways,
  grpcRoutes,
  httpRoutes,
  tlsRoutes
} from '../../shared/kube/gateway-api.ts'
import {
  authorizationPolicies,
  peerAuthentications,
  serviceEntries,
  workloadEntries
} from '../../shared/kube/istio-api.ts'
import { rateLimitPolicies } from '../../shared/kube/underpass-api.ts'
import type { Condition, KubeObject, ResourceType } from '../../shared/kube/object.ts'
import type { Clock } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { Unit } from '../desired/affected.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import { isRoute, isRouteKind, keyOf, type Kind, type Labels, type MeshObject } from '../cluster/objects.ts'
import { hostOwner } from '../translate/hostname.ts'
import { backendTlsReports } from '../translate/backend-tls-report.ts'
import { ancestorsText, mergedAncestors, reportedAncestors } from '../translate/backend-tls-status.ts'
import { routeReports } from '../translate/route-conditions.ts'
import { mergedParents, parentsText, reportedParents } from '../translate/route-status.ts'
import type { IstioClasses } from '../translate/gateway-class.ts'
import { conditionFrom, conditionText, ownConditionTypes } from '../translate/condition.ts'
import { brokenConditions, conditionsOf } from '../translate/conditions.ts'
import { WorkQueue } from './work-queue.ts'

interface WithStatus extends KubeObject {
  readonly status?: { readonly conditions?: readonly Condition[] }
}

const kinds: Partial<Record<Kind, ResourceType>> = {
  Service: services,
  ServiceEntry: serviceEntries,
  WorkloadEntry: workloadEntries,
  Namespace: namespaces,
  AuthorizationPolicy: authorizationPolicies,
  PeerAuthentication: peerAuthentications,
  RateLimitPolicy: rateLimitPolicies,
  Gateway: gateways,
  HTTPRoute: httpRoutes,
  GRPCRoute: grpcRoutes,
  TLSRoute: tlsRoutes,
  BackendTLSPolicy: backendTlsPolicies
}

export interface StatusOptions {
  readonly client: Pick<KubeClient, 'find' | 'patch'>
  readonly desired: DesiredState
  /** Whose waypoints are ours to speak for. */
  readonly istioClasses: IstioClasses
  readonly log: Logger
  readonly clock: Clock
  readonly signal: AbortSignal
}

export class StatusWriter {
  readonly #options: StatusOptions
  readonly #queue: WorkQueue
  /** Objects that cannot be read, by `Kind namespace/name`, with the reason. */
  readonly #broken = new Map<string, string>()
  /** Kinds whose status may not be written. */
  readonly #forbidden = new Set<Kind>()
  #leading = false

  constructor(options: StatusOptions) {
    this.#options = options
    this.#queue = new WorkQueue({
      signal: options.signal,
      concurrency: 4,
      work: async id => this.#write(id),
      onFailure: (id, error) => {
        options.log.warn('writing a status failed, trying again', { object: id, error: messageOf(error) })
      }
    })
  }

  lead(leading: boolean): void {
    this.#leading = leading
    if (!leading) return
    for (const kind of Object.keys(kinds) as Kind[]) {
      for (const object of this.#options.desired.view.all(kind)) this.#check(object)
    }
    for (const id of this.#broken.keys()) this.#queue.add(id)
  }

  /** An object that could be read, perhaps again. */
  readable(object: MeshObject): void {
    if (this.#broken.delete(idOf(object.kind, keyOf(object.meta)))) this.#check(object)
  }

  broken(kind: Kind, key: string, message: string): void {
    // Of a route its definition in the API server leaves nothing that could not be read.
    if (kinds[kind] === undefined || isRouteKind(kind) || kind === 'BackendTLSPolicy') return
    this.#broken.set(idOf(kind, key), message)
    if (this.#leading) this.#queue.add(idOf(kind, key))
  }

  gone(kind: Kind, key: string): void {
    this.#broken.delete(idOf(kind, key))
  }

  /** A unit was translated anew, so the status of its object may be another. */
  translated(unit: Unit): void {
    if (!this.#leading) return
    const { view } = this.#options.desired
    switch (unit.kind) {
      case 'Host': {
        const cut = unit.key.indexOf('/')
        const owner = hostOwner(view, unit.key.slice(0, cut), unit.key.slice(cut + 1))
        if (owner !== undefined) this.#check(owner)
        this.#checkTargeting(unit.key.slice(0, cut))
        return
      }
      case 'Gateway':
        for (const namespace of view.all('Namespace')) this.#check(namespace)
        this.#checkTargeting()
        return
      case 'AuthorizationPolicy':
      case 'RateLimitPolicy':
      case 'HTTPRoute':
      case 'GRPCRoute':
      case 'TLSRoute':
      case 'BackendTLSPolicy':
      case 'WorkloadEntry': {
        const object = view.get(unit.kind, unit.key)
        if (object !== undefined) this.#check(object)
        return
      }
      default:
    }
  }

  /** Namespaces and classes of gateways make no resources of their own. */
  changed(object: MeshObject): void {
    if (object.kind === 'Namespace') this.#check(object)
    if (object.kind === 'GatewayClass' && this.#leading) this.#checkTargeting()
  }

  /** Policies that name targets, of one namespace or of all: what becomes of them depends on the targets. */
  #checkTargeting(namespace?: string): void {
    const { view } = this.#options.desired
    for (const kind of ['AuthorizationPolicy', 'RateLimitPolicy'] as const) {
      const among = namespace === undefined ? view.all(kind) : view.inNamespace(kind, namespace)
      for (const policy of among) if (policy.targets.length > 0) this.#check(policy)
    }
  }

  #check(object: MeshObject): void {
    if (this.#leading && !this.#isRight(object)) this.#queue.add(idOf(object.kind, keyOf(object.meta)))
  }

  #isRight(object: MeshObject): boolean {
    const { desired, istioClasses } = this.#options
    if (object.kind === 'BackendTLSPolicy') {
      const reports = backendTlsReports(desired.view, object, istioClasses)
      return ancestorsText(reportedAncestors(reports, object.meta.generation)) === object.reported
    }
    if (!isRoute(object)) return sameConditions(conditionsOf(desired.view, object), object.meta.conditions)
    const reports = routeReports(desired.view, object, istioClasses)
    return parentsText(reportedParents(reports, object.meta.generation)) === object.reported
  }

  async #write(id: string): Promise<void> {
    const place = placeOf(id)
    if (place === undefined || !this.#leading) return
    const { client, signal } = this.#options
    const { kind, type, namespace, name } = place
    const found = await client.find(type, { namespace, name }, signal)
    const status = found === undefined ? undefined : this.#statusOf(id, place, found)
    if (found === undefined || status === undefined) return
    // With the version: a status that somebody else wrote meanwhile is read again first.
    const patch = { metadata: { resourceVersion: found.metadata.resourceVersion }, status }
    try {
      await client.patch(type, { namespace, name }, patch, { kind: 'merge', subresource: 'status', signal })
    } catch (error) {
      if (isNotFound(error) || this.#mayNot(kind, error)) return
      if (!isConflict(error)) throw error
      this.#queue.add(id)
    }
  }

  /** The parts to write; undefined when the status is right, and when nobody knows what it should be. */
  #statusOf(id: string, { kind, key }: Place, found: KubeObject): object | undefined {
    const { desired, clock, istioClasses } = this.#options
    const object = desired.view.get(kind, key)
    if (object !== undefined && isRoute(object)) {
      // What was decided of another generation is not said of this one: the watch brings it.
      if (object.meta.generation !== (found.metadata.generation ?? 0)) return undefined
      const reports = routeReports(desired.view, object, istioClasses)
      const parents = mergedParents(found, reports, clock.now())
      return parents === undefined ? undefined : { parents }
    }
    if (object?.kind === 'BackendTLSPolicy') {
      if (object.meta.generation !== (found.metadata.generation ?? 0)) return undefined
      const reports = backendTlsReports(desired.view, object, istioClasses)
      const ancestors = mergedAncestors(found, reports, clock.now())
      return ancestors === undefined ? undefined : { ancestors }
    }
    const problem = this.#broken.get(id)
    let wanted: Labels
    if (problem !== undefined) wanted = brokenConditions(kind, problem)
    else if (object !== undefined) wanted = conditionsOf(desired.view, object)
    else return undefined
    const conditions = merged(found, wanted, clock.now())
    if (conditions === undefined) return undefined
    return kind === 'Namespace' || kind === 'Service'
      ? { conditions }
      : { conditions, observedGeneration: found.metadata.generation }
  }

  /** A permission that is missing is told once a kind; trying again would not help. */
  #mayNot(kind: Kind, error: unknown): boolean {
    if (!(error instanceof KubeError) || error.status !== 403) return false
    if (!this.#forbidden.has(kind)) {
      const fields = { kind, needs: error.needs, error: error.message }
      this.#options.log.warn('statuses of a kind are not written: a permission is missing', fields)
    }
    this.#forbidden.add(kind)
    return true
  }
}

interface Place {
  readonly kind: Kind
  readonly type: ResourceType
  readonly key: string
  readonly namespace: string
  readonly name: string
}

function placeOf(id: string): Place | undefined {
  const [kindText = '', key = ''] = id.split(' ', 2)
  const kind = kindText as Kind
  const type = kinds[kind]
  const cut = key.indexOf('/')
  const namespace = cut < 0 ? '' : key.slice(0, cut)
  return type === undefined ? undefined : { kind, type, key, namespace, name: key.slice(cut + 1) }
}

function idOf(kind: Kind, key: string): string {
  return `${kind} ${key}`
}

function sameConditions(a: Labels, b: Labels): boolean {
  const [one, other] = [Object.keys(a), Object.keys(b)]
  return one.length === other.length && one.every(type => a[type] === b[type])
}

/** The object's conditions with ours put right; undefined when they are right. */
function merged(object: WithStatus, wanted: Labels, now: number): readonly Condition[] | undefined {
  const existing = object.status?.conditions ?? []
  const others = existing.filter(({ type }) => !ownConditionTypes.has(type))
  const before = existing.filter(({ type }) => ownConditionTypes.has(type))
  const generation = object.metadata.generation ?? 0
  const ours = Object.entries(wanted).map(([type, text]): Condition => {
    const condition = conditionFrom(text)
    const former = before.find(each => each.type === type)
    const kept = former?.status === condition.status ? former.lastTransitionTime : undefined
    return {
      type,
      status: condition.status as Condition['status'],
      reason: condition.reason,
      message: condition.message,
      lastTransitionTime: kept ?? new Date(now).toISOString().replace(/\.\d+Z$/, 'Z'),
      ...(generation === 0 ? {} : { observedGeneration: generation })
    }
  })
  const texts = (list: readonly Condition[]): string =>
    list
      .map(
        ({ type, status, reason = '', message = '' }) =>
          `${type}\n${conditionText({ status, reason, message })}`
      )
      .toSorted()
      .join('\n\n')
  return texts(ours) === texts(before) ? undefined : [...others, ...ours]
}
