/** `underpass node NODE rules`: capture rules of a pod, as they should be and as the kernel has them. */
import type { PodRules } from '../agent-answers.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { clusterOptions, meshOptions, outputOptions } from '../options.ts'
import { printOne } from '../output.ts'
import { askAll, answered, askJson, findAgents, podName } from '../reach.ts'

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
  const { name, namespace } = podName(pod, invocation.text('namespace') ?? client.access.namespace)
  const agents = await findAgents(
    { ...invocation, list: option => (option === 'node' ? [node] : []) },
    'node agent'
  )
  const path = `/v1/rules?pod=${encodeURIComponent(`${namespace}/${name}`)}`
  const answers = await askAll(invocation, agents, agent => askJson<PodRules>(invocation, agent, { path }))
  const [found] = answered(invocation, answers).values
  if (found === undefined) throw new CommandFailure(`no node agent on ${node}`)
  const rules = found.value
  await printOne(invocation, 'PodRules', { ...rules, node }, () => rulesText(rules, invocation))
  return agrees(rules) ? 0 : 2
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
