/** Those who watch connections live (`POST /v1/tap`): filters, bounded queues, losses counted and told. */
import { HttpProblem, type StreamedAnswer, type StreamSink } from '../shared/runtime/admin-http.ts'
import type { ConnectionEvent, EventEndpoint } from '../shared/telemetry/connection-events.ts'

/** What the body of a request may ask for; absent fields match everything. */
export interface EventFilter {
  readonly kinds?: readonly ConnectionEvent['kind'][]
  readonly direction?: 'inbound' | 'outbound'
  /** Either end's namespace. */
  readonly namespace?: string
  /** Either end's workload name. */
  readonly workload?: string
  readonly source?: EndpointFilter
  readonly destination?: EndpointFilter
  /** Host name of the service that was asked for. */
  readonly service?: string
  /** Events a second; more are left out and counted as lost. Default 100. */
  readonly maxPerSecond?: number
}

export interface EndpointFilter {
  readonly namespace?: string
  readonly workload?: string
  readonly identity?: string
}

const MOST_WATCHERS = 16
const MOST_WAITING = 1000
const LONGEST_MS = 15 * 60_000

export class Watchers {
  readonly #watchers = new Set<Watcher>()
  readonly #onActive: (active: boolean) => void

  /** `onActive` tells when the first watcher comes and the last one goes. */
  constructor(onActive: (active: boolean) => void) {
    this.#onActive = onActive
  }

  /** Events from a worker, and how many of them it had to leave out. */
  publish(events: readonly ConnectionEvent[], lost: number): void {
    for (const watcher of this.#watchers) watcher.take(events, lost)
  }

  /** The endless answer to one watcher. It ends after 15 minutes at the latest. */
  watch(body: unknown): StreamedAnswer {
    const filter = parseFilter(body)
    if (this.#watchers.size === MOST_WATCHERS)
      throw new HttpProblem(503, `${MOST_WATCHERS} others are watching already`)
    return {
      contentType: 'application/x-ndjson',
      run: async (sink, signal) => {
        const watcher = new Watcher(filter)
        this.#watchers.add(watcher)
        if (this.#watchers.size === 1) this.#onActive(true)
        try {
          await watcher.run(sink, AbortSignal.any([signal, AbortSignal.timeout(LONGEST_MS)]))
        } finally {
          this.#watchers.delete(watcher)
          if (this.#watchers.size === 0) this.#onActive(false)
        }
      }
    }
  }
}

class Watcher {
  readonly #filter: EventFilter
  #waiting: ConnectionEvent[] = []
  #lost = 0
  #second = 0
  #inSecond = 0
  #wake: (() => void) | undefined

  constructor(filter: EventFilter) {
    this.#filter = filter
  }

  take(events: readonly ConnectionEvent[], lost: number): void {
    this.#lost += lost
    for (const event of events) {
      if (!matches(this.#filter, event)) continue
      if (this.#waiting.length >= MOST_WAITING || this.#overRate(event.time)) this.#lost += 1
      else this.#waiting.push(event)
    }
    this.#wake?.()
  }

  async run(sink: StreamSink, signal: AbortSignal): Promise<void> {
    const onAbort = (): void => this.#wake?.()
    signal.addEventListener('abort', onAbort, { once: true })
    while (!signal.aborted) {
      const lines = this.#waiting.map(event => `${JSON.stringify(event)}\n`)
      if (this.#lost > 0) lines.push(`${JSON.stringify({ lost: this.#lost })}\n`)
      this.#waiting = []
      this.#lost = 0
      if (lines.length > 0 && !sink.write(lines.join(''))) await sink.drained()
      if (this.#waiting.length > 0 || this.#lost > 0 || signal.aborted) continue
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  #overRate(time: number): boolean {
    const second = Math.floor(time / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#inSecond = 0
    }
    this.#inSecond += 1
    return this.#inSecond > (this.#filter.maxPerSecond ?? 100)
  }
}

export function matches(filter: EventFilter, event: ConnectionEvent): boolean {
  const { source, destination } = event
  const either = (key: 'namespace' | 'workload', wanted: string | undefined): boolean =>
    wanted === undefined || source[key] === wanted || destination[key] === wanted
  return (
    (filter.kinds === undefined || filter.kinds.includes(event.kind)) &&
    (filter.direction === undefined || filter.direction === event.direction) &&
    (filter.service === undefined || filter.service === event.service) &&
    either('namespace', filter.namespace) &&
    either('workload', filter.workload) &&
    endpointMatches(filter.source, source) &&
    endpointMatches(filter.destination, destination)
  )
}

function endpointMatches(filter: EndpointFilter | undefined, endpoint: EventEndpoint): boolean {
  if (filter === undefined) return true
  return (['namespace', 'workload', 'identity'] as const).every(
    key => filter[key] === undefined || filter[key] === endpoint[key]
  )
}

const texts = ['namespace', 'workload', 'service'] as const
const kinds: readonly string[] = ['opened', 'closed', 'refused'] satisfies ConnectionEvent['kind'][]

/** Throws an HttpProblem 400 that names the field. */
export function parseFilter(body: unknown): EventFilter {
  if (body === undefined) return {}
  const filter = record(body, 'the body')
  const known = [...texts, 'kinds', 'direction', 'source', 'destination', 'maxPerSecond']
  for (const key of Object.keys(filter)) {
    if (!known.includes(key)) throw new HttpProblem(400, `${key} is no filter; there are ${known.join(', ')}`)
  }
  for (const key of texts) requireText(filter[key], key)
  for (const end of ['source', 'destination'] as const) {
    if (filter[end] === undefined) continue
    for (const [key, value] of Object.entries(record(filter[end], end))) {
      if (!['namespace', 'workload', 'identity'].includes(key))
        throw new HttpProblem(400, `${end}.${key} is no filter`)
      requireText(value, `${end}.${key}`)
    }
  }
  const { direction, maxPerSecond, kinds: wanted } = filter
  if (direction !== undefined && direction !== 'inbound' && direction !== 'outbound') {
    throw new HttpProblem(400, 'direction is inbound or outbound')
  }
  if (maxPerSecond !== undefined && !(Number.isInteger(maxPerSecond) && (maxPerSecond as number) > 0)) {
    throw new HttpProblem(400, 'maxPerSecond is a whole number from 1')
  }
  if (
    wanted !== undefined &&
    !(Array.isArray(wanted) && wanted.every(kind => kinds.includes(kind as string)))
  ) {
    throw new HttpProblem(400, `kinds is a list of ${kinds.join(', ')}`)
  }
  return filter
}

function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  throw new HttpProblem(400, `${name} is an object`)
}

function requireText(value: unknown, name: string): void {
  if (value !== undefined && typeof value !== 'string') throw new HttpProblem(400, `${name} is text`)
}
