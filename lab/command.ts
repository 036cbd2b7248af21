/** Runs a program to its end. What it prints on stderr becomes the error's text. */
import { spawn } from 'node:child_process'

export interface CommandOptions {
  readonly input?: string
  readonly env?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

export class CommandError extends Error {
  readonly command: string
  readonly exitCode: number | undefined

  constructor(command: string, exitCode: number | undefined, text: string, options?: { cause?: unknown }) {
    super(`${command}: ${text}`, options)
    this.name = 'CommandError'
    this.command = command
    this.exitCode = exitCode
  }
}

/** Resolves to what the program printed on stdout; throws {@link CommandError} when it fails. */
export async function run(
  command: string,
  args: readonly string[],
  options: CommandOptions = {}
): Promise<string> {
  const { input = '', env, signal } = options
  const child = spawn(command, args, {
    stdio: 'pipe',
    ...(env === undefined ? {} : { env }),
    ...(signal === undefined ? {} : { signal })
  })
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
  // A program that ends without reading its input (EPIPE) is judged by its exit code.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  return new Promise((resolve, reject) => {
    child.once('error', error =>
      reject(new CommandError(command, undefined, error.message, { cause: error }))
    )
    child.once('close', (code, killedBy) => {
      if (code === 0) resolve(Buffer.concat(stdout).toString())
      else {
        const text = Buffer.concat(stderr).toString().trim()
        reject(new CommandError(command, code ?? undefined, text || `ended with ${killedBy ?? code}`))
      }
    })
  })
}
