/** `underpass proxy-status`: whether the agents have taken what the control plane sent. */
import type { SyncEntry, SyncType, XdsState, XdsType } from '../agent-answers.ts'
import type { ExitCode, Invocation, LeafCommand } from '../command.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import { agentOptions, clusterOptions, meshOptions, outputOptions, watchOption } from '../options.ts'
import { printListing } from '../output.ts'
import { AgentError, answered, askAll, askJson, findAgents, type Agent } from '../reach.ts'

export const command: LeafCommand = {
  name: 'proxy-status',
  aliases: ['ps'],
  summary: 'whether the agents have what the control plane sent',
  description: `One line an agent and type of configuration, from both ends: the control plane says what it sent and what was
acknowledged, the agent what it holds and what it refused last.

STATUS is "SYNCED", "STALE" (sent, not yet acknowledged), "ERROR" (the last one was refused), "WAITING" (nothing came yet),
"DISCONNECTED" or "OFF" (an agent that runs without a control plane).`,
  options: [...agentOptions, ...outputOptions, watchOption, ...meshOptions, ...clusterOptions],
  examples: [
    { what: 'All agents', command: 'proxy-status' },
    { what: 'Follow one agent', command: 'ps --node node-1 --watch' }
  ],
  run
}

interface Row {
  readonly name: string
  readonly node: string
  readonly type: string
  readonly status: string
  readonly resources: number | undefined
  readonly lastNack: string | undefined
  readonly sent: string
  readonly acked: string
  readonly controlPlane: string
}

/** What a control plane's pod says of the agents that are connected to it. */
interface Sync {
  readonly controlPlane: string
  readonly entries: readonly SyncEntry[]
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const agents = await findAgents(invocation, 'ztunnel')
  const [answers, sync] = await Promise.all([
    askAll(invocation, agents, agent => readState(invocation, agent)),
    readSync(invocation)
  ])
  const { values, code } = answered(invocation, answers)
  await printListing<Row>(invocation, {
    kind: 'ProxyStatus',
    columns: [
      { heading: 'NAME', cell: ({ name }) => name },
      { heading: 'NODE', cell: ({ node }) => node },
      { heading: 'TYPE', cell: ({ type }) => type },
      { heading: 'STATUS', cell: ({ status }) => status },
      { heading: 'RESOURCES', cell: ({ resources }) => String(resources ?? '-') },
      { heading: 'LAST NACK', cell: ({ lastNack }) => lastNack ?? '-' },
      { heading: 'CONTROL PLANE', cell: ({ controlPlane }) => controlPlane || '-' },
      { heading: 'SENT', cell: ({ sent }) => sent, wide: true },
      { heading: 'ACKED', cell: ({ acked }) => acked, wide: true }
    ],
    rows: values.flatMap(({ agent, value }) => rowsOf(agent, value, sync)),
    name: ({ name, type }) => `pod/${name}/${type}`,
    nothing: 'no agents'
  })
  return code
}

/** Undefined for an agent that does not tell, such as another project's ztunnel. */
async function readState(invocation: Invocation, agent: Agent): Promise<XdsState | undefined> {
  try {
    return await askJson<XdsState>(invocation, agent, { path: '/v1/xds' })
  } catch (error) {
    if (error instanceof AgentError && error.status === 404) return undefined
    throw error
  }
}

async function readSync(invocation: Invocation): Promise<readonly Sync[]> {
  try {
    const found = await findAgents(invocation, 'control plane')
    const answers = await askAll(invocation, found, async agent => ({
      controlPlane: agent.pod,
      entries: await askJson<readonly SyncEntry[]>(invocation, agent, { path: '/debug/syncz' })
    }))
    return answered(invocation, answers).values.map(({ value }) => value)
  } catch (error) {
    if (error instanceof KubeError) throw error
    invocation.io.err(`warning: the control plane was not asked: ${messageOf(error)}\n`)
    return []
  }
}

function rowsOf(agent: Agent, state: XdsState | undefined, sync: readonly Sync[]): Row[] {
  // a proxy's id holds its pod: ztunnel~ip~pod.namespace~domain
  const known = sync
    .map(({ controlPlane, entries }) => ({
      controlPlane,
      types: entries.find(({ proxy }) => proxy.includes(`~${agent.pod}.`))?.types
    }))
    .find(({ types }) => types !== undefined)
  const typeUrls = [
    ...new Set([...(state?.types ?? []).map(({ typeUrl }) => typeUrl), ...Object.keys(known?.types ?? {})])
  ]
  const base = { name: agent.pod, node: agent.node, controlPlane: known?.controlPlane ?? '' }
  const rows = typeUrls.map((typeUrl): Row => {
    const held = state?.types?.find(type => type.typeUrl === typeUrl)
    const sent = known?.types?.[typeUrl]
    return {
      ...base,
      type: shortType(typeUrl),
      status: statusOf(state, held, sent),
      resources: held?.resources,
      lastNack: held?.lastRejection ?? sent?.error,
      sent: String(sent?.sent ?? '-'),
      acked: String(sent?.acked ?? '-')
    }
  })
  if (rows.length > 0) return rows
  const status = statusOf(state, undefined, undefined)
  return [
    { ...base, type: '-', status, resources: undefined, lastNack: state?.lastError, sent: '-', acked: '-' }
  ]
}

function statusOf(
  state: XdsState | undefined,
  held: XdsType | undefined,
  sent: SyncType | undefined
): string {
  if (state?.state === 'off') return 'OFF'
  if (state?.connected === false) return 'DISCONNECTED'
  if (sent !== undefined) return sent.status
  if (held?.lastRejection !== undefined) return 'ERROR'
  return held?.synced === true ? 'SYNCED' : 'WAITING'
}

/** The last word of a type URL: `Address`, `Authorization`. */
function shortType(typeUrl: string): string {
  return typeUrl.slice(Math.max(typeUrl.lastIndexOf('.'), typeUrl.lastIndexOf('/')) + 1)
}
