/** A body on its way to a writer that may not be there yet or may be slow: what it has not taken waits, up to a limit. */
import type { BodySink } from './body.ts'
import type { HeaderList } from './header-list.ts'

export interface QueueLimits {
  /** Bytes that may wait; each chunk counts as {@link chunkCost} more. */
  readonly most: number
  /** What may wait of all that share this, bytes. */
  readonly shared: { left: number }
  /** There is more: nothing waits any longer, and nothing more is taken. */
  readonly onOverflow: () => void
}

/** What a chunk takes beside its bytes: a client that sends single ones must not make us keep a multitude of objects. */
const chunkCost = 128

/** Takes a whole body: whoever gives it is to see to what becomes of one that fails. */
export class QueuedBody implements Omit<BodySink, 'fail'> {
  readonly #limits: QueueLimits
  #queue: Buffer[] = []
  /** Of what waits. */
  #cost = 0
  #writer: BodySink | undefined
  #flows = false
  #end: { readonly trailers: HeaderList | undefined } | undefined
  #dropped = false

  constructor(limits: QueueLimits) {
    this.#limits = limits
  }

  /** Once. */
  sendTo(writer: BodySink): void {
    this.#writer = writer
    this.drained()
  }

  /** The writer takes more again. */
  drained(): void {
    this.#flows = true
    this.#flush()
  }

  /** Nothing of it is wanted any more. */
  drop(): void {
    this.#dropped = true
    this.#writer = undefined
    this.#limits.shared.left += this.#cost
    this.#cost = 0
    this.#queue = []
  }

  /** Never asks anybody to wait. */
  data(bytes: Buffer): boolean {
    if (this.#dropped) return true
    if (this.#flows && this.#writer !== undefined) this.#flows = this.#writer.data(bytes)
    else this.#keep(bytes)
    return true
  }

  end(trailers?: HeaderList): void {
    this.#end = { trailers }
    this.#flush()
  }

  #keep(bytes: Buffer): void {
    const { most, shared, onOverflow } = this.#limits
    const cost = bytes.length + chunkCost
    if (this.#cost + cost > most || cost > shared.left) {
      this.drop()
      return onOverflow()
    }
    this.#queue.push(bytes)
    this.#cost += cost
    shared.left -= cost
  }

  #flush(): void {
    const queue = this.#queue
    let sent = 0
    // The writer may fail over what it is given, and then it is gone.
    for (; this.#writer !== undefined && this.#flows && sent < queue.length; sent += 1) {
      const bytes = queue[sent] as Buffer
      this.#cost -= bytes.length + chunkCost
      this.#limits.shared.left += bytes.length + chunkCost
      this.#flows = this.#writer.data(bytes)
    }
    queue.splice(0, sent)
    if (queue.length > 0 || this.#end === undefined) return
    const writer = this.#writer
    this.#writer = undefined
    writer?.end(this.#end.trailers)
  }
}
