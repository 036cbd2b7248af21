/** Capture rules in real namespaces: every backend and mode, both families, both directions. */
import t, { type Test } from 'tap'
import {
  applyCapture,
  type CaptureMethod,
  readCapture,
  removeCapture
} from '../../daemonset/rules/capture.ts'
import { needsRoot } from '../support/namespaces.ts'
import {
  addresses,
  askOnce,
  Client,
  makeWorld,
  ruleOptions,
  serveLines,
  TestProxy,
  type World
} from './capture-world.ts'

t.setTimeout(300_000)

const methods: readonly CaptureMethod[] = [
  { backend: 'nft', mode: 'tproxy' },
  { backend: 'nft', mode: 'redirect' },
  { backend: 'iptables', mode: 'tproxy' },
  { backend: 'iptables', mode: 'redirect' }
]

for (const method of methods) {
  t.test(`${method.mode} by ${method.backend}`, { skip: needsRoot() }, async t => {
    const options = { ...ruleOptions, mode: method.mode }
    const world = makeWorld(t)
    const proxy = new TestProxy(world.pod.fd)
    t.teardown(() => proxy.stop())
    const appPort = await serveLines(t, world.pod, 'app')
    const peerPort = await serveLines(t, world.peer, 'peer')

    const before = {
      in: await Client.connect(world.peer, { ip: addresses[4].pod, port: appPort }),
      out: await Client.connect(world.pod, { ip: addresses[6].peer, port: peerPort })
    }
    await before.in.ask('before')
    await before.out.ask('before')
    await proxy.start()
    await applyCapture(world.pod.fd, method, options)

    for (const family of [4, 6] as const) {
      const { pod, peer } = addresses[family]
      await t.test(
        `IPv${family} into the pod passes the proxy, and the application sees the client`,
        async t => {
          const to = { ip: pod, port: appPort }
          t.equal(await askOnce(world.peer, to), `app saw ${peer}: hello`)
          const accepted = proxy.accepted.pop()
          t.match(accepted, { listener: 'inbound', client: { ip: peer }, destination: to })
        }
      )

      await t.test(`IPv${family} out of the pod passes the proxy, which learns the destination`, async t => {
        const to = { ip: peer, port: peerPort }
        t.equal(await askOnce(world.pod, to), `peer saw ${pod}: hello`)
        t.match(proxy.accepted.pop(), { listener: 'outbound', client: { ip: pod }, destination: to })
      })

      await t.test(`IPv${family} from the pod to itself is not captured`, async t => {
        const loopback = family === 4 ? '127.0.0.1' : '::1'
        t.equal(await askOnce(world.pod, { ip: pod, port: appPort }), `app saw ${pod}: hello`)
        t.equal(
          await askOnce(world.pod, { ip: loopback as typeof pod, port: appPort }),
          `app saw ${loopback}: hello`
        )
        t.strictSame(proxy.accepted, [])
      })

      await t.test(`IPv${family} probes reach the application directly`, async t => {
        const { probe } = addresses[family]
        // Without nodad an IPv6 address can be bound only once the kernel has come to look for duplicates.
        const [prefix, nodad] = family === 4 ? ['32', []] : ['128', ['nodad']]
        world.peer.run('ip', 'addr', 'add', `${probe}/${prefix}`, 'dev', 'lo', ...nodad)
        t.equal(
          await askOnce(world.peer, { ip: pod, port: appPort }, { from: probe }),
          `app saw ${probe}: hello`
        )
        t.strictSame(proxy.accepted, [])
      })
    }

    await t.test('connections that were open before live on', async t => {
      t.equal(await before.in.ask('after'), `app saw ${addresses[4].peer}: after`)
      t.equal(await before.out.ask('after'), `peer saw ${addresses[6].pod}: after`)
      t.strictSame(proxy.accepted, [])
    })
    before.in.close()
    before.out.close()

    await t.test('writing the same again changes nothing', async t => {
      const first = await readCapture(world.pod.fd, method, options)
      await applyCapture(world.pod.fd, method, options)
      t.strictSame(await readCapture(world.pod.fd, method, options), first)
      t.strictSame(first.actual, first.desired)
    })

    await withoutProxy(t, world, proxy, method, { appPort, peerPort })
    await tampering(t, world, method, { appPort, peerPort })

    await t.test('removal leaves nothing behind', async t => {
      await applyCapture(world.pod.fd, method, options)
      await removeCapture(world.pod.fd)
      proxy.accepted.length = 0
      t.notMatch(world.pod.run('nft', 'list', 'ruleset'), /underpass/i)
      t.notMatch(world.pod.run('iptables-save'), /UNDERPASS/)
      t.notMatch(world.pod.run('ip6tables-save'), /UNDERPASS/)
      t.notMatch(world.pod.run('ip', 'rule'), /fwmark/)
      t.notMatch(world.pod.run('ip', '-6', 'rule'), /fwmark/)
      t.equal(
        await askOnce(world.peer, { ip: addresses[4].pod, port: appPort }),
        `app saw ${addresses[4].peer}: hello`
      )
      t.strictSame(proxy.accepted, [])
      await removeCapture(world.pod.fd)
    })
  })
}

