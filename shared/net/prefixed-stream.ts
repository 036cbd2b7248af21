/** Puts bytes that were read already back in front of a stream: after a look at its protocol, or behind a head. */
import type { ByteSink, ByteStream } from './byte-stream.ts'

/** The stream must be paused. */
export function withFirst(stream: ByteStream, first: Buffer): ByteStream {
  return first.length === 0 ? stream : new PrefixedStream(stream, first)
}

class PrefixedStream implements ByteStream {
  readonly exclusive = false
  readonly #stream: ByteStream
  #first: Buffer | undefined
  #sink: ByteSink | undefined
  #wanted = false
  /** What the stream said while its first bytes were not told yet. */
  #ended = false
  #closed: { readonly error: Error | undefined } | undefined

  constructor(stream: ByteStream, first: Buffer) {
    this.#stream = stream
    this.#first = first
  }

  attach(sink: ByteSink): void {
    this.#sink = sink
    if (this.#first === undefined) return this.#stream.attach(sink)
    this.#stream.attach({
      data: (chunk, more) => this.#sink?.data(chunk, more),
      end: () => {
        if (this.#first === undefined) this.#sink?.end()
        else this.#ended = true
      },
      drain: () => this.#sink?.drain(),
      close: error => {
        if (this.#first === undefined || error !== undefined) this.#sink?.close(error)
        else this.#closed = { error }
        if (error !== undefined) this.#first = undefined
      }
    })
  }

  pause(): void {
    this.#wanted = false
    this.#stream.pause()
  }

  resume(): void {
    this.#wanted = true
    if (this.#first === undefined) this.#stream.resume()
    else queueMicrotask(this.#give)
  }

  write(chunk: Buffer, disposable?: boolean): boolean {
    return this.#stream.write(chunk, disposable)
  }

  cork(): void {
    this.#stream.cork()
  }

  uncork(): void {
    this.#stream.uncork()
  }

  end(): void {
    this.#stream.end()
  }

  close(): void {
    this.#first = undefined
    this.#stream.close()
  }

  destroy(error?: Error): void {
    this.#first = undefined
    this.#stream.destroy(error)
  }

  readonly #give = (): void => {
    const first = this.#first
    const sink = this.#sink
    if (first === undefined || sink === undefined || !this.#wanted) return
    this.#first = undefined
    sink.data(first, false)
    if (this.#ended) sink.end()
    if (this.#closed !== undefined) sink.close(this.#closed.error)
    else if (this.#wanted) this.#stream.resume()
  }
}
