/** What a gateway decides without a socket: hostnames, listeners, and what it is told of them. */
import t from 'tap'
import { chooseListener } from '../../../waypoint/gateway/choose-listener.ts'
import { GatewayState } from '../../../waypoint/gateway/gateway-state.ts'
import { readGateway, readServerCertificate } from '../../../waypoint/gateway/gateway.ts'
import { HostTable } from '../../../waypoint/gateway/host-table.ts'
import { hostOf } from '../../../waypoint/gateway/hostname.ts'
import { oldestTlsRoute, readTlsRoute } from '../../../waypoint/routes/tls-route.ts'
import { certificateFor } from './world.ts'

const resource = (spec: Readonly<Record<string, unknown>>) => ({
  ...{ namespace: 'shop', name: 'edge', createdMs: 0 },
  spec
})

t.test('which hostname is for a host', async t => {
  const table = new HostTable<string>()
  for (const hostname of ['a.example.com', '*.example.com', '*.deep.example.com'])
    table.set(hostname, hostname)
  const situations = {
    'a.example.com': 'a.example.com',
    'b.example.com': '*.example.com',
    'b.a.example.com': '*.example.com',
    'x.deep.example.com': '*.deep.example.com',
    'deep.example.com': '*.example.com',
    'example.com': undefined,
    'notexample.com': undefined,
    '.example.com': undefined,
    '': undefined
  }
  for (const [host, expected] of Object.entries(situations)) t.equal(table.find(host), expected, host)
  table.set('', 'any')
  t.equal(table.find('example.com'), 'any')
  t.equal(table.find(''), 'any', 'also where no host is named')
})

t.test('the host of an authority', async t => {
  const situations = {
    'Shop.Example:8080': 'shop.example',
    'shop.example.': 'shop.example',
    'shop.example.:80': 'shop.example',
    '10.0.0.1:80': '10.0.0.1',
    '[2001:db8::1]:80': '[2001:db8::1]',
    '[2001:db8::1]': '[2001:db8::1]',
    'shop:': 'shop',
    '': ''
  }
  for (const [authority, expected] of Object.entries(situations))
    t.equal(hostOf(authority), expected, authority)
})

t.test('a Gateway is read strictly', async t => {
  const certificateRefs = [{ namespace: 'shop', name: 'site' }]
  const good = {
    name: 'web',
    port: 443,
    protocol: 'HTTPS',
    hostname: '*.Shop.Example',
    tls: { mode: 'Terminate', certificateRefs }
  }
  t.strictSame(readGateway(resource({ listeners: [good] })), [
    {
      id: { namespace: 'shop', gateway: 'edge', listener: 'web' },
      ...{
        port: 443,
        protocol: 'HTTPS',
        hostname: '*.shop.example',
        certificates: ['shop/site'],
        validation: undefined
      }
    }
  ])
  const bad: readonly (readonly [change: object, problem: RegExp])[] = [
    [{ port: 0 }, /listeners\[0\]\.port: expected a port/],
    [{ protocol: 'UDP' }, /listeners\[0\]\.protocol/],
    [{ hostname: 'a..b' }, /listeners\[0\]\.hostname: "a\.\.b" is no hostname/],
    [{ hostname: '*' }, /listeners\[0\]\.hostname/],
    [{ hostname: 'a.*.b' }, /listeners\[0\]\.hostname/],
    [{ tls: undefined }, /listeners\[0\]\.tls: is required for HTTPS/],
    [{ tls: { mode: 'Terminate' } }, /certificateRefs: a certificate is required/],
    [{ tls: { mode: 'Passthrough' } }, /tls\.mode: HTTPS ends at the gateway/],
    [{ protocol: 'HTTP' }, /listeners\[0\]\.tls: HTTP has no TLS/],
    [{ colour: 'red' }, /colour: unknown field/]
  ]
  for (const [change, problem] of bad) {
    t.throws(() => readGateway(resource({ listeners: [{ ...good, ...change }] })), { message: problem })
  }
  t.throws(() => readGateway(resource({ listeners: [good, { ...good, port: 444 }] })), {
    message: /same name/
  })
})

t.test('a certificate is tried before it is taken', async t => {
  const [one, other] = [certificateFor('a.example'), certificateFor('b.example')]
  const secret = (cert: unknown, key: unknown) => resource({ 'tls.crt': cert, 'tls.key': key })
  t.strictSame(readServerCertificate(secret(one.cert, one.key)), one)
  for (const [cert, key] of [
    [one.cert, other.key],
    ['nothing', one.key],
    [one.cert, undefined],
    ['', one.key]
  ]) {
    t.throws(() => readServerCertificate(secret(cert, key)), { message: /^(?!.*PRIVATE).*tls\.(crt|key)/ })
  }
})

t.test('a connection that is older than its port finds no listener', async t => {
  const state = new GatewayState()
  let changes = 0
  state.watch(() => (changes += 1))
  const listener = { name: 'web', port: 80, protocol: 'HTTP', hostname: '' }
  state.setListeners(readGateway(resource({ listeners: [listener] })))
  const plain = { tls: false, serverName: '' }
  t.match(chooseListener(state.ports.get(80), plain, 'a'), { kind: 'listener' })
  t.strictSame(chooseListener(state.ports.get(80), { tls: true, serverName: 'a' }, 'a'), { kind: 'none' })
  state.setListeners([])
  t.strictSame(chooseListener(state.ports.get(80), plain, 'a'), { kind: 'none' })
  t.equal(changes, 2)
})

t.test('of listeners that exclude each other the first stays', async t => {
  const state = new GatewayState()
  const listener = (name: string, more: object = {}) => ({
    name,
    port: 80,
    protocol: 'HTTP',
    hostname: '',
    ...more
  })
  const tls = { mode: 'Passthrough' }
  const listeners = [listener('one'), listener('two'), listener('three', { protocol: 'TLS', tls })]
  state.setListeners(readGateway(resource({ listeners })))
  const plan = state.ports.get(80)
  t.equal(plan?.kind, 'http')
  t.equal(plan?.listeners.find('a')?.id.listener, 'one')
})

t.test('of TLSRoutes for one name the oldest counts', async t => {
  const route = (name: string, createdMs: number) =>
    readTlsRoute(
      { namespace: 'shop', name, createdMs, spec: { rules: [{ backendRefs: [] }] } },
      'cluster.local'
    )
  t.equal(oldestTlsRoute([route('b', 2), route('c', 1), route('a', 2)])?.name, 'c')
  t.equal(oldestTlsRoute([route('b', 1), route('a', 1)])?.name, 'a')
  const backendRefs = [{ name: 'one', port: 443 }]
  const rules = [{ backendRefs }, { backendRefs: [{ name: 'two', port: 443 }] }]
  t.match(readTlsRoute(resource({ rules }), 'cluster.local').backends, [
    { hostname: 'one.shop.svc.cluster.local', port: 443, weight: 1 }
  ])
  t.throws(() => readTlsRoute(resource({ rules: [{ backends: [] }] }), 'cluster.local'), {
    message: /rules\[0\]\.backends: unknown field/
  })
})
