/** `underpass status`: the mesh on one screen. */
import { KubeError } from '../../shared/kube/errors.ts'
import { nodes, type Node as KubeNode, type Pod, pods } from '../../shared/kube/core-api.ts'
import { gateways } from '../../shared/kube/gateway-api.ts'
import type { XdsState } from '../agent-answers.ts'
import { CommandFailure, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { certificateRows } from '../config/listings.ts'
import { askAgents, readMeshPods, validityText, type AgentAnswers, type MeshPod } from '../mesh-pods.ts'
import { clusterOptions, meshOptions, outputOptions, watchOption } from '../options.ts'
import { printOne } from '../output.ts'
import { askAll, askJson, findAgents, istioNamespace, limit } from '../reach.ts'
import { isUnprotected } from './pods.ts'

export const command: LeafCommand = {
  name: 'status',
  summary: 'the mesh on one screen: programs, nodes, pods, certificates',
  description: `What runs and what does not: control plane, agents by node, pods in and out of the mesh, certificates and
waypoints, and at the end every problem with what to do about it. Exits with 2 when there are problems, with 3 when an
agent did not answer.`,
  options: [
    ...outputOptions.map(option => (option.choices === undefined ? { ...option, hidden: true } : option)),
    watchOption,
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [
    { what: 'How is the mesh?', command: 'status' },
    { what: 'Keep an eye on it', command: 'status --watch 5s' }
  ],
  run
}

/** One program of the mesh: how many pods of it are ready, and how many there should be. */
interface Component {
  readonly name: string
  readonly ready: number
  readonly wanted: number
  readonly problems: readonly string[]
}

interface Status {
  readonly context: string
  readonly components: readonly Component[]
  readonly nodes: number
  readonly pods: Readonly<Record<string, number>>
  readonly certificates: { readonly valid: number; readonly failing: number; readonly nextExpiry: string }
  readonly workloads: number
  readonly services: number
  readonly policies: number
  readonly connections: number
  /** Of the agents that told: how many have all that the control plane sent. */
  readonly agents: { readonly inSync: number; readonly asked: number }
  readonly waypoints: { readonly programmed: number; readonly wanted: number }
  readonly problems: readonly string[]
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const client = await invocation.client()
  const [components, nodeList, answers, waypoints, agents] = await Promise.all([
    readComponents(invocation),
    client.list(nodes, { signal: limit(invocation) }),
    askAgents(invocation),
    readWaypoints(invocation),
    readAgentStates(invocation)
  ])
  const meshPods = await readMeshPods(invocation, undefined, answers)
  const certificates = certificatesOf(answers, invocation.io.now())
  const [first] = answers.dumps
  const status: Status = {
    context: client.access.context,
    components,
    nodes: nodeList.items.length,
    pods: Object.fromEntries(
      Object.entries(Object.groupBy(meshPods, ({ enrolment }) => enrolment.state)).map(([state, list]) => [
        state,
        list.length
      ])
    ),
    certificates,
    workloads: first?.dump.workloads.length ?? 0,
    services: first?.dump.services.length ?? 0,
    policies: first?.dump.policies.length ?? 0,
    connections: meshPods.reduce((sum, { connections }) => sum + (connections ?? 0), 0),
    waypoints,
    agents: { inSync: agents.inSync, asked: agents.asked },
    problems: [
      ...components.flatMap(component => component.problems),
      ...nodesWithoutAgent(nodeList.items, meshPods, answers),
      ...agents.problems,
      ...meshPods.filter(isUnprotected).map(podProblem),
      ...certificates.problems
    ]
  }
  await printOne(invocation, 'Status', status, () => statusText(status, invocation))
  return answers.code === 0 && status.problems.length > 0 ? 2 : answers.code
}

async function readComponents(invocation: Invocation): Promise<Component[]> {
  const client = await invocation.client()
  const namespace = istioNamespace(invocation)
  const list = await client.list(pods, { namespace, signal: limit(invocation) })
  const having = (label: string, value: string): Pod[] =>
    list.items.filter(({ metadata }) => metadata.labels?.[label] === value)
  return [
    componentOf('control plane', having('app', 'istiod')),
    componentOf('node agent', having('k8s-app', 'istio-cni-node')),
    componentOf('ztunnel', having('app', 'ztunnel'))
  ]
}

function componentOf(name: string, found: readonly Pod[]): Component {
  const unready = found.filter(pod => !isReady(pod))
  const problems = unready.map(
    pod =>
      `${name} ${pod.metadata.name} on ${pod.spec?.nodeName ?? 'no node'} is not ready (${reasonOf(pod)}); see kubectl logs -n ${pod.metadata.namespace} ${pod.metadata.name}`
  )
  return {
    name,
    ready: found.length - unready.length,
    wanted: found.length,
    problems:
      found.length === 0
        ? [`no ${name} is installed; install it, or name the mesh's namespace with --istio-namespace`]
        : problems
  }
}

function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false
}

function reasonOf(pod: Pod): string {
  const waiting = pod.status?.containerStatuses?.map(({ state }) => state?.['waiting']?.reason).find(Boolean)
  return waiting ?? pod.status?.phase ?? 'not scheduled'
}

/** Agents that do not tell (another project's) and those that do not answer, which others report, are left out. */
async function readAgentStates(
  invocation: Invocation
): Promise<{ readonly inSync: number; readonly asked: number; readonly problems: readonly string[] }> {
  const agents = await findAgents(invocation, 'ztunnel').catch((error: unknown) => {
    if (error instanceof CommandFailure) return []
    throw error
  })
  const answers = await askAll(invocation, agents, agent =>
    askJson<XdsState>(invocation, agent, { path: '/v1/xds' })
  )
  const told = answers.filter(answer => answer.ok)
  const problems = told.flatMap(({ agent, value }) => {
    const problem = syncProblem(value)
    return problem === undefined ? [] : [`agent on ${agent.node} ${problem}`]
  })
  return { inSync: told.length - problems.length, asked: told.length, problems }
}

function syncProblem({ connected, lastError, types = [] }: XdsState): string | undefined {
  if (connected === false)
    return `is not connected to the control plane (${lastError ?? 'no reason given'}); it goes by what it holds until that answers`
  const waiting = types
    .filter(({ synced }) => synced === false)
    .map(({ typeUrl }) => typeUrl.split('.').at(-1))
  if (waiting.length > 0)
    return `still waits for ${waiting.join(', ')}; if it stays so, see underpass proxy-status`
  const refused = types.find(({ lastRejection }) => lastRejection !== undefined)
  return refused === undefined
    ? undefined
    : `refused configuration: ${refused.lastRejection}; mend that object, all others are in force`
}

async function readWaypoints(invocation: Invocation): Promise<Status['waypoints']> {
  const client = await invocation.client()
  try {
    const { items } = await client.list(gateways, { signal: limit(invocation) })
    const waypoints = items.filter(({ spec }) => spec?.gatewayClassName?.endsWith('waypoint') === true)
    const programmed = waypoints.filter(({ status }) =>
      status?.conditions?.some(({ type, status: value }) => type === 'Programmed' && value === 'True')
    )
    return { programmed: programmed.length, wanted: waypoints.length }
  } catch (error) {
    // a cluster without the Gateway API has no waypoints; a user who may not read them sees none
    if (error instanceof KubeError && (error.status === 404 || error.status === 403))
      return { programmed: 0, wanted: 0 }
    throw error
  }
}

function certificatesOf(
  answers: AgentAnswers,
  now: number
): Status['certificates'] & { readonly problems: readonly string[] } {
  const leaves = answers.dumps
    .flatMap(dump => certificateRows(dump, now))
    .filter(({ type }) => type === 'Leaf' || type === 'NA')
  const valid = leaves.filter(row => row.valid)
  const failing = leaves.filter(row => !row.valid && row.status !== 'Initializing')
  const next = valid
    .map(({ certificate }) => Date.parse(certificate?.expirationTime ?? '') - now)
    .toSorted((a, b) => a - b)[0]
  return {
    valid: valid.length,
    failing: failing.length,
    nextExpiry: next === undefined ? '-' : validityText(next),
    problems: failing.map(
      ({ identity, node, reason }) =>
        `certificate of ${identity} on ${node}: ${reason || 'expired'}; see underpass log --of control-plane --level debug`
    )
  }
}

/** Nodes that carry pods of the mesh without a ztunnel that answers. */
function nodesWithoutAgent(
  all: readonly KubeNode[],
  meshPods: readonly MeshPod[],
  { dumps }: AgentAnswers
): readonly string[] {
  const needed = new Set(
    meshPods.filter(({ enrolment }) => enrolment.wantedBy !== '').map(({ node }) => node)
  )
  return all
    .map(({ metadata }) => metadata.name)
    .filter(node => needed.has(node) && !dumps.some(dump => dump.node === node))
    .map(
      node =>
        `node ${node} has pods of the mesh, but its ztunnel does not answer: they are cut off until it runs again`
    )
}

function podProblem({ namespace, name, node, problem }: MeshPod): string {
  return `pod ${namespace}/${name} on ${node}: ${problem || 'not captured completely'}; see the log of the node agent on ${node}`
}

function statusText(status: Status, { paint }: Invocation): string {
  const line = (name: string, text: string): string => `${name.padEnd(16)}${text}\n`
  const share = (good: number, all: number): string =>
    paint(good === all && all > 0 ? 'green' : 'yellow', `${good}/${all} ready`)
  const states = Object.entries(status.pods)
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([state, count]) => `${count} ${state}`)
    .join(', ')
  const { valid, failing, nextExpiry } = status.certificates
  const lines = [
    line('context', status.context),
    ...status.components.map(({ name, ready, wanted }) => line(name, share(ready, wanted))),
    line('nodes', String(status.nodes)),
    line('pods', states || 'none'),
    line('connections', `${status.connections} open`),
    line('certificates', `${valid} valid, ${failing} failing, next expiry in ${nextExpiry}`),
    line(
      'configuration',
      `${status.workloads} workloads, ${status.services} services, ${status.policies} policies; ${status.agents.inSync}/${status.agents.asked} agents in sync`
    ),
    line('waypoints', `${status.waypoints.programmed}/${status.waypoints.wanted} programmed`)
  ]
  const problems =
    status.problems.length === 0
      ? `\n${paint('green', 'No problems found.')}\n`
      : `\n${paint('red', `${status.problems.length} problems:`)}\n${status.problems.map(text => `  ${text}\n`).join('')}`
  return lines.join('') + problems
}
