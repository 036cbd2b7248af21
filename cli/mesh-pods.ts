/** Pods of the cluster joined with what the agents on their nodes say of them. */
import { namespaces, pods, type Namespace, type Pod } from '../shared/kube/core-api.ts'
import type { ResourceType, KubeObject } from '../shared/kube/object.ts'
import type { NodePod, NodePods } from './agent-answers.ts'
import { CommandFailure, type ExitCode, type Invocation } from './command.ts'
import { certificateRows, type CertificateRow } from './config/listings.ts'
import { readConfigDump, type DumpWorkloadState } from './config/dump.ts'
import type { AgentDump } from './config/sources.ts'
import { enrolmentOf, type Enrolment } from './enrolment.ts'
import { askAll, askJson, askText, findAgents, limit, type Agent, type AgentKind } from './reach.ts'

export interface MeshPod {
  readonly namespace: string
  readonly name: string
  readonly node: string
  readonly enrolment: Enrolment
  /** Capture rules: `ok`, `missing`, `absent` when the node agent does not know the pod, `?` when it was not asked. */
  readonly rules: string
  /** Listeners of the ztunnel: `ok`, `pending`, `absent` or `?`. */
  readonly proxy: string
  /** Validity left in milliseconds, `none`, or a reason why there is no certificate. */
  readonly certificate: number | string | undefined
  readonly connections: number | undefined
  readonly problem: string
}

export interface AgentAnswers {
  readonly code: ExitCode
  readonly dumps: readonly AgentDump[]
  readonly nodePods: ReadonlyMap<string, NodePods>
}

/** Asks all ztunnels and node agents; who does not answer is named on stderr. */
export async function askAgents(invocation: Invocation): Promise<AgentAnswers> {
  const [ztunnels, nodes] = await Promise.all([
    collect(invocation, 'ztunnel', async agent => ({
      node: agent.node,
      pod: agent.pod,
      dump: readConfigDump(await askText(invocation, agent, { path: '/config_dump' }), agent.pod)
    })),
    collect(invocation, 'node agent', agent => askJson<NodePods>(invocation, agent, { path: '/v1/pods' }))
  ])
  return {
    code: ztunnels.missing + nodes.missing > 0 ? 3 : 0,
    dumps: ztunnels.found.map(({ value }) => value),
    nodePods: new Map(nodes.found.map(({ agent, value }) => [agent.node, value]))
  }
}

async function collect<T>(
  invocation: Invocation,
  kind: AgentKind,
  ask: (agent: Agent) => Promise<T>
): Promise<{ readonly found: { readonly agent: Agent; readonly value: T }[]; readonly missing: number }> {
  let agents: readonly Agent[]
  try {
    agents = await findAgents(invocation, kind)
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error
    invocation.io.err(`warning: ${error.message}\n`)
    return { found: [], missing: 1 }
  }
  const found: { readonly agent: Agent; readonly value: T }[] = []
  let missing = 0
  for (const answer of await askAll(invocation, agents, ask)) {
    if (answer.ok) {
      found.push(answer)
      continue
    }
    missing += 1
    invocation.io.err(
      `warning: ${answer.agent.node}: ${kind} ${answer.agent.pod} did not answer: ${answer.problem}\n`
    )
  }
  return { found, missing }
}

