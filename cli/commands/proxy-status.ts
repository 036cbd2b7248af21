/** `underpass proxy-status`: whether the agents have taken what the control plane sent. */
import type { XdsState, XdsType } from '../agent-answers.ts'
import type { ExitCode, Invocation, LeafCommand } from '../command.ts'
import { agentOptions, clusterOptions, meshOptions, outputOptions, watchOption } from '../options.ts'
import { printListing } from '../output.ts'
import { answered, askAll, askJson, findAgents } from '../reach.ts'

export const command: LeafCommand = {
  name: 'proxy-status',
  aliases: ['ps'],
  summary: 'whether the agents have what the control plane sent',
  description: `One line an agent and type of configuration: the version that it acknowledged, how long ago, how many resources it
holds, and the last one that it refused, with the reason.`,
  options: [...agentOptions, ...outputOptions, watchOption, ...meshOptions, ...clusterOptions],
  examples: [
    { what: 'All agents', command: 'proxy-status' },
    { what: 'Follow one agent', command: 'ps --node node-1 --watch' }
  ],
  run
}

interface Row extends XdsType {
  readonly name: string
  readonly node: string
  readonly state: string
  readonly server: string
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const agents = await findAgents(invocation, 'ztunnel')
  const answers = await askAll(invocation, agents, agent =>
    askJson<XdsState>(invocation, agent, { path: '/v1/xds' })
  )
  const { values, code } = answered(invocation, answers)
  await printListing<Row>(invocation, {
    kind: 'ProxyStatus',
    columns: [
      { heading: 'NAME', cell: ({ name }) => name },
      { heading: 'NODE', cell: ({ node }) => node },
      { heading: 'STATE', cell: ({ state }) => state },
      { heading: 'TYPE', cell: ({ typeUrl }) => shortType(typeUrl) },
      { heading: 'RESOURCES', cell: ({ resources }) => String(resources ?? '-') },
      { heading: 'VERSION', cell: ({ version }) => version || '-' },
      { heading: 'ACKED', cell: ({ lastAckMs }) => ageText(lastAckMs) },
      {
        heading: 'LAST NACK',
        cell: ({ lastNack, lastNackMs }) => (lastNack ? `${ageText(lastNackMs)}: ${lastNack}` : '-')
      },
      { heading: 'CONTROL PLANE', cell: ({ server }) => server || '-', wide: true }
    ],
    rows: values.flatMap(({ agent, value }) =>
      (value.types ?? [{ typeUrl: '' }]).map(type => ({
        name: agent.pod,
        node: agent.node,
        state: value.state ?? 'unknown',
        server: value.address ?? '',
        ...type
      }))
    ),
    name: ({ name }) => `pod/${name}`,
    nothing: 'no agent has asked for configuration yet'
  })
  return code
}

/** The last word of a type URL: `Address`, `Authorization`. */
function shortType(typeUrl: string): string {
  return typeUrl.slice(Math.max(typeUrl.lastIndexOf('.'), typeUrl.lastIndexOf('/')) + 1)
}

/** Milliseconds since, as `3s`, `12m`, `5h`. */
function ageText(ms: number | undefined): string {
  if (ms === undefined) return '-'
  if (ms < 60_000) return `${Math.floor(ms / 1000)}s ago`
  return ms < 3_600_000 ? `${Math.floor(ms / 60_000)}m ago` : `${Math.floor(ms / 3_600_000)}h ago`
}
