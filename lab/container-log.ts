/** What a container printed: the last MiB of this instance and of the one before, in lines with their time. */
import { Readable } from 'node:stream'
import type { LogRequest } from './api-store/pod-runtime.ts'

interface Line {
  readonly at: number
  readonly text: string
}

const keptBytes = 1024 * 1024
const longestLine = 16 * 1024

export class ContainerLog {
  #lines: Line[] = []
  #bytes = 0
  #previous: Line[] = []
  #ended = false
  readonly #partial = { stdout: '', stderr: '' }
  readonly #followers = new Set<(line: Line | undefined) => void>()

  /** A new instance of the container begins; the lines so far become those of the previous one. */
  restart(): void {
    this.#previous = this.#lines
    this.#lines = []
    this.#bytes = 0
    this.#ended = false
  }

  attach(stream: Readable | null, name: 'stdout' | 'stderr'): void {
    stream?.setEncoding('utf8').on('data', (text: string) => this.write(name, text))
  }

  write(name: 'stdout' | 'stderr', text: string): void {
    const parts = (this.#partial[name] + text).split('\n')
    this.#partial[name] = parts.pop() ?? ''
    if (this.#partial[name].length > longestLine) parts.push(this.#partial[name].slice(0, longestLine))
    if (parts.length > 0 && this.#partial[name].length > longestLine) this.#partial[name] = ''
    for (const part of parts) this.#append({ at: Date.now(), text: part })
  }

  /** The instance has ended: who follows is done. */
  end(): void {
    for (const name of ['stdout', 'stderr'] as const) {
      if (this.#partial[name] !== '') this.#append({ at: Date.now(), text: this.#partial[name] })
      this.#partial[name] = ''
    }
    this.#ended = true
    for (const follower of this.#followers) follower(undefined)
    this.#followers.clear()
  }

  text(): string {
    return this.#lines.map(line => `${line.text}\n`).join('')
  }

  read(request: LogRequest, signal: AbortSignal): Readable {
    const since = sinceOf(request)
    let lines = (request.previous ? this.#previous : this.#lines).filter(line => line.at >= since)
    if (request.tailLines !== undefined)
      lines = request.tailLines === 0 ? [] : lines.slice(-request.tailLines)
    let left = request.limitBytes ?? Infinity
    const format = (line: Line): string => {
      const text = `${request.timestamps ? `${new Date(line.at).toISOString()} ` : ''}${line.text}\n`
      const cut = text.length > left ? text.slice(0, left) : text
      left -= cut.length
      return cut
    }
    const stream = new Readable({ read: () => undefined, encoding: 'utf8' })
    for (const line of lines) stream.push(format(line))
    if (!request.follow || request.previous || this.#ended) {
      stream.push(null)
      return stream
    }
    const follow = (line: Line | undefined): void => {
      // A reader that does not keep up loses the stream rather than the lab its memory.
      const slow = stream.readableLength > keptBytes
      if (line !== undefined && left > 0 && !slow) stream.push(format(line))
      if (line !== undefined && left > 0 && !slow) return
      this.#followers.delete(follow)
      stream.push(null)
    }
    this.#followers.add(follow)
    const stop = (): void => follow(undefined)
    signal.addEventListener('abort', stop, { once: true })
    stream.once('close', () => {
      this.#followers.delete(follow)
      signal.removeEventListener('abort', stop)
    })
    return stream
  }

  #append(line: Line): void {
    this.#lines.push(line)
    this.#bytes += line.text.length + 1
    if (this.#bytes > 2 * keptBytes) this.#dropOldest()
    for (const follower of this.#followers) follower(line)
  }

  /** In one go down to the limit, so that a line costs the same however long the log is. */
  #dropOldest(): void {
    let from = 0
    while (this.#bytes > keptBytes) {
      this.#bytes -= (this.#lines[from]?.text.length ?? 0) + 1
      from += 1
    }
    this.#lines = this.#lines.slice(from)
  }
}

function sinceOf({ sinceSeconds, sinceTime }: LogRequest): number {
  if (sinceTime !== undefined) return Date.parse(sinceTime)
  return sinceSeconds === undefined ? 0 : Date.now() - sinceSeconds * 1000
}
