/** Follows the pods of this node and all namespaces, and turns what changes into work: a pod's UID to reconcile. */
import type { KubeClient } from '../shared/kube/client.ts'
import { informer, type Informer } from '../shared/kube/informer.ts'
import { namespaces, pods, type Container, type Namespace, type Pod } from '../shared/kube/core-api.ts'
import type { Labels } from '../shared/kube/object.ts'
import { type Ip, parseIp } from '../shared/net/address.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import { captureOf, decideEnrolment, type EnrolmentSettings, hasEnded } from './decide.ts'
import type { Enroller, PodFacts, Redirection } from './enrol.ts'

export const redirectionAnnotation = 'ambient.istio.io/redirection'

export interface WatchOptions {
  readonly client: KubeClient
  readonly nodeName: string
  readonly settings: EnrolmentSettings
  readonly signal: AbortSignal
  readonly log: Logger
  /** A pod's UID; called for what changed and would change its enrolment. */
  readonly onChange: (uid: string) => void
  readonly onEvent: (type: 'add' | 'update' | 'delete') => void
}

/** A pod as it was last seen; kept after its deletion until it is taken out. */
interface SeenPod {
  readonly pod: Pod
  readonly deleted: boolean
}

export class PodWatch {
  readonly #options: WatchOptions
  readonly #pods: Informer<Pod>
  readonly #namespaces: Informer<Namespace>
  readonly #seen = new Map<string, SeenPod>()
  /** Pods that were there before this agent was, until it looked at them: an earlier one may have left rules. */
  readonly #fromBefore = new Set<string>()

