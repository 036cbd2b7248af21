import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { trimHeaps } from '../net/ffi.ts'

/** After a collection V8 frees buffers on another thread, and only then they are the C library's to return. */
const FREED_AFTER_MS = 200

/**
 * Collects this thread's garbage now and returns the pages to the system. For after much has been read once: an idle
 * program allocates so little afterwards that V8 would keep that garbage for ever. Takes about 1 ms per MB that lives.
 */
export function giveBackMemory(): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as (options: {
    type: string
    execution: string
    flavor: string
  }) => unknown
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
  setTimeout(trimHeaps, FREED_AFTER_MS).unref()
}

/** Gives memory back when whatever took it is likely over; asked again meanwhile, it waits anew. */
export class MemoryReturn {
  readonly #delayMs: number
  #timer: NodeJS.Timeout | undefined

  constructor(delayMs: number) {
    this.#delayMs = delayMs
  }

  soon(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(giveBackMemory, this.#delayMs).unref()
  }
}
