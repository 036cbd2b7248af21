import t from 'tap'
import {
  connectHeaders,
  formatAuthority,
  formatBaggage,
  formatForwarded,
  formatTraceParent,
  fromOtherNetwork,
  newTraceParent,
  parseAuthority,
  parseBaggage,
  parseForwardedHost,
  parseTraceParent,
  type Baggage
} from '../../../shared/hbone/connect.ts'
import { ip } from '../../../shared/net/address.ts'

t.test('authority: an address or a name, the port is mandatory', async t => {
  const address = (text: string, port: number): object => ({
    kind: 'address',
    address: { ip: ip(text), port }
  })
  const hostname = (name: string, port: number): object => ({ kind: 'hostname', hostname: name, port })
  const rows: readonly (readonly [text: string, expected: object | undefined])[] = [
    ['10.0.0.1:80', address('10.0.0.1', 80)],
    ['[2001:db8::1]:65535', address('2001:db8::1', 65_535)],
    ['[::ffff:10.0.0.1]:80', address('10.0.0.1', 80)],
    ['web.default.svc.cluster.local:8080', hostname('web.default.svc.cluster.local', 8080)],
    ['web:1', hostname('web', 1)],
    ['a_b.example:1', hostname('a_b.example', 1)],
    ['10.0.0.1', undefined],
    ['10.0.0.1:', undefined],
    ['10.0.0.1:65536', undefined],
    ['10.0.0.1:-1', undefined],
    ['10.0.0.1:80 ', undefined],
    ['2001:db8::1:80', undefined],
    ['[2001:db8::1]', undefined],
    ['user@web:80', undefined],
    ['http://web:80', undefined],
    ['web/..:80', undefined],
    ['-web:80', undefined],
    [`${'a'.repeat(256)}:80`, undefined],
    [':80', undefined],
    ['', undefined]
  ]
  for (const [text, expected] of rows) {
    const authority = parseAuthority(text)
    t.strictSame(authority, expected, text)
    if (authority !== undefined && !text.includes('ffff')) t.equal(formatAuthority(authority), text)
  }
})

const baggage: Baggage = {
  cluster: 'Kubernetes',
  namespace: 'default',
  workloadType: 'deployment',
  workloadName: 'web',
  service: 'web',
  version: 'v1',
  region: 'r1',
  zone: 'z1'
}
const unset: Baggage = {
  cluster: '',
  namespace: '',
  workloadType: 'deployment',
  workloadName: '',
  service: '',
  version: '',
  region: '',
  zone: ''
}

t.test('baggage: order and names as ztunnels write them, empty values left out', async t => {
  t.equal(
    formatBaggage(baggage),
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=web,service.name=web,service.version=v1,cloud.region=r1,cloud.availability_zone=z1'
  )
  t.equal(formatBaggage({ ...unset, workloadType: 'job', workloadName: 'j' }), 'k8s.job.name=j')
  t.equal(formatBaggage(unset), '')
  t.equal(
    formatBaggage({ ...unset, service: 'a,b', version: 'x\r\nhost: evil', region: 'grün', zone: 'a b' }),
    '',
    'what would break the header is left out'
  )
})

t.test('baggage: what was written is read; lines are joined, the unknown is skipped', async t => {
  t.strictSame(parseBaggage([formatBaggage(baggage)]), baggage)
  t.strictSame(parseBaggage(['k8s.cluster.name=c', 'k8s.cronjob.name=nightly,foo=bar, service.name = x']), {
    ...unset,
    cluster: 'c',
    workloadType: 'cronjob',
    workloadName: 'nightly',
    service: 'x'
  })
  t.strictSame(parseBaggage(['service.name=']), unset, 'an empty value is unset')
  t.strictSame(parseBaggage(['service.name=a=b'])?.service, 'a=b')
  for (const values of [[], [''], ['nonsense'], ['service.name=\u00fc'], ['=x']])
    t.equal(parseBaggage(values), undefined)
})

t.test('forwarded: written with quotes, only the host is read', async t => {
  const source = { ip: ip('10.0.0.9'), port: 1234 }
  t.equal(formatForwarded(source, undefined), 'for="10.0.0.9:1234"')
  t.equal(formatForwarded(source, 'web.ns'), 'for="10.0.0.9:1234";host=web.ns')
  t.equal(formatForwarded({ ip: ip('2001:db8::9'), port: 1 }, undefined), 'for="[2001:db8::9]:1"')
  const rows: readonly (readonly [values: string[], expected: string | undefined])[] = [
    [['for="10.0.0.9:1234";host=web.ns'], 'web.ns'],
    [['host="web.ns"'], 'web.ns'],
    [['for=x; host=web.ns ;proto=http'], 'web.ns'],
    [['for=x', 'host=second'], 'second'],
    [['for="10.0.0.9:1"'], undefined],
    [['host='], undefined],
    [['host=""'], undefined],
    [['host=wéb'], undefined],
    [['xhost=web'], undefined],
    [[], undefined]
  ]
  for (const [values, expected] of rows) t.equal(parseForwardedHost(values), expected, values.join(' | '))
})

t.test('traceparent: 55 characters of the right form or nothing', async t => {
  const trace = newTraceParent()
  const text = formatTraceParent(trace)
  t.match(text, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
  t.strictSame(parseTraceParent([text]), trace)
  t.not(newTraceParent().traceId, trace.traceId)
  t.strictSame(
    newTraceParent(() => 0),
    { traceId: '0'.repeat(32), spanId: '0'.repeat(16) }
  )
  const wrong = [
    '',
    'a-b-c-d',
    '00-1-2-00',
    text.toUpperCase().replace(/[0-9]/g, 'A'),
    `${text}x`,
    text.slice(1),
    'no dashes',
    text.replaceAll('-', '_')
  ]
  for (const value of wrong) t.equal(parseTraceParent([value]), undefined, value)
  t.equal(parseTraceParent([]), undefined)
})

t.test('x-forwarded-network marks a request from another network', async t => {
  t.notOk(fromOtherNetwork([], 'net1'))
  t.notOk(fromOtherNetwork(['NET1'], 'net1'))
  t.ok(fromOtherNetwork(['net2'], 'net1'))
  t.ok(fromOtherNetwork([''], 'net1'), 'the empty network is a network')
  t.notOk(fromOtherNetwork([''], ''))
})

t.test('the headers of a request, in order', async t => {
  const facts = {
    baggage: 'a=b',
    source: { ip: ip('10.0.0.9'), port: 1234 },
    serviceHostname: 'web.ns',
    trace: { traceId: 't'.repeat(32), spanId: 's'.repeat(16) }
  }
  const headers = [
    ['baggage', 'a=b'],
    ['forwarded', 'for="10.0.0.9:1234";host=web.ns'],
    ['traceparent', `00-${'t'.repeat(32)}-${'s'.repeat(16)}-00`]
  ]
  t.strictSame(connectHeaders(facts), headers)
  t.strictSame(connectHeaders({ ...facts, network: '' }), [...headers, ['x-forwarded-network', '']])
})
