/** Sockets that Node cannot make, in real namespaces. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import net from 'node:net'
import { Worker } from 'node:worker_threads'
import { ip } from '../../shared/net/address.ts'
import { libc } from '../../shared/net/ffi.ts'
import { createNetns, inNetns, netnsId, openNetns } from '../../shared/net/netns.ts'
import { PacketCapture, type CapturedPacket } from '../../shared/net/packet-capture.ts'
import { Poller } from '../../shared/net/poll.ts'
import {
  boundAddress,
  closeDescriptor,
  dialerSocket,
  listenBacklog,
  openDialer,
  openListener,
  originalDestination,
  raiseFileLimit,
  setMark,
  socketFd,
  transparentAllowed
} from '../../shared/net/sockets.ts'
import { makeNamespace, needsRoot, type Namespace } from '../support/namespaces.ts'
import { makeWorld } from './capture-world.ts'

t.setTimeout(300_000)

const skip = needsRoot()
const loopback = ip('127.0.0.1')

/** Serves `answer` to everybody; its port. */
async function serve(t: Test, netns: number | undefined, answer: string, port = 0): Promise<number> {
  const fd = openListener(netns === undefined ? {} : { netns }, {
    address: { ip: ip('::'), port },
    dualStack: true
  })
  const bound = boundAddress(fd)?.port ?? 0
  const server = net.createServer(socket => {
    socket.on('error', () => undefined)
    socket.end(answer)
  })
  t.teardown(() => server.close())
  server.listen({ fd }, listenBacklog)
  await once(server, 'listening')
  return bound
}

async function fetch(netns: number | undefined, port: number, mark?: number): Promise<string> {
  const place = { ...(netns === undefined ? {} : { netns }), ...(mark === undefined ? {} : { mark }) }
  const socket = dialerSocket(openDialer(place, { family: 4 }), { allowHalfOpen: false })
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  socket.connect({ host: loopback, port })
  await once(socket, 'close')
  return text
}

t.test(
  'a socket belongs to the namespace in which it was opened, this thread does not',
  { skip },
  async t => {
    const [a, b] = [makeNamespace(t, 'uph3'), makeNamespace(t, 'uph3')]
    const home = inNetns(openOwn(t), ownId)
    const port = await serve(t, a.fd, 'from a')
    await serve(t, b.fd, 'from b', port)
    t.equal(await fetch(a.fd, port), 'from a')
    t.equal(await fetch(b.fd, port), 'from b')
    await t.rejects(fetch(undefined, port), /ECONNREFUSED/)
    t.equal(ownId(), home)
  }
)

t.test('worker threads enter namespaces without disturbing each other', { skip }, async t => {
  const all = Array.from({ length: 4 }, () => makeNamespace(t, 'uph3'))
  const source = new URL('enter-often.ts', import.meta.url)
  const workers = all.map(({ fd }) => new Worker(source, { workerData: { netns: fd, times: 300 } }))
  const seen = await Promise.all(workers.map(async worker => (await once(worker, 'message'))[0] as string[]))
  seen.forEach((ids, index) => {
    t.strictSame(ids, [netnsId(all[index]?.fd ?? -1), ownId()], 'always in its own, always back home')
  })
})

t.test('what fails inside leaves the thread at home', { skip }, async t => {
  const { fd } = makeNamespace(t, 'uph3')
  const home = ownId()
  t.throws(() =>
    inNetns(fd, () => {
      throw new Error('inside')
    })
  )
  t.equal(ownId(), home)
})

t.test('a namespace without a name is another one, and empty', { skip }, async t => {
  const fd = createNetns()
  t.teardown(() => closeSync(fd))
  t.not(netnsId(fd), ownId())
  await t.rejects(fetch(fd, 1), /ENETUNREACH/, 'lo is down')
})

t.test('what is no namespace is refused with its name', { skip }, async t => {
  t.throws(() => openNetns('/etc/hostname'), /\/etc\/hostname is not a network namespace/)
  t.throws(() => openNetns('/proc/self/ns/uts'), /not a network namespace/)
  t.throws(() => openNetns('/nowhere'), { code: 'ENOENT' })
})

