/** Waiting that keeps the process alive, for commands that have nothing else to do meanwhile. */
import { setTimeout as pause } from 'node:timers/promises'

/** Resolves to true after `ms`, to false at once when the signal aborts. */
export async function wait(ms: number, signal?: AbortSignal): Promise<boolean> {
  if (signal?.aborted) return false
  try {
    await pause(ms, undefined, signal === undefined ? {} : { signal })
    return true
  } catch {
    // Only the signal ends a pause early.
    return false
  }
}
