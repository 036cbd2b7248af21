/** The lab's command line as a value. Pure; errors name the word and the remedy. */
import { parseArgs, type ParseArgsConfig } from 'node:util'
import { commandModes, type CommandMode } from './run-commands.ts'

export interface UpOptions {
  readonly manifests: readonly string[]
  readonly nodes: number
  readonly detach: boolean
  readonly mesh: boolean
  readonly internet: boolean
  readonly runCommands: CommandMode
}

export type LabCommand =
  | { readonly verb: 'help'; readonly topic: string }
  | ({ readonly verb: 'up' } & UpOptions)
  | { readonly verb: 'down' }
  | { readonly verb: 'status'; readonly json: boolean }
  | { readonly verb: 'check' }
  | { readonly verb: 'kubeconfig' }
  | { readonly verb: 'demo' }
  | { readonly verb: 'kubectl'; readonly words: readonly string[] }
  | {
      readonly verb: 'exec'
      readonly namespace: string
      readonly target: string
      readonly container: string | undefined
      readonly command: readonly string[]
    }

/** Words that cannot be understood. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

export const usage: Readonly<Record<string, string>> = {
  '': `The whole mesh on this machine, from Kubernetes manifests, in network namespaces of its own.

Usage: underpass lab COMMAND

  up          start a cluster with the mesh and apply manifests
  status      what runs where, and which container runs what
  exec        run a command in a pod
  kubectl     kubectl for this cluster (the one in PATH, else a small one)
  kubeconfig  where its kubeconfig is, for every other program
  demo        a tour: a shop in the clear, in the mesh, under a policy
  check       whether this machine can run a lab, and what to do if not
  down        end it and remove everything

Each command explains itself with --help. Exit codes: 0 fine, 1 usage or failure, 2 the machine cannot run a lab;
exec and kubectl end as what they ran.
`,
  up: `Starts a cluster of network namespaces with the mesh in it. Ctrl-C ends it and leaves nothing behind.

Usage: underpass lab up [-f FILE|FOLDER|-]... [options]

  -f, --filename FILE     manifests to apply when the mesh is ready (repeatable)
      --nodes N           nodes, 1 to 9 (default 2)
      --detach            go to the background when all is ready; "underpass lab down" ends it
      --run-commands MODE which commands of manifests run as they are: allow-list (curl, sh loops and the like),
                          all, none (default allow-list); all other containers get a stand-in server
      --no-mesh           only the cluster
      --internet          let pods reach this machine's network (root only)

Examples:
  underpass lab up -f shop.yaml
  underpass lab up --detach --nodes 3 -f bookinfo/
`,
  status: `Shows nodes, the mesh's programs, and for every container what it really runs.

Usage: underpass lab status [-o json]
`,
  exec: `Runs a command in a pod, or in the first pod of a Deployment.

Usage: underpass lab exec [-n NAMESPACE] [-c CONTAINER] POD|DEPLOYMENT -- COMMAND...

Examples:
  underpass lab exec -n shop web -- curl -s http://cart/
  underpass lab exec -n shop deploy/web -- sh
`,
  kubectl: `Runs kubectl against the lab. Without a kubectl in PATH these work: get, apply, label, annotate, patch, delete,
wait, logs. UNDERPASS_LAB_KUBECTL=builtin takes these also where there is one.

Usage: underpass lab kubectl ARGUMENTS...
`,
  kubeconfig: `Prints the path of the lab's kubeconfig.

Usage: underpass lab kubeconfig

Example:
  export KUBECONFIG=$(underpass lab kubeconfig)
`,
  check: `Tests whether this machine can run a lab, as the user that you are, and names the fix for what is missing.
Exits with 2 when it cannot.

Usage: underpass lab check
`,
  demo: `Gives a tour in a lab of its own: a small shop in the clear, in the mesh, and under a policy. Every claim is
checked, on captured packets and in the access logs; the exit status tells whether all held.

Usage: underpass lab demo
`,
  down: `Ends the lab that runs and removes everything that it made.

Usage: underpass lab down
`
}

/** Throws {@link UsageError}. */
export function parseCommand(words: readonly string[]): LabCommand {
  const [verb = 'help', ...rest] = words
  // What follows belongs to another program.
  if (verb === 'kubectl') return { verb, words: rest }
  const beforeCommand = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest
  if (verb === 'help' || verb === '--help' || verb === '-h') return { verb: 'help', topic: rest[0] ?? '' }
  if (usage[verb] === undefined)
    throw new UsageError(`there is no command "${verb}"; see "underpass lab --help"`)
  if (beforeCommand.some(word => word === '--help' || word === '-h')) return { verb: 'help', topic: verb }
  switch (verb) {
    case 'up':
      return parseUp(rest)
    case 'exec':
      return parseExec(rest)
    case 'status':
      return parseStatus(rest)
    case 'check':
    case 'kubeconfig':
    case 'demo':
    case 'down':
      parse(verb, rest, {})
      return { verb }
    default:
      throw new UsageError(`there is no command "${verb}"; see "underpass lab --help"`)
  }
}

