/** `underpass node NODE rules`: capture rules of a pod, as they should be and as the kernel has them. */
import type { PodRules } from '../agent-answers.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { clusterOptions, meshOptions, outputOptions } from '../options.ts'
import { printOne } from '../output.ts'
import { AgentError, askAll, answered, askJson, findAgents, limit, podName, type Agent } from '../reach.ts'
import { pods } from '../../shared/kube/core-api.ts'

export const command: LeafCommand = {
  name: 'node',
  summary: 'capture rules of a pod on a node: desired and actual',
  description: `Shows the capture rules inside a pod's network namespace: what the node agent wants there and what the kernel
has. Exits with 2 when they differ.`,
  arguments: [
    { name: 'node', help: 'name of the node', required: true },
    { name: 'what', help: 'rules', required: true }
  ],
  options: [
    { flags: '-p, --pod <name[.namespace]>', help: 'the pod' },
    { flags: '-n, --namespace <name>', help: "namespace of the pod (default: the context's)" },
    ...outputOptions.map(option => (option.choices === undefined ? { ...option, hidden: true } : option)),
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [{ what: 'Rules of a pod', command: 'node node-1 rules --pod cart-7d8c9-x2x7q.shop' }],
  run
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const [node = '', what] = invocation.args
  if (what !== 'rules') throw new UsageError(`node shows "rules", not ${JSON.stringify(what)}`)
  const pod = invocation.text('pod')
  if (pod === undefined) throw new UsageError('node rules needs --pod NAME')
  const client = await invocation.client()
  const wanted = podName(pod, invocation.text('namespace') ?? client.access.namespace)
  const agents = await findAgents(
    { ...invocation, list: option => (option === 'node' ? [node] : []) },
    'node agent'
  )
  await refuseStranger(invocation, wanted, node)
  const answers = await askAll(invocation, agents, agent => askRules(invocation, agent, wanted))
  const rules = answered(invocation, answers).values[0]?.value
  if (rules === undefined) {
    throw new CommandFailure(
      `pod ${wanted.namespace}/${wanted.name} is not in the mesh, so it has no capture rules; "underpass pods -n ${wanted.namespace}" says why`
    )
  }
  await printOne(invocation, 'PodRules', { ...rules, node }, () => rulesText(rules, invocation))
  return agrees(rules) ? 0 : 2
}

interface PodName {
  readonly namespace: string
  readonly name: string
}

/** A pod that the cluster does not have, or has on another node, is the user's slip: the agent is not asked. */
async function refuseStranger(
  invocation: Invocation,
  { namespace, name }: PodName,
  node: string
): Promise<void> {
  const client = await invocation.client()
  const { items } = await client.list(pods, { namespace, signal: limit(invocation) })
  const found = items.find(({ metadata }) => metadata.name === name)
  if (found === undefined) {
    const here = items.filter(({ spec }) => spec?.nodeName === node).map(({ metadata }) => metadata.name)
    const close = here.filter(other => other.startsWith(name))
    const names = (close.length > 0 ? close : here).slice(0, 5).join(', ')
    throw new CommandFailure(
      `no pod ${name} in namespace ${namespace}${names === '' ? '' : ` (on ${node} there is: ${names})`}`
    )
  }
  const home = found.spec?.nodeName
  if (home === node) return
  throw new CommandFailure(
    home === undefined
      ? `pod ${namespace}/${name} is on no node yet`
      : `pod ${namespace}/${name} runs on ${home}: underpass node ${home} rules --pod ${name}.${namespace}`
  )
}

/** Undefined when the node agent has nothing to do with the pod. */
async function askRules(
  invocation: Invocation,
  agent: Agent,
  { namespace, name }: PodName
): Promise<PodRules | undefined> {
  const path = `/v1/rules?pod=${encodeURIComponent(`${namespace}/${name}`)}`
  try {
    return await askJson<PodRules>(invocation, agent, { path })
  } catch (error) {
    if (error instanceof AgentError && error.status === 404) return undefined
    throw error
  }
}

function agrees({ drift }: PodRules): boolean {
  return drift.missing.length + drift.unexpected.length === 0
}

function rulesText(rules: PodRules, { paint }: Invocation): string {
  const how = [rules.mode, rules.backend, rules.netns].filter(Boolean).join(', ')
  const { missing, unexpected } = rules.drift
  const verdict = agrees(rules)
    ? paint('green', 'The rules are as they should be.')
    : paint('red', `The rules are not as they should be: ${rules.summary ?? ''}`.trimEnd())
  return [
    `${rules.pod}${how === '' ? '' : ` (${how})`}`,
    '',
    paint('bold', 'desired'),
    ...lines(rules.desired),
    '',
    paint('bold', 'actual'),
    ...lines(rules.actual),
    '',
    verdict,
    ...missing.map(rule => paint('red', `- ${rule}`)),
    ...unexpected.map(rule => paint('yellow', `+ ${rule}`)),
    ''
  ].join('\n')
}

function lines(rules: readonly string[]): string[] {
  return rules.length === 0 ? ['  none'] : rules.map(rule => `  ${rule}`)
}
