/**
 * Runs inside a pod: makes the calls it is told to, one JSON object a line on stdin, and answers each on stdout with
 * the same `id`. Also echoes bytes on port 7000, for transfers. Imports nothing of ours: the pod gets this file only.
 */
import { randomBytes } from 'node:crypto'
import dns from 'node:dns/promises'
import net from 'node:net'
import readline from 'node:readline'

export type Command =
  /** One HTTP request on a connection of its own. */
  | { readonly do: 'call'; readonly host: string; readonly port: number }
  /** As `call`, but the connection stays, under a name; asked again with `again`. */
  | { readonly do: 'hold'; readonly name: string; readonly host: string; readonly port: number }
  | { readonly do: 'again'; readonly name: string }
  /** The addresses of a name, as the system's resolver gives them to applications. */
  | { readonly do: 'resolve'; readonly host: string }
  /** Sends bytes until told to stop, and compares what comes back. */
  | { readonly do: 'transfer'; readonly name: string; readonly host: string; readonly port: number }
  | { readonly do: 'transferred'; readonly name: string }

export type Answer =
  | { readonly kind: 'served'; readonly by: string; readonly sees: string }
  /** The connection ended before an answer. */
  | { readonly kind: 'refused'; readonly how: string }
  | { readonly kind: 'silent' }
  | { readonly kind: 'resolved'; readonly addresses: readonly string[] }
  | { readonly kind: 'unresolved'; readonly code: string }
  | { readonly kind: 'carried'; readonly bytes: number; readonly seconds: number; readonly broken: string }

const echoPort = 7000
const patienceMs = 8000
const request = 'GET / HTTP/1.1\r\nHost: matrix\r\n\r\n'
const held = new Map<string, net.Socket>()
const transfers = new Map<string, Transfer>()

async function obey(command: Command): Promise<Answer> {
  switch (command.do) {
    case 'call': {
      const { socket, answer } = await call(command)
      socket.destroy()
      return answer
    }
    case 'hold': {
      const { socket, answer } = await call(command)
      held.set(command.name, socket)
      return answer
    }
    case 'again': {
      const socket = held.get(command.name)
      return socket === undefined ? { kind: 'refused', how: 'never held' } : await ask(socket)
    }
    case 'resolve':
      return await dns.lookup(command.host, { all: true }).then(
        all => ({ kind: 'resolved', addresses: all.map(({ address }) => address) }),
        (error: NodeJS.ErrnoException) => ({ kind: 'unresolved', code: error.code ?? error.message })
      )
    case 'transfer': {
      const { socket, failure } = await dial(command)
      transfers.set(command.name, new Transfer(socket, failure))
      return failure ?? { kind: 'carried', bytes: 0, seconds: 0, broken: '' }
    }
    case 'transferred':
      return (
        transfers.get(command.name)?.soFar() ?? {
          kind: 'carried',
          bytes: 0,
          seconds: 0,
          broken: 'never started'
        }
      )
    default:
      return command satisfies never
  }
}

async function call(to: { host: string; port: number }): Promise<{ socket: net.Socket; answer: Answer }> {
  const { socket, failure } = await dial(to)
  return { socket, answer: failure ?? (await ask(socket)) }
}

function dial({ host, port }: { host: string; port: number }): Promise<{
  socket: net.Socket
  failure?: Answer
}> {
  return new Promise(resolve => {
    const socket = net.connect({ host, port, noDelay: true })
    const timer = setTimeout(() => resolve({ socket, failure: { kind: 'silent' } }), patienceMs)
    socket.once('connect', () => {
      clearTimeout(timer)
      resolve({ socket })
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer)
      const unresolved = error.syscall === 'getaddrinfo'
      const code = error.code ?? error.message
      resolve({ socket, failure: unresolved ? { kind: 'unresolved', code } : { kind: 'refused', how: code } })
    })
    socket.on('error', () => socket.destroy())
  })
}

/** One request and its answer on a connection that stays open. */
function ask(socket: net.Socket): Promise<Answer> {
  return new Promise(resolve => {
    let text = ''
    const done = (answer: Answer): void => {
      clearTimeout(timer)
      socket.off('data', read).off('close', closed).off('end', ended).off('error', failed)
      resolve(answer)
    }
    const timer = setTimeout(() => done({ kind: 'silent' }), patienceMs)
    const read = (chunk: Buffer): void => {
      text += chunk.toString('latin1')
      if (!isWhole(text)) return
      const field = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1]?.trim() ?? ''
      done({ kind: 'served', by: field('Hostname'), sees: field('IP') })
    }
    const closed = (): void => done({ kind: 'refused', how: 'closed' })
    const ended = (): void => done({ kind: 'refused', how: 'end of stream' })
    const failed = (error: NodeJS.ErrnoException): void =>
      done({ kind: 'refused', how: error.code ?? error.message })
    if (socket.destroyed || socket.readableEnded) return done({ kind: 'refused', how: 'closed before' })
    socket.on('data', read).once('close', closed).once('end', ended).once('error', failed)
    socket.write(request)
  })
}

/** True when a response has come to its end, by length or by its last chunk. */
function isWhole(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return false
  const length = /^content-length: (\d+)/im.exec(text.slice(0, end))?.[1]
  return length === undefined ? text.endsWith('\r\n0\r\n\r\n') : text.length >= end + 4 + Number(length)
}

/** Random blocks there and back, one at a time. */
class Transfer {
  readonly #started = performance.now()
  #bytes = 0
  #broken = ''
  #block = Buffer.alloc(0)
  #back = 0

  constructor(socket: net.Socket, failure: Answer | undefined) {
    if (failure !== undefined) {
      this.#broken = JSON.stringify(failure)
      return
    }
    const send = (): void => {
      this.#block = randomBytes(256 << 10)
      this.#back = 0
      socket.write(this.#block)
    }
    socket.on('data', (chunk: Buffer) => {
      const expected = this.#block.subarray(this.#back, this.#back + chunk.length)
      if (!expected.equals(chunk)) this.#broken ||= `other bytes after ${this.#bytes}`
      this.#back += chunk.length
      this.#bytes += chunk.length
      if (this.#back === this.#block.length) setTimeout(send, 20)
    })
    for (const event of ['end', 'close', 'error'] as const)
      socket.once(event, (error: unknown) => {
        this.#broken ||= `${event} after ${this.#bytes} bytes${error instanceof Error ? `: ${error.message}` : ''}`
      })
    send()
  }

  soFar(): Answer {
    const seconds = (performance.now() - this.#started) / 1000
    return { kind: 'carried', bytes: this.#bytes, seconds, broken: this.#broken }
  }
}

net.createServer(socket => socket.on('error', () => socket.destroy()).pipe(socket)).listen(echoPort)
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, ...command } = JSON.parse(line) as Command & { id: number }
  void obey(command as Command).then(answer => process.stdout.write(`${JSON.stringify({ id, ...answer })}\n`))
}
