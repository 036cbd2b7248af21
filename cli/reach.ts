/**
 * How the CLI reaches agents: only by port-forward through the API server, many at once. An agent that does
 * not answer makes the result partial; it never hides what the others said.
 */
import { messageOf } from '../shared/runtime/errors.ts'
import type { KubeClient } from '../shared/kube/client.ts'
import { KubeError } from '../shared/kube/errors.ts'
import { readBody } from '../shared/kube/http.ts'
import { portForward, requestThrough } from '../shared/kube/port-forward.ts'
import { pods, type Pod } from '../shared/kube/core-api.ts'
import type { IncomingMessage } from 'node:http'
import { isTimeout } from './failure.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation } from './command.ts'

export type AgentKind = 'ztunnel' | 'node agent' | 'control plane'

/** How each kind is found and where it answers. */
const kinds: Readonly<Record<AgentKind, { readonly selector: string; readonly port: number }>> = {
  ztunnel: { selector: 'app=ztunnel', port: 15000 },
  'node agent': { selector: 'k8s-app=istio-cni-node', port: 15016 },
  'control plane': { selector: 'app=istiod', port: 15014 }
}

export interface Agent {
  readonly kind: AgentKind
  readonly namespace: string
  readonly pod: string
  readonly node: string
  readonly port: number
  /** Why it cannot answer, from its pod's status; undefined when it should. */
  readonly down: string | undefined
}

export interface AgentRequest {
  readonly method?: 'GET' | 'POST'
  readonly path: string
  readonly body?: unknown
}

export type Reached<T> =
  | { readonly agent: Agent; readonly ok: true; readonly value: T }
  | { readonly agent: Agent; readonly ok: false; readonly problem: string }

/** Port-forwards open at the same time. */
const atOnce = 16
/** Largest answer: the dump of a node that holds ten thousand workloads takes about 20 MB. */
const maxAnswerBytes = 512 << 20

/** The agents of a kind that `--node` and `--pod` leave, by node. Throws when there are none. */
export async function findAgents(invocation: Invocation, kind: AgentKind): Promise<Agent[]> {
  const client = await invocation.client()
  const namespace = istioNamespace(invocation)
  const signal = limit(invocation)
  const found = await client.list(pods, { namespace, labelSelector: kinds[kind].selector, signal })
  const agents = withoutReplaced(found.items)
    .map(pod => agentOf(kind, pod, invocation))
    .toSorted((a, b) => a.node.localeCompare(b.node) || a.pod.localeCompare(b.pod))
  if (agents.length === 0) {
    throw new CommandFailure(
      `no ${kind} runs in namespace ${namespace} (pods with label ${kinds[kind].selector}); is the mesh installed there? Choose another with --istio-namespace`
    )
  }
  if (kind === 'control plane') return agents
  return narrow(invocation, client, agents, kind)
}

/** A pod that is going counts only where no other has taken its place yet. */
function withoutReplaced(found: readonly Pod[]): readonly Pod[] {
  const staying = found.filter(({ metadata }) => metadata.deletionTimestamp === undefined)
  const nodes = new Set(staying.map(({ spec }) => spec?.nodeName))
  const going = found.filter(({ metadata }) => metadata.deletionTimestamp !== undefined)
  return [...staying, ...going.filter(({ spec }) => !nodes.has(spec?.nodeName))]
}

export function istioNamespace(invocation: Invocation): string {
  return invocation.text('istioNamespace') ?? invocation.text('istio-namespace') ?? 'istio-system'
}

async function narrow(
  invocation: Invocation,
  client: KubeClient,
  agents: readonly Agent[],
  kind: AgentKind
): Promise<Agent[]> {
  const nodes = invocation.list('node')
  const podNames = invocation.list('pod')
  const known = [...new Set(agents.map(({ node }) => node))].join(', ')
  for (const node of nodes) {
    if (!agents.some(agent => agent.node === node)) {
      throw new CommandFailure(`no ${kind} on node ${JSON.stringify(node)} (there is one on: ${known})`)
    }
  }
  const chosen = new Set<Agent>(agents.filter(agent => nodes.includes(agent.node)))
  for (const name of podNames) chosen.add(await agentOfPod(invocation, client, agents, kind, name))
  return nodes.length + podNames.length === 0 ? [...agents] : agents.filter(agent => chosen.has(agent))
}

/** The agent with this name, else the one on the node of the pod with this name. */
async function agentOfPod(
  invocation: Invocation,
  client: KubeClient,
  agents: readonly Agent[],
  kind: AgentKind,
  text: string
): Promise<Agent> {
  const fallback = invocation.text('namespace') ?? client.access.namespace
  const { name, namespace } = podName(text, fallback)
  const own = agents.find(agent => agent.pod === name)
  if (own !== undefined) return own
  const pod = await client.find(pods, { namespace, name }, limit(invocation))
  if (pod === undefined) throw new CommandFailure(`no pod ${name} in namespace ${namespace}`)
  const node = pod.spec?.nodeName
  const agent = agents.find(candidate => candidate.node === node)
  if (agent !== undefined) return agent
  throw new CommandFailure(
    node === undefined
      ? `pod ${namespace}/${name} is on no node yet`
      : `no ${kind} on node ${node}, where pod ${namespace}/${name} runs`
  )
}

