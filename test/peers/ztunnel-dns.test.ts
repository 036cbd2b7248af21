/** The same DNS questions to our ztunnel and to Istio's: answers, metrics and log, field by field. */
import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { samples } from '../support/access-lines.ts'
import type { Asked, Heard } from '../support/dns-wire.ts'
import { eventually } from '../support/eventually.ts'
import { needsRoot, peerProgram, startProxy, twoNodes, type Proxy } from '../support/two-nodes.ts'
import { ask, askByTcp, dnsMesh, startResolver, writeResolvConf } from '../netns/dns-world.ts'

t.setTimeout(180_000)
const rust = peerProgram('ztunnel')
const skip = 'reason' in rust ? rust.reason : needsRoot()

const questions: readonly Asked[] = [
  ...['web', 'web.shop', 'web.shop.svc', 'web.shop.svc.cluster.local', 'vault.bank', 'vault'].flatMap(
    name => [
      { name, type: 'A' as const },
      { name, type: 'AAAA' as const }
    ]
  ),
  { name: 'web.shop.svc.cluster.local', type: 'SRV' },
  { name: 'four', type: 'AAAA' },
  { name: 'db', type: 'A' },
  { name: 'db', type: 'AAAA' },
  { name: 'db-9.db', type: 'A' },
  { name: 'api.external.test', type: 'A' },
  { name: 'api.external.test.search.test', type: 'A' },
  { name: 'secret.test', type: 'A' },
  { name: 'a.wild.test', type: 'A' },
  { name: 'a.b.wild.test', type: 'AAAA' },
  { name: 'a.wild.test.search.test', type: 'A' },
  { name: 'wild.test', type: 'A' },
  { name: 'www.example.org', type: 'A' },
  { name: 'nothing.example.com', type: 'A' },
  { name: 'web', type: 'A', edns: 1232 }
]

/** Where they differ, because ours is meant to. */
const wanted: readonly { asked: Asked; why: string; ours: object; theirs: object }[] = [
  {
    asked: { name: 'WEB.Shop', type: 'A' },
    why: 'clients that vary the case compare it',
    ours: { answers: ['WEB.Shop 30 A 10.97.0.1'] },
    theirs: { answers: ['web.shop 30 A 10.97.0.1'] }
  },
  {
    asked: { name: 'db-1.db', type: 'A' },
    why: 'pods of headless Services are known; this release of Istio asks the resolver',
    ours: { rcode: 0, answers: ['db-1.db 30 A 10.79.2.51'] },
    theirs: { rcode: 3, answers: [] }
  },
  {
    asked: { name: 'many', type: 'A' },
    why: 'without EDNS 512 bytes are all that a client has to take',
    ours: { truncated: true, answers: 30 },
    theirs: { truncated: true, answers: 227 }
  },
  {
    asked: { name: 'many', type: 'A', edns: 1232 },
    why: 'an answer to EDNS has EDNS, also a truncated one',
    ours: { truncated: true, answers: 74, edns: true },
    theirs: { truncated: true, answers: 75, edns: false }
  }
]

t.test('ours and Istio’s give the same answers', { skip }, async t => {
  const nodes = await twoNodes(t, { capture: 'none', prefix: `updn-${process.pid}` })
  const told = []
  for (const [kind, node] of [
    ['underpass', nodes.a],
    ['rust', nodes.b]
  ] as const) {
    writeResolvConf(t, { name: node.netns }, 'nameserver 127.0.0.1\nsearch search.test\n')
    await startResolver(t, { fd: node.netnsFd }, ip('127.0.0.1'))
    const proxy = await startProxy(t, node, {
      kind,
      workload: 'shop/client/client',
      localConfig: dnsMesh({ client: nodes.a, server: nodes.b }),
      env: { NODE_NAME: 'node-1', ISTIO_META_DNS_CAPTURE: 'true', RUST_LOG: 'info,dns=debug' }
    })
    const to = { ip: ip('127.0.0.1'), port: 15053 }
    const answers: Shown[] = []
    for (const asked of questions) {
      answers.push(shown(asked, 'udp', await ask(node.netnsFd, to, asked)))
      const [heard] = await askByTcp(node.netnsFd, to, [asked])
      if (heard !== undefined) answers.push(shown(asked, 'tcp', heard))
    }
    const metrics = await metricsOf(proxy)
    const lines = questions.length * 2
    await eventually('all is logged', () => logOf(proxy).length >= lines, { everyMs: 20 })
    const log = logOf(proxy).slice(0, lines)
    for (const { asked, why, ...sides } of wanted) {
      const heard = await ask(node.netnsFd, to, asked)
      t.match(shown(asked, 'udp', heard), sides[kind === 'underpass' ? 'ours' : 'theirs'], `${kind}: ${why}`)
    }
    told.push({ answers, metrics, log })
  }
  const [ours, theirs] = told
  t.equal(theirs?.answers.length, questions.length * 2)
  for (const [index, answer] of (theirs?.answers ?? []).entries()) {
    t.strictSame(ours?.answers[index], answer, answer.question)
  }
  // They count a name that does not exist as a failure of the resolver, and say so in the log.
  const failures = (line: string): boolean => line.startsWith('istio_dns_upstream_failures_total')
  t.strictSame(
    ours?.metrics,
    theirs?.metrics.filter(line => !failures(line))
  )
  t.ok(theirs?.metrics.some(failures), 'this is still so')
  // And their log does not count the addresses of an answer, only what stands before them.
  const uncounted = (line: string): string => line.replace(/(result="success" endpoints=)\d+/, '$1…')
  t.strictSame(
    ours?.log.map(uncounted),
    theirs?.log.map(line => uncounted(line.replace(/"forwarding failed \(.*\)"/, '"forwarded"')))
  )
  t.ok((theirs?.metrics.length ?? 0) > 4 && (theirs?.log.length ?? 0) > 20, 'there was something to compare')
})

type Shown = Readonly<Record<string, unknown>> & { readonly question: string }

/** Without what is random: the order of addresses, and which of too many fit. */
function shown({ name, type, edns }: Asked, protocol: string, heard: Heard): Shown {
  const { rcode, authoritative, truncated, answers } = heard
  return {
    question: `${protocol} ${type} ${name} ${edns ?? ''}`,
    rcode,
    authoritative,
    truncated,
    answers: truncated ? answers.length : [...answers].toSorted(),
    edns: heard.edns !== undefined
  }
}

async function metricsOf(proxy: Proxy): Promise<readonly string[]> {
  const { body } = await proxy.ask(15020, '/metrics')
  return [
    'istio_dns_requests_total',
    'istio_dns_upstream_requests_total',
    'istio_dns_upstream_failures_total',
    'istio_dns_upstream_request_duration_seconds_count'
  ].flatMap(name =>
    samples(body, name)
      .map(({ labels, value }) => `${name} ${JSON.stringify(labels)} ${value}`)
      .toSorted()
  )
}

function logOf({ log }: Proxy): readonly string[] {
  return log
    .filter(line => line.includes('\tdns') && line.includes('src.workload='))
    .map(line => line.split('\t').slice(1).join(' '))
}
