/** Ctrl-C and SIGTERM end a benchmark in order: what is being measured is given up, what was made is removed. */

const controller = new AbortController()

/** Aborts when somebody wants the benchmark to end. */
export const interrupted: AbortSignal = controller.signal

/** From here on signals no longer kill this process; whoever calls this ends soon after {@link interrupted}. */
export function endInOrder(): void {
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (!interrupted.aborted) process.stderr.write('\nbench: ending, one moment\n')
      process.exitCode = 130
      controller.abort(new Error('interrupted'))
    })
  }
}