function parseUp(words: readonly string[]): LabCommand {
  const { values } = parse('up', words, {
    filename: { type: 'string', short: 'f', multiple: true },
    nodes: { type: 'string', default: '2' },
    detach: { type: 'boolean', default: false },
    'run-commands': { type: 'string', default: 'allow-list' },
    mesh: { type: 'boolean', default: true },
    internet: { type: 'boolean', default: false }
  })
  const nodes = String(values['nodes'])
  if (!/^[1-9]$/.test(nodes)) throw new UsageError(`--nodes ${nodes}: expected a number from 1 to 9`)
  const runCommands = commandModes.find(mode => mode === values['run-commands'])
  if (runCommands === undefined) {
    throw new UsageError(
      `--run-commands ${String(values['run-commands'])}: expected ${commandModes.join(', ')}`
    )
  }
  return {
    verb: 'up',
    manifests: (values['filename'] ?? []) as string[],
    nodes: Number(nodes),
    detach: values['detach'] === true,
    mesh: values['mesh'] === true,
    internet: values['internet'] === true,
    runCommands
  }
}

function parseExec(words: readonly string[]): LabCommand {
  const at = words.indexOf('--')
  const command = at === -1 ? [] : words.slice(at + 1)
  const { values, positionals } = parse(
    'exec',
    at === -1 ? words : words.slice(0, at),
    {
      namespace: { type: 'string', short: 'n', default: 'default' },
      container: { type: 'string', short: 'c' },
      // kubectl's habit: here a terminal is passed on without being asked for.
      stdin: { type: 'boolean', short: 'i' },
      tty: { type: 'boolean', short: 't' }
    },
    true
  )
  const [target, ...more] = positionals
  if (target === undefined) throw new UsageError('exec: name a pod or a deployment')
  if (command.length === 0 || more.length > 0) {
    throw new UsageError(
      `exec: put the command after "--", for example: exec ${target} -- curl -s http://web/`
    )
  }
  return {
    verb: 'exec',
    namespace: String(values['namespace']),
    target,
    container: values['container'] as string | undefined,
    command
  }
}

function parseStatus(words: readonly string[]): LabCommand {
  const { values } = parse('status', words, { output: { type: 'string', short: 'o', default: 'table' } })
  if (values['output'] !== 'table' && values['output'] !== 'json') {
    throw new UsageError(`-o ${String(values['output'])}: expected table or json`)
  }
  return { verb: 'status', json: values['output'] === 'json' }
}

function parse(
  verb: string,
  words: readonly string[],
  options: NonNullable<ParseArgsConfig['options']>,
  allowPositionals = false
): { values: Readonly<Record<string, unknown>>; positionals: readonly string[] } {
  try {
    const { values, positionals } = parseArgs({
      args: [...words],
      options,
      allowPositionals,
      allowNegative: true,
      strict: true
    })
    return { values, positionals }
  } catch (error) {
    const [message = ''] = (error as Error).message.split('. ')
    throw new UsageError(`${verb}: ${message}; see "underpass lab ${verb} --help"`)
  }
}
