/** What users see of faults, and that nothing is left behind: shutdown, crowds, slow readers, dead peers, full disks. */
import t from 'tap'
import { once } from 'node:events'
import type net from 'node:net'
import { raiseFileLimit } from '../../shared/net/sockets.ts'
import { accessLines, samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { CLIENT, localMesh, SERVER, SERVER_PORT } from '../support/local-mesh.ts'
import { descriptors, residentMiB, settledDescriptors } from '../support/process-state.ts'
import {
  at,
  attempt,
  connect,
  exchange,
  needsRoot,
  serve,
  startProxy,
  twoNodes,
  type Proxy,
  type Teardown,
  type TwoNodes
} from '../support/two-nodes.ts'

t.setTimeout(400_000)
const skip = needsRoot()

t.test('at shutdown what is open may finish, and nothing new begins', { skip }, async t => {
  const { a, b, client, server } = await world(t, { CONNECTION_TERMINATION_DEADLINE: '30s' })
  await serve(t, b, echo, { port: SERVER_PORT })
  const live = await connect(a, at(b.v4, SERVER_PORT))
  live.write('one')
  t.equal(await read(live), 'one')
  const ended = server.stop('SIGTERM')
  await server.logged(/shutdown started/)
  await eventually(
    'the listeners are closed',
    async () => {
      const refused = await connect(a, at(b.v4, 15_008), { captured: false }).then(
        socket => socket.destroy() && false,
        () => true
      )
      return refused
    },
    { everyMs: 50 }
  )
  live.write('two')
  t.equal(await read(live), 'two', 'the open connection goes on')
  t.equal(server.process.exitCode, null)
  live.end()
  t.equal(await ended, 0)
  await server.logged(/all connections ended in time/)
  const [line] = accessLines(server.log)
  t.equal(line?.fields['error'], undefined)
  t.equal(await client.stop(), 0)
})

t.test('what is still open at the deadline is cut, and said to be', { skip }, async t => {
  const { a, b, server } = await world(t, { CONNECTION_TERMINATION_DEADLINE: '1s' })
  await serve(t, b, echo, { port: SERVER_PORT })
  const live = await connect(a, at(b.v4, SERVER_PORT))
  live.write('one')
  t.equal(await read(live), 'one')
  live.on('error', () => undefined)
  const over = new Promise(resolve => {
    live.once('close', resolve)
    live.once('end', resolve)
  })
  t.equal(await server.stop('SIGTERM'), 0)
  await over
  await server.logged(/connection closed due to connection drain/)
  await server.logged(/still open at the deadline/)
})

t.test(
  'a slow reader stops its writer, memory stays bounded, others of the same session go on',
  { skip },
  async t => {
    const { a, b, client, server } = await world(t)
    let accepted = 0
    const chunk = Buffer.alloc(1 << 20)
    await serve(
      t,
      b,
      socket => {
        const push = (): void => {
          while (accepted < 1 << 30) {
            accepted += chunk.length
            if (!socket.write(chunk)) return
          }
        }
        socket.on('drain', push)
        push()
      },
      { port: 9000 }
    )
    await serve(t, b, echo, { port: SERVER_PORT })
    await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('warm'))
    const before = [residentMiB(client.pid), residentMiB(server.pid)]
    const held = [await settledDescriptors(client.pid), await settledDescriptors(server.pid)]
    const slow = await connect(a, at(b.v4, 9000))
    slow.pause()
    let last = -1
    await eventually('the writer stops', () => {
      const still = accepted === last
      last = accepted
      return still
    })
    t.ok(accepted < 128 << 20, `of 1 GiB, ${accepted >> 20} MiB were taken`)
    for (const [index, pid] of [client.pid, server.pid].entries()) {
      const grown = residentMiB(pid) - (before[index] ?? 0)
      t.ok(grown < 80, `memory grew by ${grown.toFixed(0)} MiB`)
    }
    for (let round = 0; round < 5; round++) {
      t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('next')), 'next')
    }
    slow.destroy()
    await eventually(
      'the slow connection is gone at both ends',
      async () => (await open(client)) === 0 && (await open(server)) === 0
    )
    await givenBack([client, server], held)
  }
)

