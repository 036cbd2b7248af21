/**
 * Runs inside a pod: says the pod's name to whoever says something on port 8080, and calls others without end. Each
 * argument is one of them, `name=host:port`: it gets twenty calls a second, each on a connection of its own, and one
 * connection that is held and asked again and again. Prints one {@link Second} a line for each. Imports nothing of
 * ours: the pod gets this file only.
 */
import net from 'node:net'
import os from 'node:os'

/** What became of the calls that ended in one second. Times are in milliseconds. */
export interface Second {
  /** The end of the second, by the wall clock. */
  at: number
  to: string
  answered: number
  /** The longest time from the first packet to the answer. */
  longestMs: number
  /** How often, by reason. */
  failed: Record<string, number>
  longestFailureMs: number
  /** Answers on the connection that is held. */
  held: number
  /** How often that connection ended. */
  cut: number
}

const callsPerSecond = 20
/** What goes over the wire, to be looked for there. */
const words = process.env['WORDS'] ?? ''
const callPatienceMs = 90_000
/** Longer than any outage that a TCP connection lives through. */
const heldPatienceMs = 120_000

const seconds: Second[] = []
for (const argument of process.argv.slice(1)) {
  const [to = '', host, port] = argument.split(/[=:]/)
  const second = { at: 0, to, ...nothing() }
  seconds.push(second)
  const place = { host: host ?? '', port: Number(port) }
  callForEver(place, second)
  hold(place, second)
}
setInterval(() => {
  for (const second of seconds) {
    second.at = Date.now()
    console.log(JSON.stringify(second))
    Object.assign(second, nothing())
  }
}, 1000)

net
  .createServer(socket => {
    socket.on('error', () => socket.destroy())
    socket.on('data', () => socket.write(os.hostname()))
  })
  .listen(8080, '::')

function nothing(): Omit<Second, 'at' | 'to'> {
  return { answered: 0, longestMs: 0, failed: {}, longestFailureMs: 0, held: 0, cut: 0 }
}

/** A pace that was left behind is caught up with in small steps. */
function callForEver(place: { host: string; port: number }, second: Second): void {
  const started = performance.now()
  let begun = 0
  setInterval(() => {
    const due = ((performance.now() - started) * callsPerSecond) / 1000
    for (let more = Math.min(5, due - begun); more >= 1; more--) {
      begun += 1
      call(place, second)
    }
  }, 10)
}

function call(place: { host: string; port: number }, second: Second): void {
  const begun = performance.now()
  const socket = net.connect(place, () => socket.write(words))
  const end = (failure: string | undefined): void => {
    clearTimeout(timer)
    socket.removeAllListeners().on('error', () => undefined)
    socket.destroy()
    const ms = Math.round(performance.now() - begun)
    if (failure === undefined) {
      second.answered += 1
      second.longestMs = Math.max(second.longestMs, ms)
    } else {
      second.failed[failure] = (second.failed[failure] ?? 0) + 1
      second.longestFailureMs = Math.max(second.longestFailureMs, ms)
    }
  }
  const timer = setTimeout(() => end('no answer'), callPatienceMs)
  socket.once('data', () => end(undefined))
  socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
  socket.once('end', () => end('ended without an answer'))
}

/** Asks, waits for the answer, asks again; connects again when the connection is gone. */
function hold(place: { host: string; port: number }, second: Second): void {
  let stood = false
  const socket = net.connect(place, () => {
    stood = true
    socket.write(words)
  })
  socket.setTimeout(heldPatienceMs, () => socket.destroy())
  socket.on('data', () => {
    second.held += 1
    setTimeout(() => socket.write(words), 200)
  })
  socket.on('error', () => undefined) // told by the close that follows
  socket.on('end', () => socket.destroy())
  socket.on('close', () => {
    if (stood) second.cut += 1
    setTimeout(() => hold(place, second), 500)
  })
}
