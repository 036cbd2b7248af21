/** What the node agent shows: its pods, the rules that each shall have and has, and all that is on the machine. */
import { type Answer, HttpProblem, jsonAnswer, type Route } from '../shared/runtime/admin-http.ts'
import { packageRevision, packageVersion } from '../shared/runtime/package-version.ts'
import type { PodCapture } from './decide.ts'
import type { EnrolledPod, Enroller } from './enrol.ts'
import type { Found } from './inventory.ts'
import { describeDrift, type CaptureMethod, type RuleState } from './rules/capture.ts'

export interface AdminDeps {
  readonly enroller: Enroller
  readonly nodeName: string
  readonly method: CaptureMethod
  readonly connected: () => number
  readonly readRules: (netns: number, capture: PodCapture) => Promise<RuleState>
  readonly findOnMachine: () => AsyncIterable<Found>
}

/** `/v1/version` */
export interface VersionAnswer {
  readonly version: string
  /** The commit; `unknown` where the sources run. */
  readonly revision: string
}

/** `/v1/pods` */
export interface PodsAnswer {
  readonly node: string
  readonly captureMode: CaptureMethod['mode']
  readonly captureBackend: CaptureMethod['backend']
  readonly ztunnelConnections: number
  readonly pods: readonly PodState[]
}

export interface PodState {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly addresses: readonly string[]
  readonly redirection: string | null
  readonly rulesWritten: boolean
  /** What the newest ztunnel said. */
  readonly ztunnel: string
  readonly netns: string | null
  readonly problem: string | null
}

/** `/v1/rules?pod=namespace/name` */
export interface RulesAnswer {
  readonly pod: string
  readonly netns: string
  readonly mode: CaptureMethod['mode']
  readonly backend: CaptureMethod['backend']
  readonly generation: string
  readonly desired: readonly string[]
  readonly actual: readonly string[]
  readonly drift: { readonly missing: readonly string[]; readonly unexpected: readonly string[] }
  /** In words; empty when the rules are as they shall be. */
  readonly summary: string
}

/** `/v1/inventory`: everything of ours that is on the machine. */
export interface InventoryAnswer {
  readonly node: string
  readonly found: readonly Found[]
}

export function adminRoutes(deps: AdminDeps): readonly Route[] {
  return [
    { method: 'GET', path: '/v1/version', handle: showVersion },
    { method: 'GET', path: '/v1/pods', handle: () => listPods(deps) },
    { method: 'GET', path: '/v1/rules', handle: async request => showRules(deps, request.query.get('pod')) },
    { method: 'GET', path: '/v1/inventory', handle: async () => listFound(deps) }
  ]
}

function showVersion(): Answer {
  const answer: VersionAnswer = { version: packageVersion(), revision: packageRevision() }
  return jsonAnswer(answer)
}

function listPods({ enroller, nodeName, method, connected }: AdminDeps): Answer {
  const pods = [...enroller.pods()].map(stateOf)
  const answer: PodsAnswer = {
    node: nodeName,
    captureMode: method.mode,
    captureBackend: method.backend,
    ztunnelConnections: connected(),
    pods: pods.toSorted((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1))
  }
  return jsonAnswer(answer)
}

async function listFound({ nodeName, findOnMachine }: AdminDeps): Promise<Answer> {
  const found: Found[] = []
  for await (const one of findOnMachine()) found.push(one)
  const answer: InventoryAnswer = { node: nodeName, found }
  return jsonAnswer(answer)
}

async function showRules({ enroller, method, readRules }: AdminDeps, wanted: string | null): Promise<Answer> {
  if (wanted === null || !/^[^/]+\/[^/]+$/.test(wanted)) {
    throw new HttpProblem(400, 'pod: expected namespace/name, for example /v1/rules?pod=shop/web-1')
  }
  const pod = [...enroller.pods()].find(({ facts }) => `${facts.namespace}/${facts.name}` === wanted)
  if (pod === undefined) throw new HttpProblem(404, `${wanted} is not enrolled on this node; see /v1/pods`)
  if (pod.netns === undefined)
    throw new HttpProblem(409, `the network namespace of ${wanted} is not found yet`)
  const state = await readRules(pod.netns.fd, pod.facts.capture)
  const { missing, unexpected } = state
  const answer: RulesAnswer = {
    pod: wanted,
    netns: pod.netns.path,
    mode: method.mode,
    backend: method.backend,
    generation: state.generation,
    desired: state.desired,
    actual: state.actual,
    drift: { missing, unexpected },
    summary: describeDrift(state)
  }
  return jsonAnswer(answer)
}

function stateOf({ facts, netns, rulesWritten, ztunnel, problem }: EnrolledPod): PodState {
  return {
    namespace: facts.namespace,
    name: facts.name,
    uid: facts.uid,
    addresses: facts.addresses,
    redirection: facts.redirection ?? null,
    rulesWritten,
    ztunnel,
    netns: netns?.path ?? null,
    problem: problem ?? null
  }
}