t.test(
  'either side may end first while the other goes on for long, many times over, and nothing is left',
  { skip },
  async t => {
    const { a, b, client, server } = await world(t)
    const half = Buffer.alloc(1 << 20, 'half')
    // 9000: answers only when the client has ended. 9001: ends first, then takes all that comes, and says how much.
    await serve(
      t,
      b,
      socket => {
        let bytes = 0
        socket.on('data', (chunk: Buffer) => (bytes += chunk.length))
        socket.on('end', () => socket.end(`${bytes} `.padEnd(half.length, '.')))
      },
      { port: 9000 }
    )
    const taken: number[] = []
    await serve(
      t,
      b,
      socket => {
        let bytes = 0
        socket.end('that is all from here')
        socket.on('data', (chunk: Buffer) => (bytes += chunk.length))
        socket.on('end', () => taken.push(bytes))
      },
      { port: 9001 }
    )
    await attempt(await connect(a, at(b.v4, 9000)), Buffer.from('warm'))
    const before = [await settledDescriptors(client.pid), await settledDescriptors(server.pid)]
    const count = 20
    await Promise.all(
      Array.from({ length: count }, async () => {
        const answer = await exchange(await connect(a, at(b.v4, 9000)), half)
        t.equal(answer.length, half.length)
        t.ok(answer.toString('latin1', 0, 20).startsWith(`${half.length} `))
        const second = await connect(a, at(b.v4, 9001))
        const ended = once(second, 'end')
        t.equal(String((await once(second, 'data'))[0]), 'that is all from here')
        await ended
        second.end(half)
        await once(second, 'close')
      })
    )
    await eventually('all that came after the end of the other side arrived', () => taken.length === count)
    t.strictSame([...new Set(taken)], [half.length])
    await eventually(
      'both ends have none',
      async () => (await open(client)) === 0 && (await open(server)) === 0
    )
    await givenBack([client, server], before)
    const errors = [client, server].flatMap(({ log }) =>
      accessLines(log).filter(({ level }) => level === 'error')
    )
    t.strictSame(errors, [])
  }
)

t.test('5,000 connections at once, then none: all are served, and all is given back', { skip }, async t => {
  raiseFileLimit()
  const { a, b, client, server } = await world(t, { ZTUNNEL_WORKER_THREADS: '2' })
  await serve(t, b, echo, { port: SERVER_PORT })
  await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('warm'))
  const before = [descriptors(client.pid), descriptors(server.pid)]
  const crowd: net.Socket[] = []
  for (let batch = 0; batch < 50; batch++) {
    crowd.push(
      ...(await Promise.all(Array.from({ length: 100 }, async () => connect(a, at(b.v4, SERVER_PORT)))))
    )
  }
  for (const socket of crowd) socket.on('error', () => undefined) // counted by what is answered
  let answered = 0
  await Promise.all(
    crowd.map(async (socket, index) => {
      socket.write(`hello ${index}`)
      if ((await readOrClosed(socket)) === `hello ${index}`) answered += 1
    })
  )
  t.equal(answered, 5000)
  t.equal(await open(client), 5000)
  t.equal(await open(server), 5000)
  for (const socket of crowd) socket.destroy()
  await eventually(
    'both ends have none',
    async () => (await open(client)) === 0 && (await open(server)) === 0
  )
  // Sessions stay in the pool for a while; at most fifty of a hundred streams each were needed.
  await eventually('descriptors are given back', () =>
    [client, server].every(({ pid }, index) => descriptors(pid) <= (before[index] ?? 0) + 120)
  )
  t.equal(samples((await client.ask(15020, '/metrics')).body, 'istio_tcp_connections_failed_total').length, 0)
})

