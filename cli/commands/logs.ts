/** `underpass logs`: what all programs of the mesh wrote, in one stream. */
import { parseDuration } from '../../shared/runtime/env.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { agentOptions, clusterOptions, meshOptions } from '../options.ts'
import { readLog, type LogLine, type LogQuery } from '../pod-logs.ts'
import { findAgents, limit, podName, type Agent, type AgentKind } from '../reach.ts'

export const command: LeafCommand = {
  name: 'logs',
  summary: 'what all programs of the mesh wrote, in one stream',
  description: `Merges the logs of ztunnels, node agents and control plane by time; each line starts with where it is from. With --pod
only the agents that serve the pod are read, and only lines that name it.`,
  options: [
    {
      flags: '--of <program>',
      help: 'only this one (repeatable)',
      choices: ['ztunnel', 'node-agent', 'control-plane'],
      repeatable: true
    },
    { flags: '-f, --follow', help: 'go on with what is written from now on' },
    { flags: '--since <duration>', help: 'only what is not older, such as 10m' },
    { flags: '--tail <lines>', help: 'at most so many lines of each program', fallback: '200' },
    { flags: '-p, --previous', help: 'of the run before the last start' },
    { flags: '-n, --namespace <name>', help: 'namespace of the pod of --pod' },
    ...agentOptions,
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [
    { what: 'The last lines of everything', command: 'logs' },
    { what: 'Connections of one pod, as they happen', command: 'logs -f --of ztunnel --pod web.shop' },
    { what: 'Why it ended', command: 'logs --previous --of node-agent --node node-1' }
  ],
  run
}

const kinds: Readonly<Record<string, AgentKind>> = {
  ztunnel: 'ztunnel',
  'node-agent': 'node agent',
  'control-plane': 'control plane'
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const query = queryOf(invocation)
  const agents = await chosenAgents(invocation)
  const client = await invocation.client()
  const mentions = await mentionOf(invocation)
  let missing = 0
  const read = async (agent: Agent, take: (line: LogLine) => void): Promise<void> => {
    const signal = query.follow === true ? invocation.io.signal : limit(invocation)
    try {
      const { namespace, pod } = agent
      for await (const line of readLog(client, { ...query, namespace, pod }, signal)) {
        if (mentions(line.text)) take(line)
      }
    } catch (error) {
      if (error instanceof KubeError && error.status === 403) throw error
      missing += 1
      invocation.io.err(`warning: ${agent.kind} ${agent.pod}: no log: ${messageOf(error)}\n`)
    }
  }
  if (query.follow === true) {
    await Promise.all(agents.map(agent => read(agent, line => print(invocation, agent, line))))
  } else {
    const lines: { readonly agent: Agent; readonly line: LogLine }[] = []
    await Promise.all(agents.map(agent => read(agent, line => lines.push({ agent, line }))))
    for (const { agent, line } of lines.toSorted((a, b) => (a.line.time < b.line.time ? -1 : 1))) {
      print(invocation, agent, line)
    }
  }
  return missing > 0 ? 3 : 0
}

function queryOf(invocation: Invocation): Omit<LogQuery, 'namespace' | 'pod'> {
  const [since, tail = '200'] = [invocation.text('since'), invocation.text('tail')]
  const sinceMs = since === undefined ? undefined : parseDuration(since)
  if (since !== undefined && sinceMs === undefined) {
    throw new UsageError(`--since ${JSON.stringify(since)}: expected a duration such as 10m`)
  }
  if (!/^\d{1,9}$/.test(tail))
    throw new UsageError(`--tail ${JSON.stringify(tail)}: expected a number of lines`)
  return {
    follow: invocation.flag('follow'),
    previous: invocation.flag('previous'),
    tailLines: Number(tail),
    sinceSeconds: sinceMs === undefined ? undefined : Math.max(1, Math.ceil(sinceMs / 1000))
  }
}

/** A program that does not run is no failure while another does. */
async function chosenAgents(invocation: Invocation): Promise<readonly Agent[]> {
  const chosen = invocation.list('of')
  const wanted = chosen.length === 0 ? Object.keys(kinds) : chosen
  const problems: string[] = []
  const found: Agent[] = []
  for (const name of wanted) {
    const kind = kinds[name]
    if (kind === undefined) continue
    try {
      found.push(...(await findAgents(invocation, kind)))
    } catch (error) {
      if (!(error instanceof CommandFailure)) throw error
      problems.push(error.message)
    }
  }
  if (found.length === 0) throw new CommandFailure(problems.join('\n'))
  for (const problem of problems) invocation.io.err(`warning: ${problem}\n`)
  return found
}

/** Which lines are about the pods of `--pod`; all of them without. */
async function mentionOf(invocation: Invocation): Promise<(text: string) => boolean> {
  const wanted = invocation.list('pod')
  if (wanted.length === 0) return () => true
  const client = await invocation.client()
  const namespace = invocation.text('namespace') ?? client.access.namespace
  const names = wanted.map(text => podName(text, namespace).name)
  return text => names.some(name => text.includes(name))
}

function print({ io, paint }: Invocation, { kind, node, pod }: Agent, { text }: LogLine): void {
  const where = kind === 'control plane' ? pod : `${kind} ${node}`
  io.out(`${paint('dim', where)} ${text}\n`)
}