t.test('marks reach the packet filter', { skip }, async t => {
  const space = makeNamespace(t, 'uph3')
  const port = await serve(t, space.fd, 'through')
  space.run(
    'nft',
    'add table inet f; add chain inet f o { type filter hook output priority 0; }; add rule inet f o meta mark 0x539 counter reject with tcp reset'
  )
  t.equal(await fetch(space.fd, port), 'through')
  await t.rejects(fetch(space.fd, port, 0x539), /ECONNREFUSED/)
  const fd = openDialer({ netns: space.fd }, { family: 4 })
  setMark(fd, 0x539)
  t.equal(optionOf(fd, 1, 36), 0x539)
  closeDescriptor(fd)
})

t.test('accepted sockets inherit what their listener was given', { skip }, async t => {
  const space = makeNamespace(t, 'uph3')
  const fd = openListener(
    { netns: space.fd, mark: 0x539 },
    {
      address: { ip: loopback, port: 0 },
      noDelay: true,
      keepAlive: { idleSeconds: 180, intervalSeconds: 170, probes: 9 },
      userTimeoutMs: 12_345
    }
  )
  const port = boundAddress(fd)?.port ?? 0
  const server = net.createServer()
  t.teardown(() => server.close())
  server.listen({ fd })
  const client = dialerSocket(openDialer({ netns: space.fd }, { family: 4 }))
  client.connect({ host: loopback, port })
  const [accepted] = (await once(server, 'connection')) as [net.Socket]
  const descriptor = socketFd(accepted) ?? -1
  const options: readonly [string, number, number, number][] = [
    ['mark', 1, 36, 0x539],
    ['keepalive', 1, 9, 1],
    ['no delay', 6, 1, 1],
    ['idle', 6, 4, 180],
    ['interval', 6, 5, 170],
    ['probes', 6, 6, 9],
    ['user timeout', 6, 18, 12_345]
  ]
  for (const [name, level, option, expected] of options)
    t.equal(optionOf(descriptor, level, option), expected, name)
  t.equal(originalDestination(descriptor), undefined, 'nobody redirected it')
  accepted.destroy()
  client.destroy()
  await once(client, 'close')
  t.equal(socketFd(client), undefined, 'a closed socket has none')
})

t.test('IPv6 only, or both families, as asked', { skip }, async t => {
  const space = makeNamespace(t, 'uph3')
  const only = openListener({ netns: space.fd }, { address: { ip: ip('::'), port: 7001 } })
  const both = openListener({ netns: space.fd }, { address: { ip: ip('::'), port: 7002 }, dualStack: true })
  t.teardown(() => [only, both].forEach(closeDescriptor))
  const beside = openListener({ netns: space.fd }, { address: { ip: ip('0.0.0.0'), port: 7001 } })
  closeDescriptor(beside)
  t.throws(() => openListener({ netns: space.fd }, { address: { ip: ip('0.0.0.0'), port: 7002 } }), {
    name: 'SystemCallError',
    code: 'EADDRINUSE',
    message: /0\.0\.0\.0 port 7002/
  })
})

t.test('failures name the call, and no descriptor stays open', { skip }, async t => {
  const before = openSync('/dev/null', 'r')
  closeSync(before)
  t.throws(() => openDialer({}, { family: 4, bind: { ip: ip('192.0.2.1'), port: 0 } }), {
    call: 'bind',
    code: 'EADDRNOTAVAIL'
  })
  t.throws(() => openDialer({}, { family: 4, device: 'none0' }), { call: 'setsockopt', code: 'ENODEV' })
  const after = openSync('/dev/null', 'r')
  closeSync(after)
  t.equal(after, before)
})

t.test('any source address can be taken where that is asked for', { skip }, async t => {
  t.ok(transparentAllowed())
  const fd = openDialer({}, { family: 4, transparent: true, bind: { ip: ip('192.0.2.1'), port: 4711 } })
  t.strictSame(boundAddress(fd), { ip: '192.0.2.1', port: 4711 })
  closeDescriptor(fd)
  const { soft, hard } = raiseFileLimit()
  t.equal(soft, hard)
})

