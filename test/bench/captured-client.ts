/**
 * A client that runs in the client's namespace and becomes the captured user after it has loaded.
 *
 *   hold COUNT IP PORT   opens COUNT connections, prints `open`, keeps them until its input closes
 *   first IP PORT        tries until one request is answered, prints the time since the epoch in ms
 */
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

const [verb = '', ...rest] = process.argv.slice(2)
process.setuid?.(65534)
if (verb === 'hold') await hold(Number(rest[0]), rest[1] ?? '', Number(rest[2]))
else await first(rest[0] ?? '', Number(rest[1]))

async function hold(count: number, host: string, port: number): Promise<void> {
  const sockets: Socket[] = []
  for (let start = 0; start < count; start += 50) {
    const batch = Array.from({ length: Math.min(50, count - start) }, () => open(host, port))
    sockets.push(...(await Promise.all(batch)))
  }
  process.stdout.write('open\n')
  await new Promise(resolve => process.stdin.on('end', resolve).resume())
  for (const socket of sockets) socket.destroy()
}

/** Connects and gets one answer, so that the whole path stands, then keeps the connection. */
async function open(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, host, () => socket.write('GET / HTTP/1.1\r\nHost: bench\r\n\r\n'))
    socket.once('data', () => resolve(socket))
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed before an answer')))
  })
}

async function first(host: string, port: number): Promise<void> {
  const deadline = Date.now() + 20_000
  while (Date.now() < deadline) {
    const socket = await open(host, port).catch(() => undefined)
    if (socket !== undefined) {
      process.stdout.write(`${Date.now()}\n`)
      socket.destroy()
      return
    }
    await delay(4)
  }
  throw new Error('nothing answered within 20 s')
}
