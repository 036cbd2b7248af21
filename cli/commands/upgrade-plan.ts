/** What an upgrade would change, and which long connections it would cut: `underpass upgrade --plan`. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import { UsageError, type ExitCode, type Invocation, type OptionSpec } from '../command.ts'
import { compareDefinitions } from '../install/definitions.ts'
import type { Installation } from '../install/record.ts'
import { skewOf } from '../install/versions.ts'
import { printOne } from '../output.ts'
import { answered, askAll, askJson, findAgents, limit, type Agent } from '../reach.ts'
import { formatTable } from '../table.ts'
import { clientVersion } from './version.ts'

export const planOptions: readonly OptionSpec[] = [
  { flags: '--plan', help: 'say what would change and which long connections would be cut; change nothing' },
  {
    flags: '--older-than <duration>',
    help: 'with --plan: which connections are long. A ztunnel that is replaced gives them 25s to end',
    fallback: '30s'
  },
  {
    flags: '-o, --output <format>',
    help: 'with --plan: how to print',
    choices: ['table', 'json', 'yaml'],
    fallback: 'table'
  }
]

/** A connection of a pod, as the ztunnel at one of its ends knows it. */
export interface LongConnection {
  readonly node: string
  /** `namespace/name`. */
  readonly pod: string
  readonly direction: 'inbound' | 'outbound'
  readonly source: string
  readonly destination: string
  readonly protocol: string
  readonly ageSeconds: number
  /** Both ways. */
  readonly bytes: number
}

interface PlannedNode {
  readonly node: string
  readonly ztunnel: string
  readonly version: string
  readonly connections: number
  /** Those among them that are long. */
  readonly long: number
}

interface UpgradePlan {
  readonly from: string
  readonly to: string
  /** Why this step is refused; null when it is not. */
  readonly refused: string | null
  readonly definitions: {
    readonly created: readonly string[]
    /** Of the cluster, and left as they are. */
    readonly older: readonly { readonly name: string; readonly lacks: string }[]
  }
  readonly olderThanSeconds: number
  readonly nodes: readonly PlannedNode[]
  /** The oldest first. */
  readonly cut: readonly LongConnection[]
}

/** `GET /v1/connections` of a ztunnel. */
interface PodConnections {
  readonly uid: string
  readonly connections: readonly {
    readonly direction: 'inbound' | 'outbound'
    readonly src: string
    readonly originalDst: string | null
    readonly actualDst: string
    readonly protocol: string
    readonly bytesFromClient: number
    readonly bytesToClient: number
    readonly ageMs: number
  }[]
}

/** `GET /v1/pods` of a ztunnel. */
interface ProxiedPod {
  readonly uid: string
  readonly info: { readonly namespace: string; readonly name: string }
}

interface Told {
  readonly version: string
  readonly pods: readonly PodConnections[]
  readonly names: ReadonlyMap<string, string>
}

/** Exit code 2: the step is refused. */
export async function printPlan(
  invocation: Invocation,
  client: KubeClient,
  installed: Installation
): Promise<ExitCode> {
  const olderThanMs = longAge(invocation)
  const agents = await findAgents(invocation, 'ztunnel')
  const [compared, answers] = await Promise.all([
    compareDefinitions(client, limit(invocation)),
    askAll(invocation, agents, agent => ask(invocation, agent))
  ])
  const { values, code } = answered(invocation, answers)
  const to = clientVersion()
  const skew = skewOf(installed.version, to)
  const cut = values
    .flatMap(({ agent, value }) => longConnections(agent.node, value, olderThanMs))
    .toSorted((a, b) => b.ageSeconds - a.ageSeconds)
  const plan: UpgradePlan = {
    from: installed.version,
    to,
    refused: skew.kind === 'too far' ? skew.why : null,
    definitions: {
      created: compared.flatMap(({ definition, state }) =>
        state.kind === 'absent' ? [definition.metadata.name] : []
      ),
      older: compared.flatMap(({ definition, state }) =>
        state.kind === 'older' ? [{ name: definition.metadata.name, lacks: state.lacks }] : []
      )
    },
    olderThanSeconds: olderThanMs / 1000,
    nodes: values.map(({ agent, value }) => ({
      node: agent.node,
      ztunnel: agent.pod,
      version: value.version,
      connections: value.pods.reduce((sum, { connections }) => sum + connections.length, 0),
      long: cut.filter(({ node }) => node === agent.node).length
    })),
    cut
  }
  await printOne(invocation, 'UpgradePlan', plan, () => planText(plan))
  return skew.kind === 'too far' ? 2 : code
}