/** Pods of one namespace, or of all; those that have ended are left out. */
export async function readMeshPods(
  invocation: Invocation,
  namespace: string | undefined,
  answers: AgentAnswers
): Promise<MeshPod[]> {
  const [podList, namespaceList] = await Promise.all([
    listAll(invocation, pods, namespace),
    namespace === undefined ? listAll(invocation, namespaces, undefined) : oneNamespace(invocation, namespace)
  ])
  const spaces = new Map(namespaceList.map(space => [space.metadata.name, space]))
  const now = invocation.io.now()
  const dumps = new Map(answers.dumps.map(dump => [dump.node, dump]))
  const certificates = new Map(answers.dumps.map(dump => [dump.node, leaves(dump, now)]))
  return podList
    .filter(pod => pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed')
    .map(pod => {
      const node = pod.spec?.nodeName ?? ''
      const space = pod.metadata.namespace ?? ''
      const enrolment = enrolmentOf(pod, spaces.get(space))
      const known = answers.nodePods.get(node)?.pods.find(({ uid }) => uid === pod.metadata.uid)
      const state = dumps.get(node)?.dump.workloadState[pod.metadata.uid ?? '']
      return {
        namespace: space,
        name: pod.metadata.name,
        node,
        enrolment,
        rules: rulesText(answers.nodePods.has(node), known),
        proxy: proxyText(dumps.has(node), state),
        certificate: certificateOf(pod, certificates.get(node), now),
        connections: connectionCount(state),
        problem: problemOf(enrolment, known)
      }
    })
    .toSorted((a, b) => a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name))
}

function leaves(dump: AgentDump, now: number): ReadonlyMap<string, CertificateRow> {
  const rows = certificateRows(dump, now).filter(({ type }) => type === 'Leaf' || type === 'NA')
  return new Map(rows.map(row => [row.identity, row]))
}

/** Who may see one namespace only shall see it. */
async function oneNamespace(invocation: Invocation, name: string): Promise<readonly Namespace[]> {
  const client = await invocation.client()
  const found = await client.find(namespaces, { name }, limit(invocation))
  return found === undefined ? [] : [found]
}

async function listAll<T extends KubeObject>(
  invocation: Invocation,
  type: ResourceType<T>,
  namespace: string | undefined
): Promise<readonly T[]> {
  const client = await invocation.client()
  const items: T[] = []
  let page = ''
  do {
    const list = await client.list(type, { namespace, limit: 500, continue: page, signal: limit(invocation) })
    items.push(...list.items)
    page = list.continue
  } while (page !== '')
  return items
}

function rulesText(asked: boolean, known: NodePod | undefined): string {
  if (!asked) return '?'
  if (known === undefined) return 'absent'
  return known.rulesWritten === false ? 'missing' : 'ok'
}

function proxyText(asked: boolean, state: DumpWorkloadState | undefined): string {
  if (!asked) return '?'
  if (state === undefined) return 'absent'
  return (state.state ?? 'Up') === 'Up' ? 'ok' : 'pending'
}

function certificateOf(
  pod: Pod,
  rows: ReadonlyMap<string, CertificateRow> | undefined,
  now: number
): MeshPod['certificate'] {
  const suffix = `/ns/${pod.metadata.namespace ?? ''}/sa/${pod.spec?.serviceAccountName ?? 'default'}`
  for (const [identity, row] of rows ?? []) {
    if (!identity.endsWith(suffix)) continue
    if (row.certificate === undefined) return row.reason === '' ? row.status.toLowerCase() : row.reason
    const expires = Date.parse(row.certificate.expirationTime ?? '')
    return Number.isNaN(expires) ? 'unreadable' : expires - now
  }
  return undefined
}

function connectionCount(state: DumpWorkloadState | undefined): number | undefined {
  if (state === undefined) return undefined
  return (state.connections?.inbound?.length ?? 0) + (state.connections?.outbound?.length ?? 0)
}

function problemOf({ state }: Enrolment, known: NodePod | undefined): string {
  if (known?.problem) return known.problem
  if (state === 'unprotected') return 'wanted in the mesh, but not captured'
  if (state === 'pending') return 'captured, but its proxy has not confirmed: its traffic fails'
  return state === 'leftover' ? 'captured, though nothing asks for it' : ''
}

/** `23h`, `41m`, `expired`. */
export function validityText(certificate: MeshPod['certificate']): string {
  if (certificate === undefined) return '-'
  if (typeof certificate === 'string') return certificate
  if (certificate <= 0) return 'expired'
  const minutes = certificate / 60_000
  if (minutes < 60) return `${Math.floor(minutes)}m`
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)}h` : `${Math.floor(minutes / 1440)}d`
}
