/** Log lines on their way from a worker to the one output of the process: gathered, so that a line costs no message. */
import type { LineSink } from '../shared/telemetry/logger.ts'

/** Text beyond this leaves at once. */
const FLUSH_CHARACTERS = 64 << 10
const FLUSH_MS = 5

export class LineOutbox implements LineSink {
  readonly #send: (lines: string) => void
  #waiting = ''
  #timer: NodeJS.Timeout | undefined

  constructor(send: (lines: string) => void) {
    this.#send = send
  }

  write(line: string): void {
    this.#waiting += line
    if (this.#waiting.length > FLUSH_CHARACTERS) this.flush()
    else this.#timer ??= setTimeout(() => this.flush(), FLUSH_MS)
  }

  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#waiting === '') return
    this.#send(this.#waiting)
    this.#waiting = ''
  }
}
