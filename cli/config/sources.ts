/** Where `config` gets its dumps: agents, or a file. */
import { readFile } from 'node:fs/promises'
import { messageOf } from '../../shared/runtime/errors.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation } from '../command.ts'
import { answered, askAll, askText, findAgents } from '../reach.ts'
import { readConfigDump, type ConfigDump } from './dump.ts'

/** What one agent holds. */
export interface AgentDump {
  /** The agent's node; '' for a file. */
  readonly node: string
  readonly pod: string
  readonly dump: ConfigDump
}

export async function readDumps(
  invocation: Invocation
): Promise<{ readonly dumps: readonly AgentDump[]; readonly code: ExitCode }> {
  const file = invocation.text('file') ?? invocation.text('from-file')
  const narrowed = invocation.list('node').length + invocation.list('pod').length > 0
  if (file !== undefined) {
    if (narrowed) throw new UsageError('--from-file shows a file, --node and --pod ask agents: choose one')
    return { dumps: [{ node: '', pod: '', dump: await readFileDump(invocation, file) }], code: 0 }
  }
  const agents = await findAgents(invocation, 'ztunnel')
  const answers = await askAll(invocation, agents, async agent =>
    readConfigDump(await askText(invocation, agent, { path: '/config_dump' }), `agent on ${agent.node}`)
  )
  const { values, code } = answered(invocation, answers)
  return {
    dumps: values.map(({ agent, value }) => ({ node: agent.node, pod: agent.pod, dump: value })),
    code
  }
}

export async function readFileDump({ io }: Invocation, file: string): Promise<ConfigDump> {
  if (file === '-') return readConfigDump(await io.readInput(), 'standard input')
  try {
    return readConfigDump(await readFile(file, 'utf8'), file)
  } catch (error) {
    if (error instanceof CommandFailure) throw error
    throw new CommandFailure(`cannot read the dump: ${messageOf(error)}`, { cause: error })
  }
}

/** One thing that agents hold, and which of them hold it in this form. */
export interface Held<T> {
  readonly value: T
  readonly nodes: readonly string[]
  readonly of: number
}

/**
 * What all agents hold, each thing once. Agents are meant to hold the same; where they do not, the things
 * in question are listed in `differing` by key.
 */
export function joined<T>(
  dumps: readonly AgentDump[],
  pick: (dump: ConfigDump) => readonly T[],
  keyOf: (value: T) => string
): { readonly held: readonly Held<T>[]; readonly differing: readonly string[] } {
  const byContent = new Map<string, { value: T; nodes: string[] }>()
  const keys = new Map<string, number>()
  for (const { node, dump } of dumps) {
    for (const value of pick(dump)) {
      const content = JSON.stringify(value)
      const known = byContent.get(content)
      if (known !== undefined) {
        known.nodes.push(node)
        continue
      }
      byContent.set(content, { value, nodes: [node] })
      keys.set(keyOf(value), (keys.get(keyOf(value)) ?? 0) + 1)
    }
  }
  const all = [...byContent.values()]
  const differing = new Set(
    all.filter(({ nodes }) => nodes.length < dumps.length).map(({ value }) => keyOf(value))
  )
  return {
    held: all.map(({ value, nodes }) => ({ value, nodes, of: dumps.length })),
    differing: [...differing]
  }
}
