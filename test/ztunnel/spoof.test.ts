import t from 'tap'
import net from 'node:net'
import { ip, type SocketAddress } from '../../shared/net/address.ts'
import { Spoofer } from '../../ztunnel/spoof.ts'

const client: SocketAddress = { ip: ip('127.0.0.9'), port: 1026 }
const target: SocketAddress = { ip: ip('127.0.0.1'), port: 80 }

function spoofer(random: () => number, index = 0, of = 1, onFallback = (): void => undefined): Spoofer {
  return new Spoofer({ index, of, random, onFallback })
}

t.test('ports come from below those that Linux clients take', async t => {
  for (const share of [0, 0.3, 0.999999]) {
    const port = spoofer(() => share).choosePort(client, target) ?? 0
    t.ok(port >= 1024 && port <= 32_767, String(port))
  }
})

t.test('the client’s own port is never taken', async t => {
  const share = (1026 - 1024) / (32_767 - 1024 + 1)
  t.equal(spoofer(() => share).choosePort(client, target), 1027)
})

t.test('threads share the ports between them', async t => {
  const taken = [0, 1, 2].map(index => spoofer(() => 0.5, index, 3).choosePort(client, target) ?? 0)
  t.strictSame(
    taken.map(port => (port - 1024) % 3),
    [0, 1, 2]
  )
  const last = spoofer(() => 0.9999999, 2, 3).choosePort(client, target) ?? 0
  t.ok(last <= 32_767)
})

t.test(
  'what is in use towards a target is skipped until it closes',
  { skip: process.getuid?.() === 0 ? false : 'needs root' },
  async t => {
    const server = net.createServer(socket => socket.on('error', () => undefined))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const to = { ip: ip('127.0.0.1'), port: (server.address() as net.AddressInfo).port }
    const spoof = spoofer(() => 0.5)
    const expected = spoof.choosePort(client, to) ?? 0
    const dial = { place: {}, to, timeoutMs: 5000, tcp: {} }
    const first = await spoof.dial(dial, client, new AbortController().signal)
    t.equal(first.localAddress, '127.0.0.9')
    t.equal(first.localPort, expected)
    const second = await spoof.dial(dial, client, new AbortController().signal)
    t.equal(second.localPort, expected + 1)
    const closed = new Promise(resolve => first.once('close', resolve))
    first.destroy()
    await closed
    t.equal(spoof.choosePort(client, to), expected)
    second.destroy()
  }
)

t.test(
  'a port that somebody else has is a collision, three of them end the attempt',
  { skip: process.getuid?.() === 0 ? false : 'needs root' },
  async t => {
    const sources: string[] = []
    const server = net.createServer(socket => {
      sources.push(socket.remoteAddress ?? '')
      socket.on('error', () => undefined)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const to = { ip: ip('127.0.0.1'), port: (server.address() as net.AddressInfo).port }
    let fallbacks = 0
    const spoof = spoofer(
      () => 0.5,
      0,
      1,
      () => (fallbacks += 1)
    )
    const wanted = spoof.choosePort(client, to) ?? 0
    const taken: net.Socket[] = []
    for (const port of [wanted, wanted + 1, wanted + 2]) {
      const socket = net.connect({ host: to.ip, port: to.port, localAddress: client.ip, localPort: port })
      await new Promise(resolve => socket.once('connect', resolve))
      taken.push(socket)
    }
    t.teardown(() => taken.forEach(socket => socket.destroy()))
    const random = [0, 1, 2].map(step => 0.5 + step / 31_744)
    const three = spoofer(
      () => random.shift() ?? 0.5,
      0,
      1,
      () => (fallbacks += 1)
    )
    const socket = await three.dial(
      { place: {}, to, timeoutMs: 5000, tcp: {} },
      client,
      new AbortController().signal
    )
    t.equal(socket.localAddress, '127.0.0.1', 'from our own address then')
    t.equal(fallbacks, 1)
    socket.destroy()
  }
)

t.test(
  'a refusal is the application’s answer: no other port is tried',
  { skip: process.getuid?.() === 0 ? false : 'needs root' },
  async t => {
    const server = net.createServer()
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const to = { ip: ip('127.0.0.1'), port: (server.address() as net.AddressInfo).port }
    await new Promise(resolve => server.close(resolve))
    const spoof = spoofer(
      () => 0.5,
      0,
      1,
      () => t.fail('fell back')
    )
    await t.rejects(
      spoof.dial({ place: {}, to, timeoutMs: 5000, tcp: {} }, client, new AbortController().signal),
      {
        code: 'CONNECT_FAILED'
      }
    )
  }
)