  constructor(options: WatchOptions) {
    const { client, nodeName, signal, log } = options
    this.#options = options
    this.#namespaces = informer(client, namespaces, {
      signal,
      log,
      trim: trimNamespace,
      onChange: change => {
        const previous = change.type === 'modified' ? change.previous.metadata.labels : undefined
        const { name, labels } = change.object.metadata
        if (change.type === 'modified' && sameLabels(previous, labels)) return
        for (const { pod } of this.#seen.values()) {
          if (pod.metadata.namespace === name) options.onChange(uidOf(pod))
        }
      }
    })
    this.#pods = informer(client, pods, {
      signal,
      log,
      fieldSelector: `spec.nodeName=${nodeName}`,
      trim: trimPod,
      onChange: change => {
        const uid = uidOf(change.object)
        options.onEvent(change.type === 'added' ? 'add' : change.type === 'deleted' ? 'delete' : 'update')
        // What the API server shows of a pod that completed lacks its address: the last one seen has to serve.
        const before = this.#seen.get(uid)?.pod
        const pod =
          change.object.status?.podIP === undefined ? withAddresses(change.object, before) : change.object
        this.#seen.set(uid, { pod, deleted: change.type === 'deleted' })
        if (change.type === 'modified' && JSON.stringify(essence(before)) === JSON.stringify(essence(pod)))
          return
        options.onChange(uid)
      }
    })
  }

  /** Resolves when both lists are complete: before that, a missing namespace would look like a missing label. */
  async synced(): Promise<void> {
    await Promise.all([this.#pods.synced, this.#namespaces.synced])
    for (const uid of this.#seen.keys()) this.#fromBefore.add(uid)
  }

  uids(): Iterable<string> {
    return this.#seen.keys()
  }

  /** Brings one pod to what it shall be. Rejects when that is not complete. */
  async reconcile(uid: string, enroller: Enroller): Promise<void> {
    const seen = this.#seen.get(uid)
    if (seen === undefined) return
    const { pod, deleted } = seen
    const addresses = addressesOf(pod)
    const identity = { uid, namespace: pod.metadata.namespace ?? '', name: pod.metadata.name, addresses }
    const known = enroller.pod(uid) !== undefined
    if (deleted) {
      if (known || redirectionOf(pod) !== undefined) {
        await enroller.takeOut(identity, { running: false, annotated: false })
      }
      if (this.#seen.get(uid) === seen) this.#seen.delete(uid)
      this.#fromBefore.delete(uid)
      return
    }
    const decision = decideEnrolment(pod, this.#labelsOf(pod), this.#options.settings)
    if (decision.kind === 'skip') {
      const annotated = redirectionOf(pod) !== undefined
      // A pod in the network of its node has no namespace to clean, whatever its annotation says.
      const running = !hasEnded(pod) && pod.spec?.hostNetwork !== true
      if (known || annotated) await enroller.takeOut(identity, { running, annotated })
      else if (running && addresses.length > 0 && this.#fromBefore.has(uid)) {
        await enroller.removeLeftovers(identity)
      }
      this.#fromBefore.delete(uid)
      return
    }
    this.#fromBefore.delete(uid)
    // Without an address the sandbox is not there yet; the event that brings it comes back here.
    if (addresses.length > 0) await enroller.enrol(factsOf(pod, addresses, decision.capture))
  }

  /** Pods that are or shall be enrolled and have an address: what a snapshot has to name. */
  candidates(): readonly PodFacts[] {
    return [...this.#seen.values()].flatMap(({ pod, deleted }) => {
      const addresses = addressesOf(pod)
      if (deleted || hasEnded(pod) || addresses.length === 0) return []
      const { settings } = this.#options
      const decision = decideEnrolment(pod, this.#labelsOf(pod), settings)
      if (decision.kind === 'enrol') return [factsOf(pod, addresses, decision.capture)]
      const capture = captureOf(pod.metadata.annotations ?? {}, settings)
      return redirectionOf(pod) === undefined ? [] : [factsOf(pod, addresses, capture)]
    })
  }

  /**
   * For CNI ADD: the facts of a pod with the addresses that it is about to have; undefined when it is not to be
   * enrolled. Waits a moment for the watch, then asks the API server. Rejects when that does not know the pod.
   */
  async factsOfNew(namespace: string, name: string, addresses: readonly Ip[]): Promise<PodFacts | undefined> {
    const { client, signal, settings } = this.#options
    const key = `${namespace}/${name}`
    // The pod that the watch has may be an earlier one of the same name.
    const current = (): Pod | undefined => {
      const pod = this.#pods.get(key)
      return pod === undefined || hasEnded(pod) || isGoing(pod) ? undefined : pod
    }
    let pod = current()
    for (let turn = 0; turn < 10 && pod === undefined; turn++) {
      await new Promise(resolve => setTimeout(resolve, 10))
      pod = current()
    }
    pod ??= await client.get(pods, { namespace, name }, signal)
    const labels =
      this.#namespaces.get(namespace)?.metadata.labels ??
      (await client.get(namespaces, { name: namespace }, signal)).metadata.labels
    const decision = decideEnrolment(pod, labels ?? {}, settings, { created: true })
    return decision.kind === 'skip' ? undefined : factsOf(pod, addresses, decision.capture)
  }

  #labelsOf(pod: Pod): Labels {
    return this.#namespaces.get(pod.metadata.namespace ?? '')?.metadata.labels ?? {}
  }
}

function factsOf(pod: Pod, addresses: readonly Ip[], capture: PodFacts['capture']): PodFacts {
  return {
    uid: uidOf(pod),
    namespace: pod.metadata.namespace ?? '',
    name: pod.metadata.name,
    serviceAccount: pod.spec?.serviceAccountName ?? 'default',
    addresses,
    capture,
    probePorts: probePorts(pod),
    redirection: redirectionOf(pod),
    going: isGoing(pod)
  }
}

interface Action {
  readonly httpGet?: { readonly port?: number | string }
  readonly tcpSocket?: { readonly port?: number | string }
  readonly grpc?: { readonly port?: number }
}

/** The parts of a container that make the kubelet connect to it. */
interface ProbedContainer extends Container {
  readonly livenessProbe?: Action
  readonly readinessProbe?: Action
  readonly startupProbe?: Action
  readonly lifecycle?: { readonly postStart?: Action; readonly preStop?: Action }
}

/** TCP ports that the kubelet connects to, sorted; named ones are looked up in their container. */
export function probePorts(pod: Pod): readonly number[] {
  const containers: readonly ProbedContainer[] = [
    ...(pod.spec?.containers ?? []),
    ...(pod.spec?.initContainers ?? [])
  ]
  const ports = containers.flatMap(container =>
    actionsOf(container).flatMap(action => {
      const port = action.httpGet?.port ?? action.tcpSocket?.port ?? action.grpc?.port
      if (typeof port === 'number') return [port]
      const named = container.ports?.find(({ name }) => name !== undefined && name === port)?.containerPort
      return named ?? (/^\d+$/.test(port ?? '') ? [Number(port)] : [])
    })
  )
  return [...new Set(ports)].filter(port => port > 0 && port < 65536).toSorted((a, b) => a - b)
}

function actionsOf({ livenessProbe, readinessProbe, startupProbe, lifecycle }: ProbedContainer): Action[] {
  const all = [livenessProbe, readinessProbe, startupProbe, lifecycle?.postStart, lifecycle?.preStop]
  return all.filter(action => action !== undefined)
}

export function redirectionOf(pod: Pod): Redirection | undefined {
  const value = pod.metadata.annotations?.[redirectionAnnotation]
  return value === 'enabled' || value === 'pending' ? value : undefined
}

export function addressesOf(pod: Pod): readonly Ip[] {
  const { podIPs, podIP } = pod.status ?? {}
  const texts = podIPs !== undefined && podIPs.length > 0 ? podIPs.map(({ ip }) => ip) : [podIP ?? '']
  return texts.flatMap(text => parseIp(text) ?? [])
}

function isGoing(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp !== undefined
}

function uidOf(pod: Pod): string {
  return pod.metadata.uid ?? ''
}

function withAddresses(pod: Pod, before: Pod | undefined): Pod {
  const { podIP, podIPs } = before?.status ?? {}
  if (podIP === undefined) return pod
  return { ...pod, status: { ...pod.status, podIP, ...(podIPs === undefined ? {} : { podIPs }) } }
}

/** What of a pod can change its enrolment. */
function essence(pod: Pod | undefined): unknown {
  if (pod === undefined) return undefined
  const { labels, annotations } = pod.metadata
  return { labels, annotations, addresses: addressesOf(pod), ended: hasEnded(pod) }
}

/** Annotations that are read here; a pod may carry a lot of others. */
const annotationsRead = [
  redirectionAnnotation,
  'sidecar.istio.io/status',
  'ambient.istio.io/bypass-inbound-capture',
  'ambient.istio.io/dns-capture',
  'istio.io/reroute-virtual-interfaces'
]

function trimPod(pod: Pod): Pod {
  const { name, namespace, uid, resourceVersion, deletionTimestamp, labels, annotations = {} } = pod.metadata
  const kept = annotationsRead.flatMap(key =>
    key in annotations ? [[key, annotations[key] ?? ''] as const] : []
  )
  const { phase, podIP, podIPs } = pod.status ?? {}
  const { serviceAccountName, hostNetwork, containers, initContainers } = pod.spec ?? {}
  return withoutUndefined({
    apiVersion: pod.apiVersion,
    kind: pod.kind,
    metadata: withoutUndefined({
      name,
      namespace,
      uid,
      resourceVersion,
      deletionTimestamp,
      labels,
      annotations: Object.fromEntries(kept)
    }),
    spec: withoutUndefined({
      serviceAccountName,
      hostNetwork,
      containers: containers?.map(trimContainer),
      initContainers: initContainers?.map(trimContainer)
    }),
    status: withoutUndefined({ phase, podIP, podIPs })
  }) as Pod
}

function trimContainer(container: ProbedContainer): Container {
  const { name, ports, livenessProbe, readinessProbe, startupProbe, lifecycle } = container
  const trimmed: ProbedContainer = withoutUndefined({
    name,
    ports,
    livenessProbe,
    readinessProbe,
    startupProbe,
    lifecycle
  }) as ProbedContainer
  return trimmed
}

function trimNamespace({ apiVersion, kind, metadata }: Namespace): Namespace {
  const { name, uid, resourceVersion, labels } = metadata
  return {
    apiVersion,
    kind,
    metadata: withoutUndefined({ name, uid, resourceVersion, labels }) as Namespace['metadata']
  }
}

function withoutUndefined(object: object): object {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined))
}

function sameLabels(a: Labels | undefined, b: Labels | undefined): boolean {
  return JSON.stringify(a ?? {}) === JSON.stringify(b ?? {})
}
