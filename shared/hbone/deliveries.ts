/** When tunnels tell their sinks what has arrived: never inside the parser, and gathered where more is to come. */
import type { Tunnel } from './tunnel.ts'

/** Full TLS records tell that more follows: then delivery waits for the end of the turn, to gather. */
const fullRecord = 16_384

export class Deliveries {
  #waiting: Tunnel[] = []
  #scheduled = false

  schedule(tunnel: Tunnel): void {
    this.#waiting.push(tunnel)
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#onTurn)
  }

  /** A chunk of this length has been read from the transport. */
  afterChunk(length: number): void {
    if (length < fullRecord) this.#deliver()
  }

  readonly #onTurn = (): void => {
    this.#scheduled = false
    this.#deliver()
  }

  #deliver(): void {
    if (this.#waiting.length === 0) return
    const tunnels = this.#waiting
    this.#waiting = []
    for (const tunnel of tunnels) tunnel.deliver()
  }
}