t.test(
  'a node that is gone: new connections fail in time and say what to look at, live ones end',
  { skip },
  async t => {
    const { a, b, nodes, client } = await world(t, { UNDERPASS_CONNECT_TIMEOUT: '1s' })
    await serve(t, b, echo, { port: SERVER_PORT })
    await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('warm'))
    const before = await settledDescriptors(client.pid)
    const live = await connect(a, at(b.v4, SERVER_PORT))
    live.write('one')
    t.equal(await read(live), 'one')
    live.on('error', () => undefined)
    const over = new Promise(resolve => {
      live.once('close', resolve)
      live.once('end', resolve)
    })
    nodes.run('b', 'ip', 'link', 'set', 'eth0', 'down')
    await over // found by the session's PING
    await client.logged(/direction="outbound".*error=/, 1000)
    t.equal(await attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('x')), '')
    const line = await client.logged(/maybe a NetworkPolicy is blocking HBONE port 15008/)
    t.match(accessLines([line]), [{ fields: { direction: 'outbound' } }])
    const { body } = await client.ask(15020, '/metrics')
    t.ok(
      samples(body, 'istio_tcp_connections_failed_total').some(
        ({ labels }) => labels['response_flags'] === 'NETWORK_POLICY'
      )
    )
    t.equal(await open(client), 0)
    await givenBack([client], [before])
    nodes.run('b', 'ip', 'link', 'set', 'eth0', 'up')
    await eventually('it is reached again when it is back', async () =>
      attempt(await connect(a, at(b.v4, SERVER_PORT)), Buffer.from('back')).then(answer => answer === 'back')
    )
  }
)

t.test('a disk that is full for logs stops no traffic', { skip }, async t => {
  const nodes = await twoNodes(t)
  const localConfig = localMesh(nodes)
  const command = [
    'sh',
    '-c',
    `exec ${process.execPath} --disable-warning=ExperimentalWarning ztunnel/main.ts proxy ztunnel > /dev/full`
  ]
  const client = await startProxy(t, nodes.a, {
    kind: 'underpass',
    workload: CLIENT,
    localConfig,
    command,
    env: { RUST_LOG: 'trace' }
  })
  await startProxy(t, nodes.b, { kind: 'underpass', workload: SERVER, localConfig })
  await serve(t, nodes.b, echo, { port: SERVER_PORT })
  await attempt(await connect(nodes.a, at(nodes.b.v4, SERVER_PORT)), Buffer.from('warm'))
  const before = await settledDescriptors(client.pid)
  const memory = residentMiB(client.pid)
  for (let round = 0; round < 20; round++) {
    t.equal(await attempt(await connect(nodes.a, at(nodes.b.v4, SERVER_PORT)), Buffer.from('on')), 'on')
  }
  t.match(samples((await client.ask(15020, '/metrics')).body, 'istio_tcp_connections_opened_total'), [
    { value: 21 }
  ])
  await givenBack([client], [before])
  const grown = residentMiB(client.pid) - memory
  t.ok(grown < 60, `memory grew by ${grown.toFixed(0)} MiB, no line is kept`)
  t.equal(await client.stop(), 0)
})

interface World extends TwoNodes {
  readonly nodes: TwoNodes
  readonly client: Proxy
  readonly server: Proxy
}

async function world(t: Teardown, env: Record<string, string> = {}): Promise<World> {
  const nodes = await twoNodes(t)
  const common = { kind: 'underpass', localConfig: localMesh(nodes), env } as const
  const [client, server] = await Promise.all([
    startProxy(t, nodes.a, { ...common, workload: CLIENT }),
    startProxy(t, nodes.b, { ...common, workload: SERVER })
  ])
  return { ...nodes, nodes, client, server }
}

/** Open connections as the proxy counts them. */
async function open(proxy: Proxy): Promise<number> {
  return samples((await proxy.ask(15020, '/metrics')).body, 'istio_tcp_sockets_open').reduce(
    (sum, { value }) => sum + value,
    0
  )
}

/** A few may come and go meanwhile: connections to the admin interface, a session more. */
async function givenBack(proxies: readonly Proxy[], before: readonly number[]): Promise<void> {
  await eventually('descriptors are given back', () =>
    proxies.every(({ pid }, index) => descriptors(pid) <= (before[index] ?? 0) + 3)
  )
}

function echo(socket: net.Socket): void {
  socket.pipe(socket)
}

function readOrClosed(socket: net.Socket): Promise<string> {
  return Promise.race([read(socket), new Promise<string>(resolve => socket.once('close', () => resolve('')))])
}

function read(socket: net.Socket): Promise<string> {
  return new Promise(resolve => socket.once('data', (chunk: Buffer) => resolve(chunk.toString())))
}
