/** Work that has so much time and no more. */

/** Rejects with the signal's reason, or for the time; also where the work does not mind its signal. */
export async function within<T>(
  timeoutMs: number,
  signal: AbortSignal,
  work: (ending: AbortSignal) => Promise<T>
): Promise<T> {
  signal.throwIfAborted()
  const ending = new AbortController()
  const { promise: cut, reject } = Promise.withResolvers<never>()
  const end = (reason: unknown): void => {
    ending.abort(reason)
    reject(reason)
  }
  const onAbort = (): void => end(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  const timer = setTimeout(() => end(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs)
  timer.unref()
  try {
    return await Promise.race([work(ending.signal), cut])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}
