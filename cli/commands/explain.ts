/** `underpass explain`: the path of one connection, as desired and as the agents would do it. */
import type { ExplainAnswer } from '../../shared/mesh/explain-endpoint.ts'
import type { Explanation, ExplainResult } from '../../shared/mesh/explain.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { readFileDump } from '../config/sources.ts'
import { differences, type Role } from '../explain/compare.ts'
import { explanationText } from '../explain/text.ts'
import { agentOptions, clusterOptions, meshOptions, outputOptions } from '../options.ts'
import { printOne } from '../output.ts'
import { askAll, askJson, findAgents, type Agent } from '../reach.ts'

export const command: LeafCommand = {
  name: 'explain',
  summary: 'the path of a connection and what each policy on it decides',
  description: `Follows one imagined connection with the decisions that the agents make: which service or pod the address
is, whether it goes through a waypoint, over HBONE or in the clear, and which policy and rule allows or refuses it.
It is asked twice: of the control plane, for the desired state, and of the agents on both ends, for what they
hold. Where these differ, an agent is out of date or set differently, and the difference is shown.

Ends are written as NAME[.NAMESPACE], pod/NAME, deploy/NAME, svc/NAME, a host name or an IP address; --to with :PORT.
Nothing is sent to either end.`,
  options: [
    { flags: '--from <client>', help: 'who connects' },
    { flags: '--to <server:port>', help: 'to what' },
    { flags: '-n, --namespace <name>', help: "where names without a namespace are (default: the context's)" },
    {
      flags: '-f, --from-file <file>',
      help: 'ask a dump of an agent instead of the mesh; - reads standard input'
    },
    {
      flags: '--expect <outcome>',
      help: 'exit with 2 when the outcome is another',
      choices: ['allowed', 'refused']
    },
    ...agentOptions
      .filter(({ flags }) => flags.startsWith('--node'))
      .map(option => ({ ...option, hidden: true })),
    ...outputOptions.map(option => (option.choices === undefined ? { ...option, hidden: true } : option)),
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [
    {
      what: 'May the web pods call the cart?',
      command: 'explain --from deploy/web --to svc/cart:80 -n shop'
    },
    {
      what: 'By address, in a script',
      command: 'explain --from 10.1.1.5 --to 10.1.2.7:8080 --expect refused'
    },
    {
      what: 'Every condition that was looked at',
      command: 'explain --from web.shop --to cart.shop:80 -o yaml'
    }
  ],
  run
}

interface Held {
  readonly node: string
  readonly role: Role
  readonly result: ExplainResult
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const from = invocation.text('from')
  const to = invocation.text('to')
  if (from === undefined || to === undefined) throw new UsageError('explain needs --from and --to')
  if (!/:\d+$/.test(to)) throw new UsageError(`--to ${to}: a port is missing; write ${to}:PORT`)
  const file = invocation.text('from-file')
  if (file !== undefined)
    return explainDump(invocation, file, { from, to, namespace: invocation.text('namespace') ?? 'default' })
  const client = await invocation.client()
  const question = { from, to, namespace: invocation.text('namespace') ?? client.access.namespace }
  const agents = await findAgents(invocation, 'ztunnel')
  const notes: string[] = []
  const desired = await askDesired(invocation, question, notes)
  const held = await askHolders(invocation, question, agents, desired, notes)
  const basis = desired ?? held.find(({ result }) => result.kind === 'explanation')?.result ?? held[0]?.result
  if (basis === undefined) throw new CommandFailure(`nobody could be asked:\n${notes.join('\n')}`)
  if (basis.kind === 'unknown') throw new CommandFailure(unknownText(basis, to))
  const differing =
    desired === undefined
      ? []
      : held.flatMap(({ result, role, node }) => differences(desired, result, role, node))
  await print(invocation, question, basis, desired, held, differing)
  for (const note of notes) invocation.io.err(`warning: ${note}\n`)
  const expected = invocation.text('expect')
  if (expected !== undefined && (expected !== basis.outcome || differing.length > 0)) return 2
  return notes.length > 0 ? 3 : 0
}

async function explainDump(invocation: Invocation, file: string, question: Question): Promise<ExitCode> {
  // loaded here: the mesh takes longer to load than all the rest, and only this needs it
  const [{ meshOfDump }, { explainPath }] = await Promise.all([
    import('../explain/dumped-mesh.ts'),
    import('../../shared/mesh/explain.ts')
  ])
  const result = explainPath(meshOfDump(await readFileDump(invocation, file)), question, {})
  if (result.kind === 'unknown') throw new CommandFailure(unknownText(result, question.to))
  await print(invocation, question, result, undefined, [{ node: file, role: 'source', result }], [])
  const expected = invocation.text('expect')
  return expected !== undefined && expected !== result.outcome ? 2 : 0
}

/** The mesh decides on addresses: of a host outside of it, only that can be asked. */
function unknownText(
  { what, message }: { readonly what: string; readonly message: string },
  to: string
): string {
  const outside = what === 'to' && /^[^/]+\.[^/]+:\d+$/.test(to) && message.startsWith('no ')
  const hint = outside ? '; for a host outside of the mesh give its IP address, as the mesh goes by that' : ''
  return `--${what}: ${message}${hint}`
}

type Question = { readonly from: string; readonly to: string; readonly namespace: string }

/** What the control plane wants; undefined, with a note, when it cannot be asked or is not Underpass's. */
async function askDesired(
  invocation: Invocation,
  question: Question,
  notes: string[]
): Promise<ExplainResult | undefined> {
  try {
    const [agent] = (await findAgents(invocation, 'control plane')).filter(({ down }) => down === undefined)
    if (agent === undefined) throw new Error('no pod of it is running')
    return await ask(invocation, agent, question)
  } catch (error) {
    if (error instanceof KubeError && error.status === 403) throw error
    notes.push(`the control plane was not asked for the desired state: ${messageOf(error)}`)
    return undefined
  }
}

/** Asks the agents on the nodes of both ends, the ends pinned to what the desired state found. */
async function askHolders(
  invocation: Invocation,
  question: Question,
  agents: readonly Agent[],
  desired: ExplainResult | undefined,
  notes: string[]
): Promise<Held[]> {
  const known = desired ?? (await askAny(invocation, question, agents, notes))
  if (known === undefined || known.kind === 'unknown')
    return known === undefined ? [] : [{ node: '', role: 'source', result: known }]
  const pinned = { ...question, from: known.source.uid }
  const roles = rolesOf(known)
  for (const { node } of roles) {
    if (!agents.some(agent => agent.node === node)) notes.push(`no ztunnel on node ${node} to ask`)
  }
  const asked = agents.filter(agent => roles.some(({ node }) => node === agent.node))
  const answers = await askAll(invocation, asked, agent => ask(invocation, agent, pinned))
  return answers.flatMap(answer => {
    if (!answer.ok) {
      notes.push(`the agent on ${answer.agent.node} was not asked: ${answer.problem}`)
      return []
    }
    return roles
      .filter(({ node }) => node === answer.agent.node)
      .map(({ node, role }) => ({ node, role, result: answer.value }))
  })
}

/** Any agent knows all names; the first one that answers will do. */
async function askAny(
  invocation: Invocation,
  question: Question,
  agents: readonly Agent[],
  notes: string[]
): Promise<ExplainResult | undefined> {
  for (const agent of agents) {
    const [answer] = await askAll(invocation, [agent], one => ask(invocation, one, question))
    if (answer?.ok === true) return answer.value
    notes.push(`the agent on ${agent.node} was not asked: ${answer?.problem ?? ''}`)
  }
  return undefined
}

function rolesOf(explanation: Explanation): { readonly node: string; readonly role: Role }[] {
  const destinations = explanation.legs
    .flatMap(({ arrivals }) => arrivals)
    .filter(({ enforcedBy }) => enforcedBy === 'agent')
    .flatMap(({ nodes }) => nodes)
  const source = explanation.source.enrolled ? [explanation.source.node] : []
  return [
    ...source.map(node => ({ node, role: 'source' as const })),
    ...[...new Set(destinations)].map(node => ({ node, role: 'destination' as const }))
  ]
}

async function ask(invocation: Invocation, agent: Agent, question: Question): Promise<ExplainResult> {
  const answer = await askJson<ExplainAnswer>(invocation, agent, {
    method: 'POST',
    path: '/v1/explain',
    body: question
  })
  return answer.result
}

async function print(
  invocation: Invocation,
  question: Question,
  basis: Explanation,
  desired: ExplainResult | undefined,
  held: readonly Held[],
  differing: readonly string[]
): Promise<void> {
  const value = {
    ...question,
    outcome: basis.outcome,
    desired: desired ?? null,
    held,
    differences: differing
  }
  await printOne(invocation, 'Explanation', value, () => {
    const holder = invocation.text('from-file') ?? `the agent on ${held[0]?.node ?? '?'}`
    const whose = desired === undefined ? `as ${holder} holds it` : 'as desired'
    const nodes = [...new Set(held.map(({ node }) => node))].join(' and ')
    const agreement =
      desired === undefined || nodes === ''
        ? []
        : differing.length === 0
          ? [`agents: ${nodes} ${held.length > 1 ? 'hold' : 'holds'} the same`]
          : [invocation.paint('red', 'agents hold something else:'), ...differing.map(line => `  ${line}`)]
    return `${question.from} → ${question.to}, ${whose}\n\n${explanationText(basis, invocation.paint)}${agreement.map(line => `${line}\n`).join('')}`
  })
}
