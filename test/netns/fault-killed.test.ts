/**
 * A ztunnel that is killed while clients send: they see resets and waits, and the wire never sees what they say.
 * Every packet between pods and between nodes is looked at, with a control that such a look finds clear text.
 */
import t from 'tap'
import type { Test } from 'tap'
import { once } from 'node:events'
import type net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { SocketAddress } from '../../shared/net/address.ts'
import { samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { CLIENT, localMesh, SERVER } from '../support/local-mesh.ts'
import { established } from '../support/process-state.ts'
import { sharedNode } from '../support/shared-node.ts'
import {
  at,
  connect,
  needsRoot,
  serve,
  startProxy,
  twoNodes,
  type Proxy,
  type TestNode
} from '../support/two-nodes.ts'
import { watchWire, type Wire } from '../support/watch-wire.ts'

t.setTimeout(300_000)
const skip = needsRoot()
const secret = 'only-for-the-other-end'
const control = 'seen-by-everybody'
const rounds = 2

for (const mode of ['tproxy', 'redirect'] as const) {
  t.test(`${mode}: the ztunnel of both pods is killed`, { skip }, async t => {
    const world = await sharedNode(t, mode)
    const { client, server, node } = world
    const env = { UNDERPASS_SAME_NODE: 'tunnel' }
    const outside = { ...client, netns: node.name, netnsFd: node.fd }
    const wire = watchWire(t, [secret, control], [{ netns: node.fd }])
    await proveSilence(t, {
      wire,
      outside,
      client,
      server,
      captured: false, // the rules capture every socket that is not marked
      start: async () => [await world.start({ env })]
    })
  })
}

for (const killed of [0, 1]) {
  t.test(
    `between nodes: the ztunnel of the ${killed === 0 ? 'client' : 'server'} is killed`,
    { skip },
    async t => {
      const { a: client, b: server } = await twoNodes(t)
      const localConfig = localMesh({ a: client, b: server })
      const run = async (index: number): Promise<Proxy> =>
        index === 0
          ? startProxy(t, client, { kind: 'underpass', workload: CLIENT, localConfig })
          : startProxy(t, server, { kind: 'underpass', workload: SERVER, localConfig })
      let other: Proxy | undefined
      await proveSilence(t, {
        wire: watchWire(t, [secret, control], [{ netns: client.netnsFd, device: 'eth0' }]),
        outside: client,
        client,
        server,
        captured: true,
        start: async () => {
          other ??= await run(1 - killed)
          return [await run(killed), other]
        }
      })
    }
  )
}

interface Scene {
  readonly wire: Wire
  /** Where a connection is not captured at its source. */
  readonly outside: TestNode
  readonly client: TestNode
  readonly server: TestNode
  /** Whether clients have to ask to be captured. */
  readonly captured: boolean
  /** Starts the ztunnel that will be killed, the first in the list, and at the first time those that stay. */
  readonly start: () => Promise<readonly Proxy[]>
}

async function proveSilence(
  t: Test,
  { wire, outside, client, server, captured, start }: Scene
): Promise<void> {
  await serve(t, server, socket => socket.pipe(socket), { port: 8080 })
  let proxies = await start()

  const plain = await connect(outside, at(server.v4, 8080), { captured: false })
  await say(plain, control)
  plain.destroy()
  await eventually('clear text is seen where it is sent', () => wire.seen(control) > 0, { everyMs: 50 })

  const clients = Array.from(
    { length: 6 },
    (_, index) => new Talker(client, at(server[index % 2 === 0 ? 'v4' : 'v6'], 8080), captured)
  )
  t.teardown(() => clients.forEach(each => each.stop()))
  const flowing = async (): Promise<void> => {
    const marks = clients.map(({ answers }) => answers)
    await eventually(
      'all clients have answers',
      () => clients.every(({ answers }, i) => answers > (marks[i] ?? 0) + 5),
      {
        everyMs: 50
      }
    )
  }
  for (let round = 0; round < rounds; round++) {
    await flowing()
    const cut = clients.map(({ cuts }) => cuts)
    await proxies[0]?.stop('SIGKILL')
    await eventually(
      'every client sees its connection end',
      () => clients.every(({ cuts }, i) => cuts > (cut[i] ?? 0)),
      {
        everyMs: 50
      }
    )
    const silent = clients.map(({ answers }) => answers)
    await delay(2500) // clients go on trying: the length of the fault
    t.strictSame(
      clients.map(({ answers }) => answers),
      silent,
      'nobody is answered past the proxy'
    )
    proxies = await start()
    await flowing()
  }
  clients.forEach(each => each.stop())
  t.equal(wire.seen(secret), 0, 'not a word in the clear')
  t.ok(wire.bytes > 10_000, `${wire.bytes} bytes were looked at`)
  t.equal(wire.dropped(), 0, 'no packet escaped the look')
  for (const proxy of proxies) {
    await eventually('nothing is left open', async () =>
      samples((await proxy.ask(15_020, '/metrics')).body, 'istio_tcp_sockets_open').every(
        ({ value }) => value === 0
      )
    )
  }
  await eventually('nor at the application', () => established(server.netns, 8080) === 0)
}

/** An application that never stops asking: it connects again whenever its connection ends. */
class Talker {
  answers = 0
  /** Connections that stood and ended. */
  cuts = 0
  readonly #from: TestNode
  readonly #to: SocketAddress
  readonly #captured: boolean
  #socket: net.Socket | undefined
  #stopped = false

  constructor(from: TestNode, to: SocketAddress, captured: boolean) {
    this.#from = from
    this.#to = to
    this.#captured = captured
    void this.#run()
  }

  stop(): void {
    this.#stopped = true
    this.#socket?.destroy()
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      try {
        const socket = await connect(this.#from, this.#to, { captured: this.#captured })
        this.#socket = socket
        if (this.#stopped) socket.destroy()
        await this.#talk(socket)
      } catch {
        await delay(50) // refused, or reset: an application would try again
      }
    }
  }

  async #talk(socket: net.Socket): Promise<void> {
    let heard = false
    const over = new Promise<void>(resolve => {
      socket.once('end', resolve)
      socket.once('close', () => resolve())
    })
    socket.on('error', () => undefined) // told by the close that follows
    socket.on('data', () => {
      heard = true
      this.answers += 1
    })
    const timer = setInterval(() => {
      if (socket.writableLength < 1 << 20) socket.write(`${secret} `.repeat(100))
    }, 10)
    await over
    clearInterval(timer)
    socket.destroy()
    if (heard) this.cuts += 1
  }
}

async function say(socket: net.Socket, text: string): Promise<void> {
  const answer = once(socket, 'data')
  socket.write(text)
  await answer
}