interface Ports {
  readonly appPort: number
  readonly peerPort: number
}

async function withoutProxy(
  t: Test,
  world: World,
  proxy: TestProxy,
  { mode }: CaptureMethod,
  { appPort, peerPort }: Ports
): Promise<void> {
  await t.test('without a proxy nothing passes, and clients recover with it', async t => {
    proxy.stop()
    const ways = [
      { from: world.peer, to: { ip: addresses[4].pod, port: appPort } },
      { from: world.peer, to: { ip: addresses[6].pod, port: appPort } },
      { from: world.pod, to: { ip: addresses[4].peer, port: peerPort } },
      { from: world.pod, to: { ip: addresses[6].peer, port: peerPort } }
    ]
    const reason = mode === 'tproxy' ? /no answer/ : /ECONNREFUSED/
    await Promise.all(ways.map(({ from, to }) => t.rejects(askOnce(from, to, { timeoutMs: 700 }), reason)))
    if (mode === 'tproxy') {
      // The SYN is dropped, so a client that came too early connects with its next one.
      const early = ways.map(({ from, to }) => askOnce(from, to, { timeoutMs: 10_000 }))
      await proxy.start()
      for (const answer of await Promise.all(early)) t.match(answer, /saw/)
    } else {
      await proxy.start()
      for (const { from, to } of ways) t.match(await askOnce(from, to), /saw/)
    }
    t.equal(proxy.accepted.length, ways.length)
    proxy.accepted.length = 0
  })
}

async function tampering(
  t: Test,
  world: World,
  method: CaptureMethod,
  { appPort, peerPort }: Ports
): Promise<void> {
  const options = { ...ruleOptions, mode: method.mode }

  await t.test(
    'a flushed loop route cuts the pod off instead of letting it leak, and is repaired',
    async t => {
      world.pod.run('ip', 'route', 'flush', 'table', '100')
      if (method.mode === 'tproxy') {
        const to = { ip: addresses[4].peer, port: peerPort }
        await t.rejects(askOnce(world.pod, to, { timeoutMs: 700 }), /no answer/)
      }
      const state = await readCapture(world.pod.fd, method, options)
      t.strictSame(state.missing, ['ipv4 route local default dev lo table 100'])
      await applyCapture(world.pod.fd, method, options)
      t.match(await askOnce(world.pod, { ip: addresses[4].peer, port: peerPort }), /peer saw/)
    }
  )

  if (method.mode === 'tproxy') {
    await t.test('a socket bound to the device does not get round the proxy', async t => {
      const to = { ip: addresses[4].peer, port: peerPort }
      await t.rejects(askOnce(world.pod, to, { device: 'eth0', timeoutMs: 700 }), /no answer/)
    })
  }

  await t.test('flushed rules are seen and put back', async t => {
    world.pod.run('nft', 'flush', 'ruleset')
    const flushed = await readCapture(world.pod.fd, method, options)
    t.ok(flushed.missing.length > 5)
    await applyCapture(world.pod.fd, method, options)
    t.strictSame((await readCapture(world.pod.fd, method, options)).missing, [])
    t.match(await askOnce(world.peer, { ip: addresses[4].pod, port: appPort }), /app saw/)
  })

  await t.test('a changed option replaces the rules and leaves nothing of the old ones', async t => {
    const ingress = { ...options, inbound: false }
    await applyCapture(world.pod.fd, method, ingress)
    const state = await readCapture(world.pod.fd, method, ingress)
    t.strictSame(state.actual, state.desired)
    await applyCapture(world.pod.fd, method, options)
  })

  await t.test('rules of others stay', async t => {
    world.pod.run('iptables', '-t', 'mangle', '-I', 'PREROUTING', '-p', 'icmp', '-j', 'ACCEPT')
    const shifted = await readCapture(world.pod.fd, method, options)
    t.equal(shifted.unexpected.length > 0, method.backend === 'iptables', 'a jump that is not first counts')
    await applyCapture(world.pod.fd, method, options)
    const state = await readCapture(world.pod.fd, method, options)
    t.strictSame(state.actual, state.desired)
    t.match(world.pod.run('iptables-save', '-t', 'mangle'), /-A PREROUTING -p icmp -j ACCEPT/)
    world.pod.run('iptables', '-t', 'mangle', '-D', 'PREROUTING', '-p', 'icmp', '-j', 'ACCEPT')
  })
}
