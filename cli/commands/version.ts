/** `underpass version`: of this program, and of what runs in the cluster. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { messageOf } from '../../shared/runtime/errors.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import type { ExitCode, Invocation, LeafCommand } from '../command.ts'
import { readConfigDump } from '../config/dump.ts'
import { clusterOptions, meshOptions, outputOptions } from '../options.ts'
import { printOne } from '../output.ts'
import { askAll, askText, findAgents, type Agent, type AgentKind } from '../reach.ts'
import { formatTable } from '../table.ts'

export const command: LeafCommand = {
  name: 'version',
  summary: 'versions of this program, the control plane and the agents',
  options: [
    { flags: '--client', help: 'only the version of this program; asks no cluster' },
    ...outputOptions,
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [
    { what: 'Of everything', command: 'version' },
    { what: 'Only of this program', command: 'version --client' }
  ],
  run
}

interface Running {
  readonly component: string
  readonly node: string
  readonly pod: string
  readonly version: string
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const client = clientVersion()
  if (invocation.flag('client')) {
    await printOne(invocation, 'Version', { client }, () => `${client}\n`)
    return 0
  }
  const problems: string[] = []
  const running = [
    ...(await versionsOf(invocation, 'control plane', controlPlaneVersion, problems)),
    ...(await versionsOf(invocation, 'ztunnel', ztunnelVersion, problems))
  ]
  await printOne(invocation, 'Version', { client, running }, () => {
    const columns = [
      { heading: 'COMPONENT', cell: (row: Running) => row.component },
      { heading: 'NODE', cell: (row: Running) => row.node },
      { heading: 'POD', cell: (row: Running) => row.pod },
      { heading: 'VERSION', cell: (row: Running) => row.version }
    ]
    const table = formatTable(columns, running, { headings: invocation.flag('headers'), wide: false })
    return `client version: ${client}\n${running.length === 0 ? '' : table}`
  })
  for (const problem of new Set(problems)) invocation.io.err(`warning: ${problem}\n`)
  return problems.length > 0 ? 3 : 0
}

export function clientVersion(): string {
  const file = path.resolve(import.meta.dirname, '../../package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

async function versionsOf(
  invocation: Invocation,
  kind: AgentKind,
  ask: (invocation: Invocation, agent: Agent) => Promise<string>,
  problems: string[]
): Promise<Running[]> {
  let agents: Agent[]
  try {
    agents = await findAgents(invocation, kind)
  } catch (error) {
    if (error instanceof KubeError) throw error
    problems.push(messageOf(error))
    return []
  }
  const answers = await askAll(invocation, agents, agent => ask(invocation, agent))
  return answers.flatMap(answer => {
    const { node, pod } = answer.agent
    if (answer.ok) return [{ component: kind, node, pod, version: answer.value }]
    problems.push(`${node}: ${kind} ${pod} did not answer: ${answer.problem}`)
    return []
  })
}

/** `GET /version`: a JSON object of ours, or istiod's text, which starts with the version. */
async function controlPlaneVersion(invocation: Invocation, agent: Agent): Promise<string> {
  const text = (await askText(invocation, agent, { path: '/version' })).trim()
  if (!text.startsWith('{')) return text.split('\n')[0] ?? ''
  const { version, revision } = JSON.parse(text) as { readonly version?: string; readonly revision?: string }
  return [version ?? 'unknown', ...(revision === undefined ? [] : [`(revision ${revision})`])].join(' ')
}

async function ztunnelVersion(invocation: Invocation, agent: Agent): Promise<string> {
  const { version } = readConfigDump(await askText(invocation, agent, { path: '/config_dump' }), agent.pod)
  return version['version'] ?? version['istioVersion'] ?? 'unknown'
}
