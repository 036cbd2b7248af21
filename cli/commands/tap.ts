/** `underpass tap`: connections as they open, close and are refused, from all agents at once. */
import { createInterface } from 'node:readline'
import { parseDuration } from '../../shared/runtime/env.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { ConnectionEvent, EventEndpoint } from '../../shared/telemetry/connection-events.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { isTimeout } from '../failure.ts'
import { agentOptions, clusterOptions, meshOptions, outputOptions } from '../options.ts'
import { apiVersion, outputFormat } from '../output.ts'
import { findAgents, stream, type Agent } from '../reach.ts'
import { waiting } from '../watch.ts'

export const command: LeafCommand = {
  name: 'tap',
  summary: 'connections as they open, close and are refused',
  description: `Shows the connections of the mesh live, with identities, bytes and the reason of each refusal. Each connection
between two enrolled pods is seen at both ends, unless --direction chooses one. Nothing is recorded while nobody
watches; the agents drop events rather than slow traffic, and say how many. An agent that restarts is followed on.`,
  arguments: [
    {
      name: 'workload',
      help: 'only connections of this pod or deployment, at either end: [deploy/]NAME[.NAMESPACE]'
    }
  ],
  options: [
    { flags: '-n, --namespace <name>', help: 'only connections of this namespace, at either end' },
    { flags: '--from <client>', help: 'only from this pod or deployment, or namespace/' },
    { flags: '--to <server>', help: 'only to this pod, deployment, service host name or port (:80)' },
    {
      flags: '--kind <kind>',
      help: 'only these events (repeatable)',
      choices: ['opened', 'closed', 'refused'],
      repeatable: true
    },
    { flags: '--direction <direction>', help: 'as seen at one end', choices: ['inbound', 'outbound'] },
    {
      flags: '--max-rps <number>',
      help: 'events a second and agent; what is more is counted, not shown',
      fallback: '100'
    },
    { flags: '--for <duration>', help: 'stop after this time, such as 30s' },
    { flags: '--count <number>', help: 'stop after so many events' },
    ...agentOptions,
    ...outputOptions.map(option =>
      option.choices === undefined
        ? { ...option, hidden: true }
        : { ...option, choices: ['table', 'wide', 'json', 'jsonl'] }
    ),
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [
    { what: 'Everything that is refused, anywhere', command: 'tap --kind refused' },
    { what: 'Connections to one deployment, for a minute', command: 'tap deploy/cart -n shop --for 1m' },
    { what: 'For another program', command: 'tap --direction inbound -o jsonl' }
  ],
  run
}

/** One line of an agent's stream. */
type TapLine = ConnectionEvent | { readonly lost: number }

async function run(invocation: Invocation): Promise<ExitCode> {
  const { io } = invocation
  const duration = durationOf(invocation.text('for'))
  const count = countOf('--count', invocation.text('count'))
  const wanted = filterOf(invocation)
  const asked = {
    ...(invocation.list('kind').length === 0 ? {} : { kinds: invocation.list('kind') }),
    ...(invocation.text('direction') === undefined ? {} : { direction: invocation.text('direction') }),
    maxPerSecond: countOf('--max-rps', invocation.text('max-rps'))
  }
  const agents = (await findAgents(invocation, 'ztunnel')).filter(agent => {
    if (agent.down !== undefined) io.err(`warning: ${agent.node}: not tapped: ${agent.down}\n`)
    return agent.down === undefined
  })
  const done = new AbortController()
  const signal = AbortSignal.any([
    io.signal,
    done.signal,
    ...(duration === undefined ? [] : [AbortSignal.timeout(duration)])
  ])
  let shown = 0
  const show = (line: TapLine, agent: Agent): void => {
    if ('lost' in line) return io.err(`warning: ${agent.node}: ${line.lost} events were dropped\n`)
    if (signal.aborted || !wanted(line)) return
    io.out(lineOf(invocation, line, agent))
    shown += 1
    if (shown === count) done.abort()
  }
  const format = outputFormat(invocation)
  if (io.terminal && (format === 'table' || format === 'wide')) {
    io.err(`tapping ${agents.map(({ node }) => node).join(', ')}; Ctrl-C ends\n`)
  }
  const ends = await Promise.all(
    agents.map(async agent => {
      const problem = await stayWith(invocation, agent, asked, show, signal)
      if (problem !== undefined) io.err(`warning: ${problem}\n`)
      return problem
    })
  )
  const failed = ends.filter(end => end !== undefined)
  if (failed.length === agents.length && agents.length > 0) return 1
  return failed.length > 0 ? 3 : 0
}

/** Follows the agent of a node; when it is replaced, the one that takes its place. */
async function stayWith(
  invocation: Invocation,
  first: Agent,
  filter: object,
  show: (line: TapLine, agent: Agent) => void,
  signal: AbortSignal
): Promise<string | undefined> {
  for (let agent = first; ;) {
    const problem = await follow(invocation, agent, filter, show, signal)
    const next = problem === undefined ? undefined : await successor(invocation, agent, signal)
    if (signal.aborted) return undefined
    if (next === undefined) return problem
    invocation.io.err(`warning: ${agent.node}: ${next.pod} takes the place of ${agent.pod}\n`)
    agent = next
  }
}

/** The agent that runs on the node instead; undefined while the old one still stands, or when none comes in time. */
async function successor(
  invocation: Invocation,
  { node, pod }: Agent,
  signal: AbortSignal
): Promise<Agent | undefined> {
  const onNode = { ...invocation, list: (option: string) => (option === 'node' ? [node] : []) }
  for (let tries = 0; tries < successorTries && !signal.aborted; tries += 1) {
    const [found] = await findAgents(onNode, 'ztunnel').catch((error: unknown) => {
      if (error instanceof CommandFailure) return [] // none on this node yet
      throw error
    })
    if (found !== undefined && found.down === undefined) return found.pod === pod ? undefined : found
    await waiting(successorPauseMs, signal)
  }
  return undefined
}

const successorTries = 120
const successorPauseMs = 500

/** Resolves when the stream ends: with undefined when that was wanted, else with why it did. */
async function follow(
  invocation: Invocation,
  agent: Agent,
  filter: object,
  show: (line: TapLine, agent: Agent) => void,
  signal: AbortSignal
): Promise<string | undefined> {
  const request = { method: 'POST', path: '/v1/tap', body: filter } as const
  try {
    for (;;) {
      const openedAt = invocation.io.now()
      const body = await stream(invocation, agent, request, signal)
      for await (const line of createInterface({ input: body })) {
        if (line !== '') show(JSON.parse(line) as TapLine, agent)
      }
      if (signal.aborted) return undefined
      // agents end each stream after a while, so that a forgotten one costs nothing; this one is not forgotten
      if (invocation.io.now() - openedAt < shortestMs) return `${agent.node}: the agent ended the stream`
    }
  } catch (error) {
    const why = isTimeout(error) ? 'no answer in time (see --timeout)' : messageOf(error)
    return signal.aborted ? undefined : `${agent.node}: not tapped: ${why}`
  }
}

/** A stream that ends sooner is not opened again. */
const shortestMs = 60_000

function filterOf(invocation: Invocation): (event: ConnectionEvent) => boolean {
  const kinds = invocation.list('kind')
  const direction = invocation.text('direction')
  const namespace = invocation.text('namespace')
  const [workload] = invocation.args
  const from = invocation.text('from')
  const to = invocation.text('to')
  return event => {
    const { source, destination } = event
    if (kinds.length > 0 && !kinds.includes(event.kind)) return false
    if (direction !== undefined && event.direction !== direction) return false
    if (from !== undefined && !isCalled(source, from, namespace)) return false
    if (to !== undefined && !isTarget(event, to, namespace)) return false
    if (workload !== undefined)
      return isCalled(source, workload, namespace) || isCalled(destination, workload, namespace)
    if (namespace === undefined || from !== undefined || to !== undefined) return true
    return source.namespace === namespace || destination.namespace === namespace
  }
}

/** Whether an end is the pod `name`, or a pod of the deployment `name`, in the namespace of the name or of -n. */
function isCalled(end: EventEndpoint, text: string, fallback: string | undefined): boolean {
  if (text.endsWith('/')) return end.namespace === text.slice(0, -1)
  const bare = text.replace(/^(?:po|pods?|deploy|deployments?)\//, '')
  if (hostOf(end.address) === bare) return true
  const [name = '', namespace = fallback] = bare.split('.')
  if (namespace !== undefined && end.namespace !== namespace) return false
  return end.workload === name || (end.workload?.startsWith(`${name}-`) ?? false)
}

function isTarget(event: ConnectionEvent, text: string, fallback: string | undefined): boolean {
  const [, name = '', port] = /^(.*?)(?::(\d+))?$/.exec(text) ?? []
  if (
    port !== undefined &&
    !event.destination.address.endsWith(`:${port}`) &&
    !event.authority?.endsWith(`:${port}`)
  )
    return false
  if (name === '') return true
  const service = name.replace(/^(?:svc|services?)\//, '')
  return (
    isCalled(event.destination, name, fallback) ||
    event.service === service ||
    event.service?.startsWith(`${service}.`) === true
  )
}

function lineOf(invocation: Invocation, event: ConnectionEvent, agent: Agent): string {
  const format = outputFormat(invocation)
  if (format === 'json' || format === 'jsonl') {
    return `${JSON.stringify({ apiVersion, kind: 'ConnectionEvent', node: agent.node, event })}\n`
  }
  const { kind, source, destination, direction } = event
  const security = event.mutualTls === undefined ? '' : event.mutualTls ? 'mTLS' : 'clear'
  const bytes =
    event.bytesFromClient === undefined
      ? ''
      : `${byteText(event.bytesFromClient)}↑ ${byteText(event.bytesToClient ?? 0)}↓`
  const took = event.durationMs === undefined ? '' : `${Math.round(event.durationMs)}ms`
  const colour = kind === 'refused' ? 'red' : kind === 'opened' ? 'green' : 'dim'
  const words = [
    new Date(event.time).toISOString().slice(11, 23),
    agent.node,
    direction === 'inbound' ? 'in ' : 'out',
    invocation.paint(colour, kind.padEnd(7)),
    `${endText(source)} → ${targetText(event)}`,
    security,
    bytes,
    took,
    event.responseFlags === undefined || event.responseFlags === '-' ? '' : event.responseFlags,
    event.error ?? ''
  ]
  const wide =
    format === 'wide'
      ? [
          `source=${source.identity ?? '-'}`,
          `destination=${destination.identity ?? '-'}`,
          `service=${event.service ?? '-'}`,
          `authority=${event.authority ?? '-'}`
        ]
      : []
  return `${[...words, ...wide].filter(word => word !== '').join('  ')}\n`
}

/** `namespace/pod:port [sa/account]`; the account is that of the identity, `-` where none was proved. */
function endText({ address, workload, namespace, identity }: EventEndpoint): string {
  const port = address.slice(address.lastIndexOf(':'))
  const name = workload === undefined ? address : `${namespace ?? ''}/${workload}${port}`
  const [, owner, account] = /\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(identity ?? '') ?? []
  if (owner === undefined) return `${name} [${identity ?? '-'}]`
  return `${name} [${owner === namespace ? '' : `ns/${owner}/`}sa/${account}]`
}

/** A tunnel's destination is the port of HBONE; what the client meant stands in its CONNECT. */
function targetText({ destination, authority }: ConnectionEvent): string {
  const [, port] = /:(\d+)$/.exec(authority ?? '') ?? []
  if (!destination.address.endsWith(':15008') || port === undefined) return endText(destination)
  return endText({ ...destination, address: `${hostOf(destination.address)}:${port}` })
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1')
}

export function byteText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)}${units[unit]}`
}

function durationOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const duration = parseDuration(text)
  if (duration === undefined || duration <= 0)
    throw new UsageError(`--for ${text}: expected a duration such as 30s`)
  return duration
}

function countOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^[1-9]\d*$/.test(text)) throw new UsageError(`${option} ${text}: expected a whole number from 1`)
  return Number(text)
}
