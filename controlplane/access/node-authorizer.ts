/**
 * Which identities a node's ztunnel may ask for: those of the workloads that it carries on its own node.
 * Source: Istio's node authorizer; tighter where that leaves gaps (`docs/compatibility/control-plane.md`).
 */
import { spiffeParts, type SpiffeId } from '../../shared/identity/spiffe-id.ts'
import { sleep, type Clock } from '../../shared/runtime/clock.ts'
import type { ClusterView } from '../cluster/cluster.ts'
import { keyOf, type PodObject } from '../cluster/objects.ts'
import type { Caller } from './token.ts'

/** Why a node may not have an identity; the code goes to trusted callers and to the log. */
export type Denial =
  | 'CALLER_NOT_TRUSTED'
  | 'TOKEN_NOT_BOUND_TO_POD'
  | 'CALLER_POD_UNKNOWN'
  | 'CALLER_POD_REPLACED'
  | 'CALLER_POD_OTHER_ACCOUNT'
  | 'CALLER_POD_WITHOUT_NODE'
  | 'OTHER_TRUST_DOMAIN'
  | 'NO_SUCH_WORKLOAD_ON_NODE'

export type Decision =
  | { readonly kind: 'allowed' }
  | { readonly kind: 'denied'; readonly denial: Denial; readonly detail: string }

export interface NodeAuthorizerOptions {
  readonly view: ClusterView
  /** `namespace/name` of the service accounts of node agents. */
  readonly trusted: ReadonlySet<string>
  readonly clock: Clock
  /** How long a pod that is not known yet is waited for; milliseconds. */
  readonly patienceMs?: number
}

/** A ztunnel asks milliseconds after the pod was made; what we watch may lag. */
const defaultPatienceMs = 5000
const lookAgainMs = 50

export class NodeAuthorizer {
  readonly #options: NodeAuthorizerOptions

  constructor(options: NodeAuthorizerOptions) {
    this.#options = options
  }

  isTrusted(caller: Caller): boolean {
    return this.#options.trusted.has(`${caller.namespace}/${caller.serviceAccount}`)
  }

  /** Waits for pods that are not known yet; every other denial is final and comes at once. */
  async authorize(caller: Caller, identity: SpiffeId, signal: AbortSignal): Promise<Decision> {
    const { clock, patienceMs = defaultPatienceMs } = this.#options
    const deadline = clock.now() + patienceMs
    for (;;) {
      const decision = this.decide(caller, identity)
      if (decision.kind === 'allowed' || !mayChange(decision.denial) || clock.now() >= deadline)
        return decision
      if (!(await sleep(lookAgainMs, signal))) return decision
    }
  }

  /** By what is known now. */
  decide(caller: Caller, identity: SpiffeId): Decision {
    const { view } = this.#options
    if (!this.isTrusted(caller)) {
      const account = `${caller.namespace}/${caller.serviceAccount}`
      return denied('CALLER_NOT_TRUSTED', `${account} is not in CA_TRUSTED_NODE_ACCOUNTS`)
    }
    const wanted = spiffeParts(identity)
    if (wanted.trustDomain !== view.settings.trustDomain) {
      return denied('OTHER_TRUST_DOMAIN', `${identity} is not of trust domain ${view.settings.trustDomain}`)
    }
    const node = callersNode(view, caller)
    if (typeof node !== 'string') return node
    for (const pod of view.podsOnNode(node)) {
      const { namespace } = pod.meta
      if (namespace !== wanted.namespace || pod.serviceAccount !== wanted.serviceAccount) continue
      if (isCarried(view, pod)) return { kind: 'allowed' }
    }
    return denied('NO_SUCH_WORKLOAD_ON_NODE', `no enrolled pod on node ${node} runs as ${identity}`)
  }
}

function callersNode(view: ClusterView, caller: Caller): string | Extract<Decision, { kind: 'denied' }> {
  const key = `${caller.namespace}/${caller.podName}`
  if (caller.podName === '' || caller.podUid === '') {
    return denied('TOKEN_NOT_BOUND_TO_POD', 'the token names no pod; node agents need a projected token')
  }
  const pod = view.get('Pod', key)
  if (pod === undefined) return denied('CALLER_POD_UNKNOWN', `pod ${key} is not known`)
  if (pod.meta.uid !== caller.podUid) {
    return denied('CALLER_POD_REPLACED', `pod ${key} is not the one that the token was made for`)
  }
  if (pod.serviceAccount !== caller.serviceAccount) {
    return denied('CALLER_POD_OTHER_ACCOUNT', `pod ${key} runs as ${pod.serviceAccount}`)
  }
  if (pod.node === '') return denied('CALLER_POD_WITHOUT_NODE', `pod ${key} is not on a node yet`)
  return pod.node
}

/** Running, with a network of its own, and enrolled or about to be. */
function isCarried(view: ClusterView, pod: PodObject): boolean {
  if (pod.phase === 'Succeeded' || pod.phase === 'Failed' || pod.hostNetwork) return false
  const { labels, annotations, namespace } = pod.meta
  if (annotations['ambient.istio.io/redirection'] === 'enabled') return true
  // Those that end tunnels themselves are prefetched by their node's ztunnel too.
  if (labels['networking.istio.io/tunnel']?.split(',').includes('http') ?? false) return true
  const mode =
    labels['istio.io/dataplane-mode'] ??
    view.get('Namespace', namespace)?.meta.labels['istio.io/dataplane-mode'] ??
    ''
  return mode === 'ambient'
}

function mayChange(denial: Denial): boolean {
  switch (denial) {
    case 'CALLER_NOT_TRUSTED':
    case 'TOKEN_NOT_BOUND_TO_POD':
    case 'OTHER_TRUST_DOMAIN':
      return false
    default:
      return true
  }
}

function denied(denial: Denial, detail: string): Extract<Decision, { kind: 'denied' }> {
  return { kind: 'denied', denial, detail }
}

/** For logs. */
export function callerPod(caller: Caller): string {
  return keyOf({ namespace: caller.namespace, name: caller.podName })
}
