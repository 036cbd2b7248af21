import t from 'tap'
import { ConfigError, EnvReader } from '../../../shared/runtime/env.ts'
import { readDnsConfig, type DnsConfig, type DnsConfigContext } from '../../../ztunnel/dns/config.ts'
import { readResolvConf } from '../../../ztunnel/dns/resolv-conf.ts'

function read(context: Partial<DnsConfigContext>): DnsConfig | undefined {
  const env = new EnvReader({})
  const config = readDnsConfig(env, {
    mode: 'shared',
    domain: 'cluster.local',
    ipv6: true,
    onDemand: false,
    metadata: {},
    readFile: () => 'nameserver 127.0.0.53\nnameserver 10.96.0.10\nsearch corp.example\n',
    ...context
  })
  env.finish()
  return config
}

t.test('by default both loopbacks of every pod, and the resolvers that a pod can reach', async t => {
  t.strictSame(read({}), {
    listen: [
      { ip: '127.0.0.1', port: 15053 },
      { ip: '::1', port: 15053 }
    ],
    domain: 'cluster.local',
    searchDomains: undefined,
    resolvers: [{ ip: '10.96.0.10', port: 53 }],
    preferredNamespace: undefined
  })
})

t.test('a proxy for one workload shares its resolv.conf', async t => {
  t.match(read({ mode: 'dedicated' }), {
    searchDomains: ['corp.example'],
    resolvers: [{ ip: '127.0.0.53' }, { ip: '10.96.0.10' }]
  })
})

t.test('without IPv6 there is one loopback, without resolv.conf nobody to ask', async t => {
  t.match(read({ ipv6: false, readFile: () => undefined }), { listen: [{ ip: '127.0.0.1' }], resolvers: [] })
})

t.test('metadata moves it, or turns it off', async t => {
  t.match(read({ metadata: { DNS_PROXY_ADDR: '127.0.0.9:5353' } }), {
    listen: [{ ip: '127.0.0.9', port: 5353 }]
  })
  t.match(read({ metadata: { DNS_PROXY_ADDR: '[::1]:53' } }), { listen: [{ ip: '::1', port: 53 }] })
  for (const value of ['false', 'no', false, ''])
    t.equal(read({ metadata: { DNS_CAPTURE: value } }), undefined)
  t.ok(read({ metadata: { DNS_CAPTURE: true } }))
})

t.test('what cannot be is refused by name', async t => {
  t.throws(() => read({ onDemand: true }), ConfigError)
  t.throws(() => read({ onDemand: true }), /XDS_ON_DEMAND=true: .*ISTIO_META_DNS_CAPTURE=false/)
  for (const address of ['localhost', 'localhost:70000', 'example.com:53', ':53', '']) {
    t.throws(() => read({ metadata: { DNS_PROXY_ADDR: address } }), /ISTIO_META_DNS_PROXY_ADDR=.*expected/)
  }
})

t.test('resolv.conf is read as the C library reads it', async t => {
  const text = [
    '# nameserver 192.0.2.1',
    'nameserver 192.0.2.2',
    ' nameserver\tfd00::2 ',
    'nameserver nonsense',
    'nameserver',
    'nameserver 192.0.2.3',
    'nameserver 192.0.2.4',
    'domain one.example',
    'search Two.Example. three.example',
    'options ndots:5'
  ].join('\n')
  t.strictSame(readResolvConf(text), {
    nameservers: ['192.0.2.2', 'fd00::2', '192.0.2.3'],
    search: ['two.example', 'three.example']
  })
  t.strictSame(readResolvConf(''), { nameservers: [], search: [] })
})
