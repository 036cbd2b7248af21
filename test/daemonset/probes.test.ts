import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import type { Pod } from '../../shared/kube/core-api.ts'
import { HostProbes } from '../../daemonset/host-probes.ts'
import { iptablesHostScript, nftHostTable, type ProbeTarget } from '../../daemonset/rules/host-probes.ts'
import { probePorts } from '../../daemonset/watch-pods.ts'

function pod(...containers: object[]): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web' },
    spec: { containers: containers.map((container, index) => ({ name: `c${index}`, ...container })) }
  }
}

const situations: readonly { name: string; pod: Pod; ports: readonly number[] }[] = [
  { name: 'no probe, no port', pod: pod({ ports: [{ containerPort: 80 }] }), ports: [] },
  {
    name: 'every kind of probe',
    pod: pod({
      livenessProbe: { httpGet: { port: 8080 } },
      readinessProbe: { tcpSocket: { port: 9090 } },
      startupProbe: { grpc: { port: 50_051 } }
    }),
    ports: [8080, 9090, 50_051]
  },
  {
    name: 'a name is looked up in its own container',
    pod: pod(
      { ports: [{ name: 'health', containerPort: 1111 }], livenessProbe: { httpGet: { port: 'health' } } },
      { ports: [{ name: 'health', containerPort: 2222 }] }
    ),
    ports: [1111]
  },
  { name: 'a name that nobody declares', pod: pod({ livenessProbe: { httpGet: { port: 'x' } } }), ports: [] },
  {
    name: 'commands connect to nothing',
    pod: pod({ livenessProbe: { exec: { command: ['true'] } } }),
    ports: []
  },
  {
    name: 'hooks of the life cycle, each port once',
    pod: pod({ lifecycle: { preStop: { httpGet: { port: 80 } } }, livenessProbe: { httpGet: { port: 80 } } }),
    ports: [80]
  },
  { name: 'what is no port', pod: pod({ livenessProbe: { httpGet: { port: 70_000 } } }), ports: [] }
]

for (const { name, pod, ports } of situations) {
  t.test(name, async t => void t.strictSame(probePorts(pod), ports))
}

const sources = [ip('169.254.7.127'), ip('fd16::1')]

t.test('by iptables: only sockets of the node, only declared ports', async t => {
  const targets = [
    { ip: ip('10.0.0.7'), port: 80, uid: 'a' },
    { ip: ip('fd00::7'), port: 80, uid: 'a' }
  ]
  t.strictSame(iptablesHostScript(ip('169.254.7.127'), targets), [
    ':UNDERPASS_PROBES - [0:0]',
    '-A UNDERPASS_PROBES -d 10.0.0.7/32 -p tcp -m tcp --dport 80 -m owner --socket-exists -j SNAT --to-source 169.254.7.127'
  ])
})

t.test('by nft: an address that is used again belongs to its latest pod', async t => {
  const targets = [
    { ip: ip('10.0.0.7'), port: 80, uid: 'old' },
    { ip: ip('10.0.0.7'), port: 80, uid: 'new' }
  ]
  const text = JSON.stringify(nftHostTable(sources, targets))
  t.match(text, /"comment":"new"/)
  t.notMatch(text, /"comment":"old"/)
})

/** Rules that remember what was written, and can be held up or fail. */
class FakeRules {
  readonly writes: string[] = []
  hold: Promise<void> | undefined
  failures = 0
  good = true

  readonly write = async (targets: readonly ProbeTarget[]): Promise<void> => {
    await this.hold
    if (this.failures-- > 0) throw new Error('cannot write')
    this.writes.push(targets.map(({ ip, port, uid }) => `${uid}=${ip}:${port}`).join(' '))
  }

  readonly verify = async (): Promise<boolean> => this.good
}

t.test('the set of probed ports', async t => {
  const address = [ip('10.0.0.7')]

  await t.test('is written when it changes, and not when it does not', async t => {
    const rules = new FakeRules()
    const probes = new HostProbes(rules)
    await probes.put('a', address, [80])
    await probes.put('a', address, [80])
    await probes.put('b', [ip('10.0.0.8')], [])
    await probes.remove('b')
    await probes.remove('a')
    t.strictSame(rules.writes, ['a=10.0.0.7:80', ''])
  })

  await t.test('collects what comes while a write runs', async t => {
    const rules = new FakeRules()
    let release = (): void => undefined
    rules.hold = new Promise(resolve => (release = resolve))
    const probes = new HostProbes(rules)
    const first = probes.put('a', address, [80])
    await new Promise(resolve => setImmediate(resolve))
    const rest = ['b', 'c', 'd'].map((uid, index) => probes.put(uid, [ip(`10.0.1.${index}`)], [80]))
    release()
    await Promise.all([first, ...rest])
    t.equal(rules.writes.length, 2)
    t.match(rules.writes[1], /a=.* b=.* c=.* d=/)
  })

  await t.test('is written again after a failure', async t => {
    const rules = new FakeRules()
    rules.failures = 1
    const probes = new HostProbes(rules)
    await t.rejects(probes.put('a', address, [80]), /cannot write/)
    await probes.put('a', address, [80])
    t.strictSame(rules.writes, ['a=10.0.0.7:80'])
  })

  await t.test('starts with the pods that were there before, in one write', async t => {
    const rules = new FakeRules()
    const probes = new HostProbes(rules)
    probes.adopt('a', address, [80])
    probes.adopt('b', [ip('10.0.0.8')], [])
    t.equal(await probes.repair(), false, 'the rules are still right')
    await probes.put('a', address, [80])
    t.strictSame(rules.writes, [])
    rules.good = false
    await probes.repair()
    t.strictSame(rules.writes, ['a=10.0.0.7:80'])
  })

  await t.test('is repaired when others changed it', async t => {
    const rules = new FakeRules()
    const probes = new HostProbes(rules)
    await probes.put('a', address, [80])
    t.equal(await probes.repair(), false)
    rules.good = false
    t.equal(await probes.repair(), true)
    t.strictSame(rules.writes, ['a=10.0.0.7:80', 'a=10.0.0.7:80'])
  })
})
