/** The options that several commands share, spelled once. */
import type { OptionSpec } from './command.ts'

export const outputFormats = ['table', 'wide', 'json', 'yaml', 'jsonl', 'name'] as const
export type OutputFormat = (typeof outputFormats)[number]

export const clusterOptions: readonly OptionSpec[] = [
  { flags: '--kubeconfig <file>', help: 'kubeconfig to use (default: KUBECONFIG, then ~/.kube/config)' },
  { flags: '--context <name>', help: "the kubeconfig's context to use" },
  { flags: '--timeout <duration>', help: 'limit of each request, such as 5s or 2m', fallback: '15s' }
]

export const meshOptions: readonly OptionSpec[] = [
  {
    flags: '-i, --istio-namespace <name>',
    help: 'namespace that the mesh runs in',
    fallback: 'istio-system'
  },
  { flags: '--istioNamespace <name>', help: 'as --istio-namespace', hidden: true }
]

/** Which agents to ask; all of them without these. */
export const agentOptions: readonly OptionSpec[] = [
  { flags: '--node <name>', help: 'ask only the agent on this node (repeatable)', repeatable: true },
  {
    flags: '--pod <name[.namespace]>',
    help: 'ask only the agent that serves this pod, or this agent (repeatable)',
    repeatable: true
  }
]

export const outputOptions: readonly OptionSpec[] = [
  {
    flags: '-o, --output <format>',
    help: 'how to print',
    choices: [...outputFormats, 'short'],
    fallback: 'table'
  },
  { flags: '--no-headers', help: 'leave the headings of tables out' }
]

export const namespaceOptions: readonly OptionSpec[] = [
  { flags: '-n, --namespace <name>', help: "namespace to look at (default: the context's)" },
  { flags: '-A, --all-namespaces', help: 'look at all namespaces' }
]

export const watchOption: OptionSpec = {
  flags: '-w, --watch [interval]',
  help: 'print again every so often (2s)'
}

export const colourOption: OptionSpec = {
  flags: '--color <when>',
  help: 'colours in the output',
  choices: ['auto', 'always', 'never'],
  fallback: 'auto'
}
