/** Runs a program of the system inside a network namespace: a child process is born where its parent's thread is. */
import { spawn } from 'node:child_process'
import { closeSync, writeSync } from 'node:fs'
import { check, libc } from '../shared/net/ffi.ts'
import { inNetns } from '../shared/net/netns.ts'

const timeoutMs = 20_000
const maxOutputBytes = 4 << 20

export interface CommandOptions {
  /** What the program reads. */
  readonly input?: string
  /** A descriptor of ours that the program has as its number 3. */
  readonly descriptor?: number
}

export interface CommandResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** A program that failed or is missing; the text has its words. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly missing: boolean

  constructor(program: string, detail: string, missing = false) {
    super(`${program}: ${detail}`)
    this.missing = missing
  }
}

/** Resolves whatever the program answers; throws {@link CommandError} when it cannot run or takes too long. */
export async function runCommand(
  netns: number | undefined,
  program: string,
  parameters: readonly string[],
  { input = '', descriptor }: CommandOptions = {}
): Promise<CommandResult> {
  const stdin = input === '' ? undefined : inputFile(input)
  const start = (): ReturnType<typeof spawn> =>
    spawn(program, parameters, {
      stdio: [stdin ?? 'ignore', 'pipe', 'pipe', ...(descriptor === undefined ? [] : [descriptor])]
    })
  let child: ReturnType<typeof spawn>
  try {
    child = netns === undefined ? start() : inNetns(netns, start)
  } finally {
    if (stdin !== undefined) closeSync(stdin)
  }
  return new Promise((resolve, reject) => {
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        output[name] += text
        if (output[name].length > maxOutputBytes) child.kill('SIGKILL')
      })
    }
    // Not spawn's own option: its timer outlives a program that cannot be started.
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer)
      const missing = error.code === 'ENOENT'
      reject(new CommandError(program, missing ? 'not installed on this machine' : error.message, missing))
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (signal === null) resolve({ code: code ?? -1, ...output })
      else reject(new CommandError(program, `ended by ${signal} (at most ${timeoutMs / 1000} s are allowed)`))
    })
  })
}

/** A nameless file in memory to read from: some programs (nft) cannot read the socket that Node makes of an input. */
function inputFile(input: string): number {
  const file = check('memfd_create', libc.memfd_create('input', 0))
  writeSync(file, input, 0) // by position, so that the reader starts at the beginning
  return file
}

/** As {@link runCommand}, but throws {@link CommandError} with what the program complained about. */
export async function mustRun(
  netns: number | undefined,
  program: string,
  parameters: readonly string[],
  options: CommandOptions = {}
): Promise<string> {
  const { code, stdout, stderr } = await runCommand(netns, program, parameters, options)
  if (code === 0) return stdout
  const words = stderr.trim().split('\n').slice(0, 4).join('; ')
  throw new CommandError(
    `${program} ${parameters.join(' ').slice(0, 100)}`,
    words === '' ? `ended with ${code}` : words
  )
}
