/** Situations of capture beyond the ordinary pod: machines behind it, ingress mode, hand-over, bound devices, marks. */
import t, { type Test } from 'tap'
import { applyCapture, removeCapture, type CaptureMethod } from '../../daemonset/rules/capture.ts'
import type { RuleOptions } from '../../daemonset/rules/desired.ts'
import { ip } from '../../shared/net/address.ts'
import { joinNamespaces, makeNamespace, needsRoot } from '../support/namespaces.ts'
import {
  addresses,
  askOnce,
  makeWorld,
  ruleOptions,
  serveLines,
  TestProxy,
  type World
} from './capture-world.ts'

t.setTimeout(300_000)

const skip = needsRoot()
const methods: readonly CaptureMethod[] = [
  { backend: 'nft', mode: 'tproxy' },
  { backend: 'iptables', mode: 'tproxy' },
  { backend: 'nft', mode: 'redirect' },
  { backend: 'iptables', mode: 'redirect' }
]

interface Scene extends World {
  readonly proxy: TestProxy
  readonly appPort: number
  readonly peerPort: number
}

async function scene(t: Test, method: CaptureMethod, options: Partial<RuleOptions> = {}): Promise<Scene> {
  const world = makeWorld(t)
  const proxy = new TestProxy(world.pod.fd)
  t.teardown(() => proxy.stop())
  await proxy.start()
  await applyCapture(world.pod.fd, method, { ...ruleOptions, ...options, mode: method.mode })
  const [appPort, peerPort] = [await serveLines(t, world.pod, 'app'), await serveLines(t, world.peer, 'peer')]
  return { ...world, proxy, appPort, peerPort }
}

for (const method of methods) {
  const name = `${method.mode} by ${method.backend}`

  t.test(`${name}: what a machine behind the pod sends is outbound`, { skip }, async t => {
    const { pod, proxy, peerPort } = await scene(t, method, { virtualInterfaces: ['tap0'] })
    const machine = makeNamespace(t, 'uph3')
    joinNamespaces(
      { namespace: pod, device: 'tap0', addresses: ['10.99.0.1/24'] },
      { namespace: machine, device: 'eth0', addresses: ['10.99.0.2/24'] }
    )
    machine.run('ip', 'route', 'add', 'default', 'via', '10.99.0.1')
    await applyCapture(pod.fd, method, { ...ruleOptions, mode: method.mode, virtualInterfaces: ['tap0'] })
    const to = { ip: addresses[4].peer, port: peerPort }
    t.equal(await askOnce(machine, to), `peer saw ${addresses[4].pod}: hello`)
    t.match(proxy.accepted, [{ listener: 'outbound', client: { ip: '10.99.0.2' }, destination: to }])
  })

  t.test(`${name}: in ingress mode only what the pod sends is captured`, { skip }, async t => {
    const { pod, peer, proxy, appPort, peerPort } = await scene(t, method, { inbound: false })
    t.equal(
      await askOnce(peer, { ip: addresses[4].pod, port: appPort }),
      `app saw ${addresses[4].peer}: hello`
    )
    t.strictSame(proxy.accepted, [])
    await askOnce(pod, { ip: addresses[6].peer, port: peerPort })
    t.match(proxy.accepted, [{ listener: 'outbound' }])
  })

  t.test(`${name}: a proxy hands over to the next one without losing a connection`, { skip }, async t => {
    const { pod, peer, proxy, appPort, peerPort } = await scene(t, method)
    const next = new TestProxy(pod.fd)
    t.teardown(() => next.stop())
    const into = { ip: addresses[4].pod, port: appPort }
    const outOf = { ip: addresses[4].peer, port: peerPort }
    const answers: Promise<string>[] = []
    for (let turn = 0; turn < 60; turn++) {
      answers.push(askOnce(peer, into), askOnce(pod, outOf))
      if (turn === 20) await next.start()
      if (turn === 40) proxy.stop({ cut: false })
      if (turn % 5 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    for (const answer of await Promise.all(answers)) t.match(answer, /saw/)
    t.ok(proxy.accepted.length > 0, 'the old one had its part')
    t.ok(next.accepted.length > 0, 'and the new one, too')
    t.equal(proxy.accepted.length + next.accepted.length, answers.length)
  })
}

t.test(
  'without the guard a socket bound to a device gets round TPROXY, which is why there is one',
  { skip },
  async t => {
    const { pod, proxy, peerPort } = await scene(t, { backend: 'nft', mode: 'tproxy' }, { leakGuard: false })
    const to = { ip: addresses[4].peer, port: peerPort }
    t.equal(await askOnce(pod, to, { device: 'eth0' }), `peer saw ${addresses[4].pod}: hello`)
    t.strictSame(proxy.accepted, [])
  }
)

t.test('the reverse path check with marks does not drop captured packets', { skip }, async t => {
  const { pod, peer, proxy, appPort, peerPort } = await scene(t, { backend: 'nft', mode: 'tproxy' })
  pod.run('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.eth0.rp_filter=1')
  pod.run('sysctl', '-qw', 'net.ipv4.conf.all.src_valid_mark=1', 'net.ipv4.conf.eth0.src_valid_mark=1')
  t.match(await askOnce(peer, { ip: addresses[4].pod, port: appPort }), /app saw/)
  t.match(await askOnce(pod, { ip: addresses[4].peer, port: peerPort }), /peer saw/)
  t.equal(proxy.accepted.length, 2)
})

t.test('higher bits of marks stay as others set them', { skip }, async t => {
  const { pod, proxy, peerPort } = await scene(t, { backend: 'nft', mode: 'tproxy' })
  // Another plug-in marks everything that leaves, and looks for its mark on what comes back round through lo.
  pod.run(
    'nft',
    'add table inet other; add chain inet other o { type filter hook output priority -160; }; add rule inet other o meta mark set meta mark or 0xa5000; add chain inet other p { type filter hook prerouting priority -160; }; add rule inet other p iifname lo meta mark & 0xff000 == 0xa5000 tcp flags syn counter'
  )
  await askOnce(pod, { ip: addresses[4].peer, port: peerPort })
  t.match(proxy.accepted, [{ listener: 'outbound' }])
  t.match(pod.run('nft', 'list', 'chain', 'inet', 'other', 'p'), /counter packets [1-9]/)
})

t.test('calls to other loopback addresses of the machine stay inside', { skip }, async t => {
  for (const method of methods) {
    const { pod, proxy } = await scene(t, method)
    const port = await serveLines(t, pod, 'stub', ip('127.0.0.53'))
    t.equal(await askOnce(pod, { ip: ip('127.0.0.53'), port }), 'stub saw 127.0.0.1: hello')
    t.strictSame(proxy.accepted, [])
    await removeCapture(pod.fd)
  }
})

t.test('a pod whose lo has no IPv6 is captured with IPv4', { skip }, async t => {
  for (const method of methods) {
    const { pod, peer } = makeWorld(t)
    pod.run('sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=1')
    const proxy = new TestProxy(pod.fd)
    await proxy.start()
    await applyCapture(pod.fd, method, { ...ruleOptions, mode: method.mode })
    const port = await serveLines(t, peer, 'peer')
    t.match(await askOnce(pod, { ip: addresses[4].peer, port }), /peer saw/)
    t.equal(proxy.accepted.length, 1)
    proxy.stop()
  }
})
