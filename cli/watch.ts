/** `--watch`: the same command again and again, until it is interrupted. */
import { parseDuration } from '../shared/runtime/env.ts'
import { UsageError, type Invocation } from './command.ts'
import { describeFailure } from './failure.ts'

export async function repeat(
  invocation: Invocation,
  interval: string,
  run: (invocation: Invocation) => Promise<number>
): Promise<number> {
  const { io } = invocation
  const pause = parseDuration(interval)
  if (pause === undefined || pause < 100) {
    throw new UsageError(`--watch ${JSON.stringify(interval)}: expected a duration from 100ms, such as 2s`)
  }
  let code = 0
  while (!io.signal.aborted) {
    if (io.terminal) io.clear()
    try {
      code = await run(invocation)
    } catch (error) {
      // what fails now may work the next time: that is why one watches
      if (error instanceof UsageError || io.signal.aborted) throw error
      io.err(describeFailure(error))
      code = 1
    }
    await waiting(pause, io.signal)
  }
  return code
}

/** Keeps the process alive, unlike `sleep`: the watch is all that it does. */
export function waiting(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(finish, ms)
    signal.addEventListener('abort', finish, { once: true })
    function finish(): void {
      clearTimeout(timer)
      signal.removeEventListener('abort', finish)
      resolve()
    }
  })
}
