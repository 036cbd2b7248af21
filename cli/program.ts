/**
 * The command line: finds the verb, loads its file, checks its words and runs it. The only file that imports
 * commander.
 */
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { parseDuration } from '../shared/runtime/env.ts'
import type { KubeClient } from '../shared/kube/client.ts'
import {
  isGroup,
  UsageError,
  type CliIo,
  type Colour,
  type CommandSpec,
  type Invocation,
  type LeafCommand,
  type OptionSpec
} from './command.ts'
import { describeFailure } from './failure.ts'
import { colourOption } from './options.ts'
import { printable } from './table.ts'
import { findVerb, verbs } from './verbs.ts'
import { repeat } from './watch.ts'

const summary = 'Looks into and works with an Underpass mesh.'

const exitCodes = `Exit codes: 0 fine, 1 usage or failure, 2 checks found errors, 3 some agents did not answer.`

/** Runs one command line (without the program's name) and returns the exit code. Never throws, never prints a stack. */
export async function runCli(words: readonly string[], outer: CliIo): Promise<number> {
  const io: CliIo = {
    ...outer,
    out: text => outer.out(printable(text)),
    err: text => outer.err(printable(text))
  }
  let code = 0
  try {
    const asked =
      words.length === 1 && /^(-V|--version)$/.test(words[0] ?? '') ? ['version', '--client'] : [...words]
    const program = await buildProgram(asked, io, result => {
      code = result
    })
    await program.parseAsync(asked, { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 1
    if (io.signal.aborted) return 1
    io.err(describeFailure(error))
    return 1
  }
}

async function buildProgram(
  words: readonly string[],
  io: CliIo,
  finished: (code: number) => void
): Promise<Command> {
  const program: Command = base(new Command('underpass'), io)
  program
    .description(summary)
    .helpCommand('help [command]', 'explain a command')
    .addHelpText('after', `\n${exitCodes}\nMore about a command: underpass <command> --help`)
    .allowExcessArguments()
    .action(() => unknownWord(program, verbs))
    .option('-V, --version', 'as `underpass version --client`')
  const wanted = wantedVerb(words)
  for (const verb of verbs) {
    if (verb !== wanted) {
      base(program.command(verb.name), io)
        .aliases([...verb.aliases])
        .summary(verb.summary)
      continue
    }
    const { command } = await verb.load()
    addCommand(program, command, io, finished)
  }
  return program
}

/** The first word that is no option, also behind `help`. */
function wantedVerb(words: readonly string[]) {
  const names = words.filter(word => !word.startsWith('-'))
  const name = names[0] === 'help' ? names[1] : names[0]
  return name === undefined ? undefined : findVerb(name)
}

function addCommand(parent: Command, spec: CommandSpec, io: CliIo, finished: (code: number) => void): void {
  const command = base(parent.command(spec.name), io)
    .aliases([...(spec.aliases ?? [])])
    .summary(spec.summary)
    .description(spec.description === undefined ? sentence(spec.summary) : unwrapped(spec.description))
    .addHelpText('after', examplesText(spec))
  if (isGroup(spec)) {
    command
      .helpCommand(false)
      .allowExcessArguments()
      .action(() => unknownWord(command, spec.commands))
    for (const inner of spec.commands) addCommand(command, inner, io, finished)
    return
  }
  command.allowExcessArguments(false)
  for (const { name, help, required, variadic } of spec.arguments ?? []) {
    const text = variadic === true ? `${name}...` : name
    command.addArgument(new Argument(required === true ? `<${text}>` : `[${text}]`, help))
  }
  for (const option of [...spec.options, colourOption]) command.addOption(commanderOption(option))
  if (spec.passThrough === true) {
    parent.enablePositionalOptions()
    command.allowUnknownOption().allowExcessArguments().passThroughOptions().helpOption(false)
  }
  command.action(async () => {
    const code = await runLeaf(spec, command, io)
    finished(code)
  })
}

async function runLeaf(spec: LeafCommand, command: Command, io: CliIo): Promise<number> {
  const { invocation, close } = invocationOf(command, io)
  try {
    const watch = command.getOptionValue('watch') as string | true | undefined
    if (watch === undefined) return await spec.run(invocation)
    return await repeat(invocation, watch === true ? '2s' : watch, spec.run)
  } catch (error) {
    if (error instanceof UsageError) {
      command.error(`error: ${error.message}`)
    }
    throw error
  } finally {
    await close()
  }
}

function invocationOf(command: Command, io: CliIo): { invocation: Invocation; close: () => Promise<void> } {
  const value = (name: string): unknown => command.getOptionValue(camelCase(name))
  const text = (name: string): string | undefined => {
    const found = value(name)
    return typeof found === 'string' ? found : undefined
  }
  let connected: Promise<KubeClient> | undefined
  const coloured =
    text('color') === 'always' || (text('color') !== 'never' && io.terminal && !io.env['NO_COLOR'])
  const invocation: Invocation = {
    io,
    args: command.args,
    text,
    flag: name => value(name) === true,
    list: name => {
      const found = value(name)
      return Array.isArray(found) ? (found as string[]) : []
    },
    paint: (colour, plain) => (coloured ? `\u001b[${codes[colour]}m${plain}\u001b[0m` : plain),
    client: () => (connected ??= connect(text, io)),
    timeoutMs: durationOf(text('timeout'))
  }
  const close = async (): Promise<void> => {
    const client = await connected?.catch(() => undefined) // its failure was reported where it was used
    client?.close()
  }
  return { invocation, close }
}

const codes: Readonly<Record<Colour, number>> = { red: 31, green: 32, yellow: 33, dim: 2, bold: 1 }

/** Loaded late: help and completion need no cluster. */
async function connect(text: (name: string) => string | undefined, io: CliIo): Promise<KubeClient> {
  const [{ KubeClient }, { loadKubeConfig, kubeConfigSource }] = await Promise.all([
    import('../shared/kube/client.ts'),
    import('../shared/kube/config.ts')
  ])
  const source = kubeConfigSource(io.env)
  const kubeconfig = text('kubeconfig') ?? source.kubeconfig
  return new KubeClient(await loadKubeConfig({ ...source, kubeconfig, context: text('context') }))
}

function durationOf(text: string | undefined): number {
  const duration = parseDuration(text ?? '15s')
  if (duration === undefined || duration <= 0) {
    throw new UsageError(`--timeout ${JSON.stringify(text)}: expected a duration such as 500ms, 15s or 2m`)
  }
  return duration
}

function commanderOption(spec: OptionSpec): Option {
  const option = new Option(spec.flags, spec.help)
  if (spec.choices !== undefined) option.choices([...spec.choices])
  if (spec.fallback !== undefined) option.default(spec.fallback)
  if (spec.hidden === true) option.hideHelp()
  if (spec.repeatable === true) {
    option.argParser((value: string, previous: readonly string[] | undefined) => {
      if (spec.choices?.includes(value) === false) {
        throw new InvalidArgumentError(`Allowed choices are ${spec.choices.join(', ')}.`)
      }
      return [...(previous ?? []), value]
    })
  }
  return option
}

/** What every level of the tree has in common: errors are thrown, output goes through `io`. */
function base(command: Command, io: CliIo): Command {
  return command
    .exitOverride()
    .showSuggestionAfterError()
    .showHelpAfterError(`See '${pathOf(command)} --help'.`)
    .configureOutput({
      writeOut: io.out,
      writeErr: io.err,
      getOutHelpWidth: () => io.width,
      getErrHelpWidth: () => io.width
    })
}

function examplesText(spec: CommandSpec): string {
  if (spec.examples.length === 0) return ''
  const lines = spec.examples.map(({ what, command }) => `  # ${what}\n  underpass ${command}`)
  return `\nExamples:\n${lines.join('\n\n')}`
}

/** Handles a word where a command should stand, or none. */
function unknownWord(command: Command, known: readonly { readonly name: string }[]): void {
  const [word] = command.args
  if (word === undefined) return command.help({ error: command.parent !== null })
  const close = known.find(({ name }) => name.startsWith(word.slice(0, 3)))
  const hint =
    close === undefined
      ? `there are: ${known.map(({ name }) => name).join(', ')}`
      : `did you mean ${close.name}?`
  return command.error(`error: unknown command '${word}' (${hint})`)
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`
}

function camelCase(name: string): string {
  return name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
}

/** Paragraphs of the source are broken where its lines end; help breaks them where the terminal ends. */
function unwrapped(text: string): string {
  return text.replaceAll(/(?<!\n)\n(?!\n)/g, ' ')
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}
