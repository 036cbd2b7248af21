/** `underpass log`: levels of all agents at once. */
import type { ExitCode, Invocation, LeafCommand, OptionSpec } from '../command.ts'
import { CommandFailure, UsageError } from '../command.ts'
import { agentOptions, clusterOptions, meshOptions, outputOptions } from '../options.ts'
import { printListing } from '../output.ts'
import { answered, askAll, askText, findAgents } from '../reach.ts'

export const logOptions: readonly OptionSpec[] = [
  { flags: '--level <levels>', help: 'level, or target=level, joined by commas' },
  {
    flags: '--of <program>',
    help: 'whose levels',
    choices: ['ztunnel', 'control-plane'],
    fallback: 'ztunnel'
  },
  { flags: '-r, --reset', help: 'back to the levels of the start' },
  { flags: '-n, --namespace <name>', help: 'namespace of the pod of --pod' },
  ...agentOptions,
  ...outputOptions,
  ...meshOptions,
  ...clusterOptions
]

export const command: LeafCommand = {
  name: 'log',
  summary: 'show or set log levels of all agents, or of the control plane',
  description: `Log levels of the agents: off, error, warn, info, debug, trace; for everything or for one target.
A change lasts until the agent restarts.`,
  arguments: [{ name: 'pod', help: 'pod whose agent is asked, or the agent itself (as --pod)' }],
  options: logOptions,
  examples: [
    { what: 'Levels of all agents', command: 'log' },
    { what: 'Everything in detail on one node', command: 'log --node node-1 --level debug' },
    { what: 'Only accesses in detail, on all nodes', command: 'log --level info,access=debug' },
    { what: 'What the control plane sends', command: 'log --of control-plane --level info,xds=debug' },
    { what: 'Back to the start', command: 'log --reset' }
  ],
  run: async invocation => {
    const [pod] = invocation.args
    return runLog({
      ...invocation,
      list: name =>
        name === 'pod' && pod !== undefined ? [...invocation.list('pod'), pod] : invocation.list(name)
    })
  }
}

const levels = ['off', 'error', 'warn', 'info', 'debug', 'trace']
/** What other tools call these levels. */
const synonyms: Readonly<Record<string, string>> = { warning: 'warn', critical: 'error', none: 'off' }

export async function runLog(invocation: Invocation): Promise<ExitCode> {
  const path = `/logging${query(invocation)}`
  const agents = await findAgents(
    invocation,
    invocation.text('of') === 'control-plane' ? 'control plane' : 'ztunnel'
  )
  const answers = await askAll(invocation, agents, async agent =>
    levelIn(await askText(invocation, agent, { method: 'POST', path }))
  )
  const { values, code } = answered(invocation, answers)
  await printListing(invocation, {
    kind: 'LogLevel',
    columns: [
      { heading: 'NODE', cell: ({ node }) => node },
      { heading: 'AGENT', cell: ({ pod }) => pod },
      { heading: 'LEVEL', cell: ({ level }) => level }
    ],
    rows: values.map(({ agent, value }) => ({ node: agent.node, pod: agent.pod, level: value })),
    name: ({ pod }) => `pod/${pod}`,
    nothing: 'no agents'
  })
  return code
}

function query(invocation: Invocation): string {
  const level = invocation.text('level')
  const reset = invocation.flag('reset')
  if (level === undefined) return reset ? '?reset' : ''
  const wanted = level.split(',').map(part => readLevel(part.trim()))
  return `?level=${encodeURIComponent(wanted.join(','))}${reset ? '&reset' : ''}`
}

/** `debug`, `access=debug`, and istioctl's `access:debug`. */
function readLevel(part: string): string {
  const [, target, text = ''] = /^(?:(.+?)[=:])?([A-Za-z]+)$/.exec(part) ?? []
  const level = synonyms[text.toLowerCase()] ?? text.toLowerCase()
  if (!levels.includes(level)) {
    throw new UsageError(
      `--level ${JSON.stringify(part)}: expected LEVEL or TARGET=LEVEL with a level of ${levels.join(', ')}`
    )
  }
  return target === undefined ? level : `${target}=${level}`
}

function levelIn(answer: string): string {
  const [, level] = /current log level is (.*)/.exec(answer) ?? []
  if (level === undefined) throw new CommandFailure(`unexpected answer: ${answer.trim().slice(0, 100)}`)
  return level.trim()
}