/** Reads `name`, `name.namespace` and `namespace/name`, each also behind `pod/`. */
export function podName(text: string, fallback: string): { name: string; namespace: string } {
  const rest = text.replace(/^pods?\//, '')
  const [, namespace, name] = /^([^/.]+)\/([^/]+)$/.exec(rest) ?? []
  if (namespace !== undefined && name !== undefined) return { namespace, name }
  const match = /^([^/.]+)(?:\.([^/.]+))?$/.exec(rest)
  if (match === null)
    throw new UsageError(`${JSON.stringify(text)} is not a pod: write NAME or NAME.NAMESPACE`)
  return { name: match[1] ?? '', namespace: match[2] ?? fallback }
}

function agentOf(kind: AgentKind, pod: Pod, invocation: Invocation): Agent {
  const override = kind === 'ztunnel' ? invocation.text('proxy-admin-port') : undefined
  return {
    kind,
    namespace: pod.metadata.namespace ?? '',
    pod: pod.metadata.name,
    node: pod.spec?.nodeName ?? '',
    port: override === undefined ? kinds[kind].port : Number(override),
    down: downOf(pod)
  }
}

function downOf({ metadata, status }: Pod): string | undefined {
  if (metadata.deletionTimestamp !== undefined) return 'its pod is being deleted'
  return status?.phase === 'Running' ? undefined : `its pod is ${status?.phase ?? 'not scheduled'}`
}

/** Asks each agent, at most 16 at once; answers come in the order of the agents. */
export async function askAll<T>(
  invocation: Invocation,
  agents: readonly Agent[],
  ask: (agent: Agent) => Promise<T>
): Promise<Reached<T>[]> {
  const answers: Reached<T>[] = []
  const queue = agents.entries()
  const worker = async (): Promise<void> => {
    for (const [index, agent] of queue) answers[index] = await reach(agent, ask)
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, agents.length) }, worker))
  invocation.io.signal.throwIfAborted()
  return answers
}

async function reach<T>(agent: Agent, ask: (agent: Agent) => Promise<T>): Promise<Reached<T>> {
  if (agent.down !== undefined) return { agent, ok: false, problem: agent.down }
  try {
    return { agent, ok: true, value: await ask(agent) }
  } catch (error) {
    // a missing permission is the user's to mend, and the same for every agent
    if (error instanceof KubeError && (error.status === 403 || error.status === 401)) throw error
    return {
      agent,
      ok: false,
      problem: isTimeout(error) ? 'no answer in time (see --timeout)' : messageOf(error)
    }
  }
}

/** The values that came; those who did not answer are named on stderr. */
export function answered<T>(
  invocation: Invocation,
  answers: readonly Reached<T>[]
): { readonly values: { readonly agent: Agent; readonly value: T }[]; readonly code: ExitCode } {
  const values: { readonly agent: Agent; readonly value: T }[] = []
  const missing: string[] = []
  for (const answer of answers) {
    if (answer.ok) values.push({ agent: answer.agent, value: answer.value })
    else
      missing.push(
        `${answer.agent.node || answer.agent.pod}: ${answer.agent.kind} ${answer.agent.pod} did not answer: ${answer.problem}`
      )
  }
  if (values.length === 0 && missing.length > 0) throw new CommandFailure(missing.join('\n'))
  for (const line of missing) invocation.io.err(`warning: ${line}\n`)
  return { values, code: missing.length > 0 ? 3 : 0 }
}

/** One request to an agent; the answer as text. Throws on any status but 2xx. */
export async function askText(invocation: Invocation, agent: Agent, request: AgentRequest): Promise<string> {
  const response = await open(invocation, agent, request, limit(invocation))
  const text = await readBody(response, maxAnswerBytes)
  const status = response.statusCode ?? 0
  if (status >= 200 && status < 300) return text
  throw new AgentError(status, text.trim().split('\n')[0] ?? '')
}

export async function askJson<T>(invocation: Invocation, agent: Agent, request: AgentRequest): Promise<T> {
  const text = await askText(invocation, agent, request)
  try {
    return JSON.parse(text) as T
  } catch (error) {
    throw new Error(`${request.path} is not JSON: ${messageOf(error)}`, { cause: error })
  }
}

/** An answer that goes on until the signal aborts; only its beginning has the time limit of a request. */
export async function stream(
  invocation: Invocation,
  agent: Agent,
  request: AgentRequest,
  signal: AbortSignal
): Promise<IncomingMessage> {
  const late = new AbortController()
  const timer = setTimeout(
    () => late.abort(new DOMException('no answer in time (see --timeout)', 'TimeoutError')),
    invocation.timeoutMs
  )
  const response = await open(invocation, agent, request, AbortSignal.any([signal, late.signal])).finally(
    () => clearTimeout(timer)
  )
  if (response.statusCode === 200) return response
  throw new AgentError(response.statusCode ?? 0, (await readBody(response, 1 << 20)).trim())
}

/** An agent that answered, but not with what was asked for. */
export class AgentError extends Error {
  readonly status: number

  constructor(status: number, text: string) {
    super(
      status === 404
        ? 'it does not know this request (another version, or not Underpass)'
        : `it answered ${status}: ${text}`
    )
    this.name = 'AgentError'
    this.status = status
  }
}

async function open(
  invocation: Invocation,
  agent: Agent,
  request: AgentRequest,
  signal: AbortSignal
): Promise<IncomingMessage> {
  const client = await invocation.client()
  const { namespace, pod, port } = agent
  const connection = await portForward(client, { namespace, pod, port }, signal)
  const { method = 'GET', path, body } = request
  const content = body === undefined ? {} : { body: JSON.stringify(body) }
  return requestThrough(connection, { method, path, ...content }, signal)
}

/** The user's interrupt, or the time limit of one request. */
export function limit({ io, timeoutMs }: Invocation): AbortSignal {
  return AbortSignal.any([io.signal, AbortSignal.timeout(timeoutMs)])
}
