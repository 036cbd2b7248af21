import t from 'tap'
import { createSocket } from 'node:dgram'
import { Resolver } from 'node:dns/promises'
import { readQuestion, recordTypes, writeAnswer, type DnsAnswer } from '../../lab/dns-message.ts'
import { resolve, type ClusterNames } from '../../lab/dns-records.ts'
import { startDns } from '../../lab/dns.ts'
import { ip } from '../../shared/net/address.ts'
import type { EndpointSlice, Service } from '../../shared/kube/core-api.ts'

const service = (name: string, spec: NonNullable<Service['spec']>): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec
})

const services = [
  service('web', { clusterIP: '10.96.1.1', ports: [{ name: 'http', port: 80 }] }),
  service('db', { clusterIP: 'None' }),
  service('far', { type: 'ExternalName', externalName: 'example.org' }),
  service('near', { type: 'ExternalName', externalName: 'web.shop.svc.cluster.local' }),
  service('loop', { type: 'ExternalName', externalName: 'loop.shop.svc.cluster.local' })
]

const dbSlice: EndpointSlice = {
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'db', namespace: 'shop' },
  addressType: 'IPv4',
  ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }],
  endpoints: [
    { addresses: ['10.244.1.5'], hostname: 'db-0', conditions: { ready: true } },
    { addresses: ['10.244.1.6'], hostname: 'db-1', conditions: { ready: false } }
  ]
}

const names: ClusterNames = {
  service: (namespace, name) =>
    services.find(({ metadata }) => namespace === 'shop' && metadata.name === name),
  slices: (namespace, name) => (namespace === 'shop' && name === 'db' ? [dbSlice] : []),
  hasNamespace: name => name === 'shop'
}

const { A, AAAA, SRV } = recordTypes
const questions: readonly (readonly [
  claim: string,
  name: string,
  type: number,
  answer: string | object[]
])[] = [
  ['a Service has its address', 'web.shop.svc.cluster.local', A, [{ type: 'A', address: '10.96.1.1' }]],
  ['it has no IPv6 address', 'web.shop.svc.cluster.local', AAAA, 'empty'],
  [
    'a headless Service has those of its ready pods',
    'db.shop.svc.cluster.local',
    A,
    [{ address: '10.244.1.5' }]
  ],
  ['a pod of a StatefulSet has a name', 'db-0.db.shop.svc.cluster.local', A, [{ address: '10.244.1.5' }]],
  ['one that is not ready has none', 'db-1.db.shop.svc.cluster.local', A, 'no-such-name'],
  [
    'a port of a Service is found',
    '_http._tcp.web.shop.svc.cluster.local',
    SRV,
    [{ type: 'SRV', port: 80, target: 'web.shop.svc.cluster.local' }]
  ],
  [
    'ports of a headless Service lead to its pods',
    '_sql._tcp.db.shop.svc.cluster.local',
    SRV,
    [{ port: 5432, target: 'db-0.db.shop.svc.cluster.local' }]
  ],
  [
    'a name elsewhere is an alias',
    'far.shop.svc.cluster.local',
    A,
    [{ type: 'CNAME', target: 'example.org' }]
  ],
  [
    'an alias in the cluster is followed',
    'near.shop.svc.cluster.local',
    A,
    [{ type: 'CNAME' }, { type: 'A', address: '10.96.1.1' }]
  ],
  ['a pod by its address', '10-244-1-5.shop.pod.cluster.local', A, [{ address: '10.244.1.5' }]],
  ['an unknown Service', 'nope.shop.svc.cluster.local', A, 'no-such-name'],
  ['an unknown namespace', 'web.nope.svc.cluster.local', A, 'no-such-name'],
  ['a namespace alone exists', 'shop.svc.cluster.local', A, 'empty']
]

t.test('names mean what they mean on a cluster', async t => {
  for (const [claim, name, type, expected] of questions) {
    const answer = resolve(names, name, type)
    if (typeof expected === 'string') t.equal(answer?.kind, expected, claim)
    else t.match((answer as Extract<DnsAnswer, { kind: 'records' }>).records, expected, claim)
  }
  t.equal(resolve(names, 'example.org', A), undefined, 'a name elsewhere is not answered here')
  t.equal(resolve(names, 'loop.shop.svc.cluster.local', A)?.kind, 'records', 'an alias of itself ends')
})

t.test('an ordinary resolver understands the server, by UDP and by TCP', async t => {
  const server = await startDns({ names, address: ip('127.0.0.1'), port: 0 })
  t.teardown(() => server.close())
  const resolver = new Resolver({ timeout: 2000, tries: 2 })
  resolver.setServers([`127.0.0.1:${server.port}`])
  t.strictSame(await resolver.resolve4('web.shop.svc.cluster.local'), ['10.96.1.1'])
  t.match(await resolver.resolveSrv('_http._tcp.web.shop.svc.cluster.local'), [{ port: 80 }])
  await t.rejects(resolver.resolve4('example.org'), { code: 'ENOTFOUND' })
  await t.rejects(resolver.resolve6('web.shop.svc.cluster.local'), { code: 'ENODATA' })
})

t.test('an answer that does not fit by UDP is marked as cut, and whole by TCP', async t => {
  const many = Array.from({ length: 60 }, (_, index) => ip(`10.244.1.${index + 1}`))
  const question = {
    id: 7,
    name: 'db.shop.svc.cluster.local',
    type: A,
    recursionDesired: true,
    udpSize: 512,
    edns: false
  }
  const records = many.map(address => ({ type: 'A' as const, name: question.name, address }))
  const cut = writeAnswer(question, { kind: 'records', records }, 512)
  t.ok(cut.length <= 512)
  t.equal((cut[2] ?? 0) & 0x02, 0x02, 'the bit TC')
  const whole = writeAnswer(question, { kind: 'records', records }, 65535)
  t.equal(whole.readUInt16BE(6), 60)
})

t.test('what is no query is not answered and does no harm', async t => {
  const query = Buffer.from(
    '000101000001000000000000037765620473686f700373766307636c7573746572056c6f63616c0000010001',
    'hex'
  )
  t.match(readQuestion(query), { id: 1, name: 'web.shop.svc.cluster.local', type: 1 })
  for (let length = 0; length < query.length; length += 1) {
    t.equal(readQuestion(query.subarray(0, length)), undefined, `cut at ${length}`)
  }
  const answer = Buffer.from(query)
  answer.writeUInt8(0x80, 2)
  t.equal(readQuestion(answer), undefined, 'an answer')
  const server = await startDns({ names, address: ip('127.0.0.1'), port: 0 })
  t.teardown(() => server.close())
  const socket = createSocket('udp4')
  t.teardown(() => socket.close())
  const reply = new Promise<Buffer>(resolve => socket.once('message', resolve))
  socket.send(Buffer.from('junk'), server.port, '127.0.0.1')
  socket.send(query, server.port, '127.0.0.1')
  t.equal((await reply).readUInt16BE(0), 1, 'the query after the junk is answered')
})
