/** `underpass config diff`: where agents do not hold the same, or not what the control plane wants them to. */
import { messageOf } from '../../shared/runtime/errors.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import type { ExitCode, Invocation, LeafCommand } from '../command.ts'
import { agentOptions, clusterOptions, meshOptions, outputOptions, watchOption } from '../options.ts'
import { printListing } from '../output.ts'
import { askJson, findAgents } from '../reach.ts'
import type { ConfigDump } from './dump.ts'
import { readDumps, type AgentDump } from './sources.ts'

export const diff: LeafCommand = {
  name: 'diff',
  summary: 'where agents do not hold the same, or not what is desired',
  description: `Compares the workloads, services and policies that the agents hold with each other and, by name, with what the
control plane sends. Exits with 2 when there is a difference.`,
  options: [...agentOptions, ...outputOptions, watchOption, ...meshOptions, ...clusterOptions],
  examples: [
    { what: 'Do all agents hold what they should?', command: 'config diff' },
    { what: 'Only one agent, in a script', command: 'config diff --node node-1 -o jsonl' }
  ],
  run
}

type Kind = 'workload' | 'service' | 'policy'

export interface Difference {
  readonly kind: Kind
  readonly name: string
  readonly what: 'missing' | 'not desired' | 'different'
  readonly nodes: readonly string[]
}

/** Names that are desired, by kind; undefined when nobody could tell. */
export type Desired = Readonly<Record<Kind, ReadonlySet<string>>> | undefined

async function run(invocation: Invocation): Promise<ExitCode> {
  const [{ dumps, code }, desired] = await Promise.all([readDumps(invocation), readDesired(invocation)])
  const rows = findDifferences(dumps, desired)
  await printListing<Difference>(invocation, {
    kind: 'Difference',
    columns: [
      { heading: 'KIND', cell: ({ kind }) => kind },
      { heading: 'NAME', cell: ({ name }) => name },
      { heading: 'WHAT', cell: ({ what }) => what },
      { heading: 'ON', cell: ({ nodes }) => nodes.join(',') }
    ],
    rows,
    name: ({ kind, name }) => `${kind}/${name}`,
    nothing: `${dumps.length} agents hold the same${desired === undefined ? '' : ', and all that is desired'}`
  })
  return rows.length > 0 ? 2 : code
}

/** What the control plane's `/debug/config_dump` names. */
interface DesiredDump {
  readonly workloads: readonly { readonly name: string }[]
  readonly services: readonly { readonly name: string }[]
  readonly policies: readonly { readonly name: string }[]
}

async function readDesired(invocation: Invocation): Promise<Desired> {
  try {
    const [agent] = (await findAgents(invocation, 'control plane')).filter(({ down }) => down === undefined)
    if (agent === undefined) throw new Error('no pod of it is running')
    const dump = await askJson<DesiredDump>(invocation, agent, { path: '/debug/config_dump' })
    const names = (list: readonly { readonly name: string }[]): ReadonlySet<string> =>
      new Set(list.map(({ name }) => name))
    return { workload: names(dump.workloads), service: names(dump.services), policy: names(dump.policies) }
  } catch (error) {
    if (error instanceof KubeError) throw error
    invocation.io.err(
      `warning: compared with each other only; the control plane was not asked: ${messageOf(error)}\n`
    )
    return undefined
  }
}

export function findDifferences(dumps: readonly AgentDump[], desired: Desired): Difference[] {
  const parts = [
    ['workload', (dump: ConfigDump) => entries(dump.workloads, ({ uid }) => uid)],
    [
      'service',
      (dump: ConfigDump) => entries(dump.services, ({ namespace, hostname }) => `${namespace}/${hostname}`)
    ],
    ['policy', (dump: ConfigDump) => entries(dump.policies, ({ namespace, name }) => `${namespace}/${name}`)]
  ] as const
  return parts.flatMap(([kind, pick]) => {
    const held = dumps.map(({ node, dump }) => ({ node, things: pick(dump) }))
    const names = new Set([...(desired?.[kind] ?? []), ...held.flatMap(({ things }) => [...things.keys()])])
    return [...names]
      .toSorted((a, b) => a.localeCompare(b))
      .flatMap(name => differenceOf(kind, name, held, desired))
  })
}

function differenceOf(
  kind: Kind,
  name: string,
  held: readonly { readonly node: string; readonly things: ReadonlyMap<string, string> }[],
  desired: Desired
): Difference[] {
  const holders = held.filter(({ things }) => things.has(name))
  const nodesOf = (some: readonly { readonly node: string }[]): string[] => some.map(({ node }) => node)
  if (desired !== undefined && !desired[kind].has(name)) {
    return [{ kind, name, what: 'not desired', nodes: nodesOf(holders) }]
  }
  const without = held.filter(({ things }) => !things.has(name))
  if (without.length > 0) return [{ kind, name, what: 'missing', nodes: nodesOf(without) }]
  const contents = new Set(holders.map(({ things }) => things.get(name)))
  return contents.size > 1 ? [{ kind, name, what: 'different', nodes: nodesOf(holders) }] : []
}

/** Each thing as text, by name. */
function entries<T>(things: readonly T[], nameOf: (thing: T) => string): ReadonlyMap<string, string> {
  return new Map(things.map(thing => [nameOf(thing), JSON.stringify(thing)]))
}
