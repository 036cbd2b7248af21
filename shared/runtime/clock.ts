/** Time as a dependency, so that tests can turn the clock. */

export interface Clock {
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

export const systemClock: Clock = { now: () => Date.now() }

/** For durations: milliseconds since some moment, by a clock that only goes forward, whatever the time is set to. */
export const steadyClock: Clock = { now: () => performance.now() }

/** Resolves after `ms`, or at once when the signal aborts (then with false). Never keeps the process alive. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<boolean> {
  if (signal?.aborted) return false
  return new Promise(resolve => {
    const timer = setTimeout(() => finish(true), ms)
    timer.unref()
    const onAbort = (): void => finish(false)
    const finish = (slept: boolean): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      resolve(slept)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
