/** Runs a program for its exit code alone. */
import { spawn } from 'node:child_process'

/** Resolves to the exit code, 128 + n for a signal; 127 when it cannot be started. Killed when the signal aborts. */
export function runProgram([command = '', ...args]: readonly string[], signal: AbortSignal): Promise<number> {
  return new Promise(resolve => {
    const child = spawn(command, args, { stdio: 'ignore' })
    const kill = (): void => {
      child.kill('SIGKILL')
    }
    signal.addEventListener('abort', kill, { once: true })
    const finish = (code: number): void => {
      signal.removeEventListener('abort', kill)
      resolve(code)
    }
    child.once('error', () => finish(127))
    child.once('exit', (code, killedBy) => finish(code ?? (killedBy === 'SIGKILL' ? 137 : 143)))
  })
}
