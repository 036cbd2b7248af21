/** When tunnels tell their sinks what has arrived: never inside the parser, and gathered where more is to come. */
import type { Tunnel } from './tunnel.ts'

export class Deliveries {
  #waiting: Tunnel[] = []
  #scheduled = false

  schedule(tunnel: Tunnel): void {
    this.#waiting.push(tunnel)
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#onTurn)
  }

  /** A chunk has been read from the transport. `more`: another follows; delivery waits for the end of the turn, to gather. */
  afterChunk(more: boolean): void {
    if (!more) this.#deliver()
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
