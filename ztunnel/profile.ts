/** CPU and heap profiles of the calling thread, in the JSON form that Chrome DevTools, VS Code and speedscope open. */

/** Samples for `seconds`, `frequency` times a second. */
export async function cpuProfile(seconds: number, frequency: number): Promise<string> {
  const { Session } = await import('node:inspector/promises') // loaded by those who profile only
  const session = new Session()
  session.connect()
  try {
    await session.post('Profiler.enable')
    await session.post('Profiler.setSamplingInterval', { interval: Math.round(1_000_000 / frequency) })
    await session.post('Profiler.start')
    await new Promise(resolve => setTimeout(resolve, seconds * 1000))
    const { profile } = await session.post('Profiler.stop')
    return JSON.stringify(profile)
  } finally {
    session.disconnect()
  }
}

/** What is allocated now, by allocation site, sampled over the next second of work. */
export async function heapProfile(): Promise<string> {
  const { Session } = await import('node:inspector/promises')
  const session = new Session()
  session.connect()
  try {
    await session.post('HeapProfiler.enable')
    await session.post('HeapProfiler.startSampling', { samplingInterval: 16_384 })
    await new Promise(resolve => setTimeout(resolve, 1000))
    const { profile } = await session.post('HeapProfiler.stopSampling')
    return JSON.stringify(profile)
  } finally {
    session.disconnect()
  }
}
