/**
 * A body on its way to an attempt that may fail: what has been sent is kept while it is little, so that it can be sent
 * again. Nothing is held back for it.
 */
import type { BodySink } from './body.ts'
import type { HeaderList } from './header-list.ts'

/** Shared by all: how much may be kept at once, bytes. */
export interface ReplayBudget {
  left: number
}

/** Of one body, bytes. */
const maxKept = 64 * 1024

/** What keeping a chunk costs beside its bytes: a client may send single ones. */
const chunkCost = 128

type End =
  | { readonly kind: 'end'; readonly trailers: HeaderList | undefined }
  | { readonly kind: 'failure'; readonly error: Error }

export class ReplayBuffer implements BodySink {
  readonly #budget: ReplayBudget
  #kept: Buffer[] = []
  #bytes = 0
  /** Of the budget. */
  #cost = 0
  #replayable = true
  #end: End | undefined
  #writer: BodySink | undefined

  constructor(budget: ReplayBudget) {
    this.#budget = budget
  }

  /** All that came is kept. */
  get replayable(): boolean {
    return this.#replayable && this.#end?.kind !== 'failure'
  }

  /** From its beginning. Only while {@link replayable}, and never to two at once. */
  sendTo(writer: BodySink): void {
    this.#writer = writer
    for (const chunk of this.#kept) writer.data(chunk)
    if (this.#bytes > maxKept) this.forget()
    this.#finish()
  }

  /** What comes from now on waits for the next one. */
  detach(): void {
    this.#writer = undefined
  }

  /** It will not be sent again. */
  forget(): void {
    this.#budget.left += this.#cost
    this.#bytes = this.#cost = 0
    this.#kept = []
    this.#replayable = false
  }

  data(bytes: Buffer): boolean {
    if (this.#replayable) this.#keep(bytes)
    return this.#writer?.data(bytes) ?? false
  }

  end(trailers?: HeaderList): void {
    this.#end = { kind: 'end', trailers }
    this.#finish()
  }

  fail(error: Error): void {
    this.#end = { kind: 'failure', error }
    this.#finish()
  }

  #keep(bytes: Buffer): void {
    const cost = bytes.length + chunkCost
    const total = this.#bytes + bytes.length
    // Between two attempts what has been read already has no other place.
    if (this.#writer !== undefined && (total > maxKept || cost > this.#budget.left)) return this.forget()
    // A little part of a large buffer would keep all of it.
    this.#kept.push(bytes.length * 2 < bytes.buffer.byteLength ? Buffer.from(bytes) : bytes)
    this.#bytes = total
    this.#cost += cost
    this.#budget.left -= cost
  }

  #finish(): void {
    if (this.#end?.kind === 'end') this.#writer?.end(this.#end.trailers)
    else if (this.#end !== undefined) this.#writer?.fail(this.#end.error)
  }
}