function longAge(invocation: Invocation): number {
  const text = invocation.text('older-than') ?? '30s'
  const ms = parseDuration(text)
  if (ms !== undefined) return ms
  throw new UsageError(`--older-than ${JSON.stringify(text)}: expected a duration such as 30s or 5m`)
}

async function ask(invocation: Invocation, agent: Agent): Promise<Told> {
  const [version, pods, named] = await Promise.all([
    askJson<{ readonly version?: string }>(invocation, agent, { path: '/v1/version' }),
    askJson<readonly PodConnections[]>(invocation, agent, { path: '/v1/connections' }),
    askJson<readonly ProxiedPod[]>(invocation, agent, { path: '/v1/pods' })
  ])
  const names = new Map(named.map(({ uid, info }) => [uid, `${info.namespace}/${info.name}`]))
  return { version: version.version ?? 'unknown', pods, names }
}

function longConnections(node: string, { pods, names }: Told, olderThanMs: number): LongConnection[] {
  return pods.flatMap(({ uid, connections }) =>
    connections
      .filter(({ ageMs }) => ageMs >= olderThanMs)
      .map(connection => ({
        node,
        pod: names.get(uid) ?? uid,
        direction: connection.direction,
        source: connection.src,
        destination: connection.originalDst ?? connection.actualDst,
        protocol: connection.protocol,
        ageSeconds: Math.floor(connection.ageMs / 1000),
        bytes: connection.bytesFromClient + connection.bytesToClient
      }))
  )
}

function planText({ from, to, refused, definitions, olderThanSeconds, nodes, cut }: UpgradePlan): string {
  const { created, older } = definitions
  const shape = { headings: true, wide: false }
  const parts = [
    `${from} -> ${to}${refused === null ? '' : `\nrefused: ${refused}`}\n`,
    `definitions: ${created.length} would be created, ${older.length} are older than ours and would stay\n`,
    ...created.map(name => `  + ${name}\n`),
    ...older.map(({ name, lacks }) => `  ! ${name} ${lacks}\n`),
    '\n',
    formatTable<PlannedNode>(
      [
        { heading: 'NODE', cell: ({ node }) => node },
        { heading: 'ZTUNNEL', cell: ({ ztunnel }) => ztunnel },
        { heading: 'VERSION', cell: ({ version }) => version },
        { heading: 'CONNECTIONS', cell: ({ connections }) => String(connections) },
        { heading: 'LONG', cell: ({ long }) => String(long) }
      ],
      nodes,
      shape
    ),
    '\n'
  ]
  if (cut.length === 0)
    return [...parts, `no connection is older than ${ageText(olderThanSeconds)}\n`].join('')
  return [
    ...parts,
    `older than ${ageText(olderThanSeconds)}, and cut unless they end by themselves:\n\n`,
    formatTable<LongConnection>(
      [
        { heading: 'NODE', cell: ({ node }) => node },
        { heading: 'POD', cell: ({ pod }) => pod },
        { heading: 'DIRECTION', cell: ({ direction }) => direction },
        { heading: 'SOURCE', cell: ({ source }) => source },
        { heading: 'DESTINATION', cell: ({ destination }) => destination },
        { heading: 'PROTOCOL', cell: ({ protocol }) => protocol },
        { heading: 'AGE', cell: ({ ageSeconds }) => ageText(ageSeconds) },
        { heading: 'BYTES', cell: ({ bytes }) => String(bytes) }
      ],
      cut,
      shape
    )
  ].join('')
}

/** `45s`, `12m`, `7h`, `3d`. */
function ageText(seconds: number): string {
  if (seconds < 120) return `${seconds}s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`
}
