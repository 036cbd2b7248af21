/** Events of connections on their way from a worker to whoever watches: gathered, bounded, losses counted. */
import type { ConnectionEvent, EventSink } from '../shared/telemetry/connection-events.ts'

const MOST_WAITING = 1000
const FLUSH_MS = 50

export class EventOutbox implements EventSink {
  active = false
  readonly #send: (events: readonly ConnectionEvent[], lost: number) => void
  #waiting: ConnectionEvent[] = []
  #lost = 0
  #timer: NodeJS.Timeout | undefined

  constructor(send: (events: readonly ConnectionEvent[], lost: number) => void) {
    this.#send = send
  }

  emit(event: ConnectionEvent): void {
    if (!this.active) return
    if (this.#waiting.length === MOST_WAITING) this.#lost += 1
    else this.#waiting.push(event)
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#flush(), FLUSH_MS)
  }

  #flush(): void {
    this.#timer = undefined
    this.#send(this.#waiting, this.#lost)
    this.#waiting = []
    this.#lost = 0
  }
}