t.test('a listener that closes hands its waiting connections to the next one', { skip }, async t => {
  const space = makeNamespace(t, 'uph3')
  space.run('sysctl', '-qw', 'net.ipv4.tcp_migrate_req=1')
  const open = (): number =>
    openListener({ netns: space.fd }, { address: { ip: loopback, port: 7003 }, reusePort: true })
  const [old, next] = [open(), open()]
  // Nobody accepts yet, so all of them wait, about half with each listener.
  const clients = Array.from({ length: 200 }, () =>
    dialerSocket(openDialer({ netns: space.fd }, { family: 4 }))
  )
  const answers = clients.map(async client => {
    client.connect({ host: loopback, port: 7003 })
    const [data] = (await once(client, 'data')) as [Buffer]
    client.destroy()
    return String(data)
  })
  await Promise.all(clients.map(client => once(client, 'connect')))
  closeDescriptor(old)
  const server = net.createServer(socket => {
    socket.on('error', () => undefined)
    socket.end('next')
  })
  t.teardown(() => server.close())
  server.listen({ fd: next }, listenBacklog)
  t.strictSame(new Set(await Promise.all(answers)), new Set(['next']))
})

t.test('packets of a namespace are seen as asked for', { skip }, async t => {
  const poller = new Poller()
  t.teardown(() => poller.close())
  const { pod, peer } = makeWorld(t)
  const port = await serve(t, pod.fd, 'x'.repeat(1000))
  const other = await serve(t, pod.fd, 'other')
  const packets: (Omit<CapturedPacket, 'payload'> & { readonly text: string })[] = []
  let changed = (): void => undefined
  const capture = new PacketCapture(
    poller,
    { netns: peer.fd, device: 'eth0', filter: { ip: ip('10.77.0.2'), port }, snapLength: 120 },
    ({ payload, ...packet }) => {
      packets.push({ ...packet, text: payload.toString('latin1') })
      changed()
    }
  )
  t.teardown(() => capture.close())
  for (const [host, at] of [
    ['10.77.0.2', other],
    ['fd77::2', port],
    ['10.77.0.2', port]
  ] as const) {
    await get(peer, host, at)
  }
  const seenFin = (): boolean => packets.some(({ outgoing, tcpFlags }) => outgoing && (tcpFlags & 1) === 1)
  while (!seenFin()) await new Promise<void>(resolve => (changed = resolve))
  for (const packet of packets) {
    t.equal(packet.protocol, 'tcp')
    const [pod, client] = packet.outgoing
      ? [packet.destination, packet.source]
      : [packet.source, packet.destination]
    t.strictSame(pod, { ip: '10.77.0.2', port })
    t.equal(client.ip, '10.77.0.1')
  }
  t.match(packets[0], { outgoing: true, tcpFlags: 2 }, 'the SYN comes first')
  const data = packets.find(({ text }) => text !== '')
  t.ok(data !== undefined && /^x{40,100}$/.test(data.text), 'payload, cut at the length asked for')
  t.equal(capture.dropped, 0)
  t.throws(() => new PacketCapture(poller, { netns: peer.fd, device: 'none0' }, () => undefined), {
    code: 'ENODEV'
  })
})

async function get(from: Namespace, host: string, port: number): Promise<void> {
  const socket = dialerSocket(openDialer({ netns: from.fd }, { family: host.includes(':') ? 6 : 4 }), {
    allowHalfOpen: false
  })
  socket.resume().connect({ host, port })
  await once(socket, 'close')
}

function openOwn(t: Test): number {
  const fd = openSync('/proc/thread-self/ns/net', 'r')
  t.teardown(() => closeSync(fd))
  return fd
}

function ownId(): string {
  const fd = openSync('/proc/thread-self/ns/net', 'r')
  try {
    return netnsId(fd)
  } finally {
    closeSync(fd)
  }
}

function optionOf(fd: number, level: number, name: number): number {
  const value = Buffer.alloc(4)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(4)
  t.equal(libc.getsockopt(fd, level, name, value, length), 0)
  return value.readInt32LE(0)
}
