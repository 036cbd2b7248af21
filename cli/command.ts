/** What a command of the CLI is: data that help, completion and reference are made from, and a function. */
import type { KubeClient } from '../shared/kube/client.ts'

/** How the CLI meets its surroundings. Tests give their own. */
export interface CliIo {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  readonly env: Readonly<Record<string, string | undefined>>
  /** Whether people read `out`: then there is colour, and a watch clears the screen. */
  readonly terminal: boolean
  /** Empties the terminal. */
  readonly clear: () => void
  /** Columns of the terminal. */
  readonly width: number
  /** Aborts when the user interrupts. */
  readonly signal: AbortSignal
  readonly now: () => number
  /** Standard input, to its end. */
  readonly readInput: () => Promise<string>
  /** Runs a program with this one's input and outputs; resolves to its exit code. */
  readonly spawn: (command: string, args: readonly string[]) => Promise<number>
}

/** 0 ok, 1 usage or failure, 2 checks found errors, 3 partial result. */
export type ExitCode = 0 | 1 | 2 | 3

export interface OptionSpec {
  /** As commander writes them: `-n, --namespace <name>`. */
  readonly flags: string
  readonly help: string
  readonly choices?: readonly string[]
  readonly fallback?: string
  /** May be given several times. */
  readonly repeatable?: boolean
  /** Works, but is not shown: the spelling of another tool. */
  readonly hidden?: boolean
}

export interface ArgumentSpec {
  readonly name: string
  readonly help: string
  readonly required?: boolean
  readonly variadic?: boolean
  /** What completion offers as the first word. */
  readonly offered?: readonly string[]
}

export interface Example {
  readonly what: string
  /** Without the program's name. */
  readonly command: string
}

interface CommandBase {
  readonly name: string
  readonly aliases?: readonly string[]
  /** One line. */
  readonly summary: string
  /** Paragraphs below the summary. */
  readonly description?: string
  readonly examples: readonly Example[]
}

export interface LeafCommand extends CommandBase {
  readonly arguments?: readonly ArgumentSpec[]
  readonly options: readonly OptionSpec[]
  /** Everything behind the name goes to `run` unread. */
  readonly passThrough?: boolean
  /** An {@link ExitCode}, or that of a program which was run instead. */
  readonly run: (invocation: Invocation) => Promise<number>
}

export interface CommandGroup extends CommandBase {
  readonly commands: readonly LeafCommand[]
}

export type CommandSpec = LeafCommand | CommandGroup

export function isGroup(command: CommandSpec): command is CommandGroup {
  return 'commands' in command
}

/** One call of a command: its words, checked by the declarations above. */
export interface Invocation {
  readonly io: CliIo
  readonly args: readonly string[]
  /** Value of an option by its long name, such as `workload-namespace`. */
  readonly text: (option: string) => string | undefined
  readonly flag: (option: string) => boolean
  readonly list: (option: string) => readonly string[]
  readonly paint: (colour: Colour, text: string) => string
  /** The cluster of `--kubeconfig` and `--context`; connected at the first use. */
  readonly client: () => Promise<KubeClient>
  /** Limit of each request, in milliseconds. */
  readonly timeoutMs: number
}

export type Colour = 'red' | 'green' | 'yellow' | 'dim' | 'bold'

/** Words that do not fit the command; printed with a pointer to `--help`. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

/** Something that the user can mend; the text says how. */
export class CommandFailure extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'CommandFailure'
  }
}
