/**
 * The receive window of a whole connection: what the peer may still send, and when it is told that it may send more.
 *
 * Unread bytes are bounded by two windows: one that the peer may send, one that was credited while streams
 * waited to be read. So up to seven stalled readers with full windows hold up nobody else.
 */
export class ReceiveCredit {
  /** Bytes that the peer may still send. */
  #open: number
  /** Received since the last WINDOW_UPDATE. */
  #uncredited = 0
  /** Received and not yet taken by a sink. */
  #unread = 0
  readonly #window: number
  readonly #send: (credit: number) => void

  /** `window` in bytes; `send` tells the peer that it may send that many more. */
  constructor(window: number, send: (credit: number) => void) {
    this.#window = window
    this.#open = window
    this.#send = send
  }

  get open(): number {
    return this.#open
  }

  /** The length of a DATA frame that has arrived; false when the peer sent more than it may. */
  take(flowLength: number): boolean {
    if (flowLength > this.#open) return false
    this.#open -= flowLength
    this.#uncredited += flowLength
    this.#unread += flowLength
    this.#return()
    return true
  }

  /** Bytes that have left our memory. */
  consumed(bytes: number): void {
    this.#unread -= bytes
    this.#return()
  }

  /** Gives back what no longer counts: all but what waits unread beyond a whole window. */
  #return(): void {
    const credit = this.#uncredited - Math.max(0, this.#unread - this.#window)
    // In halves, to save frames; in smaller pieces while stalled readers keep the window narrow.
    if (credit < this.#window / 2) {
      if (this.#open > this.#window / 4 || credit < this.#window / 64) return
    }
    this.#uncredited -= credit
    this.#open += credit
    this.#send(credit)
  }
}
