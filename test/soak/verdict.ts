/** What a long run showed: whether anything grows that should not, and whether anything went wrong. */

export interface Sample {
  readonly residentMiB: number
  readonly descriptors: number
  readonly threads: number
}

export interface Observed {
  readonly minutes: number
  /** Before the load, with the first certificates there. */
  readonly before: Sample
  /** Under load, evenly spread over the run. */
  readonly during: readonly Sample[]
  /** When all of the load is over. */
  readonly after: Sample
  /** What was done, by name. */
  readonly did: Readonly<Record<string, number>>
  /** Answers that were not as they should be. */
  readonly wrong: readonly string[]
}

export interface Verdict {
  readonly passed: boolean
  /** Markdown. */
  readonly text: string
}

/** Growth in the second half of a run that may be the garbage collector's. */
const MEMORY_NOISE_MIB = 12
/** Sessions to pods that are still there, and files that Node opens when it likes. */
const DESCRIPTOR_NOISE = 8

export function verdictOf(observed: Observed): Verdict {
  const problems = [...leaks(observed), ...observed.wrong.slice(0, 10).map(text => `wrong: ${text}`)]
  const { minutes, did, wrong } = observed
  const verdict =
    problems.length === 0
      ? 'Nothing leaked, and no answer was wrong.'
      : `${problems.map(problem => `- ${problem}`).join('\n')}\n\n${wrong.length} wrong answers in all.`
  const work = Object.entries(did).map(([name, count]) => `${count.toLocaleString('en')} ${name}`)
  return {
    passed: problems.length === 0,
    text: `${minutes} minutes of churn: ${work.join(', ')}.\n\n${table(observed)}\n\n${verdict}`
  }
}

function leaks({ before, during, after }: Observed): string[] {
  const found: string[] = []
  const quarter = Math.floor(during.length / 4)
  // The first quarter warms up: code is compiled, caches fill.
  const early = medianMemory(during.slice(quarter, 2 * quarter))
  const late = medianMemory(during.slice(-quarter))
  if (late - early > MEMORY_NOISE_MIB)
    found.push(`memory grew by ${(late - early).toFixed(0)} MiB between the second and the last quarter`)
  if (after.descriptors > before.descriptors + DESCRIPTOR_NOISE)
    found.push(`${after.descriptors} descriptors are open afterwards, ${before.descriptors} were before`)
  if (after.threads > before.threads)
    found.push(`${after.threads} threads run afterwards, ${before.threads} did before`)
  return found
}

function table({ before, during, after }: Observed): string {
  const row = (name: string, of: (sample: Sample) => number): string => {
    const most = Math.max(...during.map(of))
    return `| ${[name, ...[of(before), most, of(after)].map(value => value.toFixed(0))].join(' | ')} |`
  }
  return [
    '| | before | most | afterwards |',
    '| --- | ---: | ---: | ---: |',
    row('resident, MiB', ({ residentMiB }) => residentMiB),
    row('descriptors', ({ descriptors }) => descriptors),
    row('threads', ({ threads }) => threads)
  ].join('\n')
}

function medianMemory(samples: readonly Sample[]): number {
  const sorted = samples.map(({ residentMiB }) => residentMiB).toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? 0
}
