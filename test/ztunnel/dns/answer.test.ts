import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import { answerFor, type DnsAnswer, type DnsClient } from '../../../ztunnel/dns/answer.ts'
import { aliasesOf, patternsOf } from '../../../ztunnel/dns/names.ts'
import {
  addresses,
  cidr,
  endpointOf,
  service,
  storeOf,
  vips,
  workload,
  type MeshParts
} from '../../support/mesh.ts'

const client: DnsClient = {
  namespace: 'shop',
  network: '',
  clusterId: 'Kubernetes',
  domain: 'cluster.local',
  searchDomains: ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local']
}
const settings = { ipv6: true, preferredNamespace: undefined, random: () => 0 }
const forwarded: DnsAnswer = { result: 'forwarded' }
const found = (...texts: string[]): DnsAnswer => ({
  result: 'success',
  alias: undefined,
  addresses: addresses(...texts)
})
const aliased = (alias: string, ...texts: string[]): DnsAnswer => ({
  result: 'success',
  alias,
  addresses: addresses(...texts)
})
const entry = (namespace: string, hostname: string, vip: string, more: object = {}) =>
  service({ name: hostname, namespace, hostname, canonical: false, vips: vips(vip), ...more })

const web = service({ name: 'web', vips: vips('/10.0.0.1', '/fd00::1') })
const db = service({ name: 'db' })
const pods = [
  workload({ name: 'db-0', addresses: addresses('10.1.0.1', 'fd01::1'), services: endpointOf('db') }),
  workload({
    name: 'db-1',
    addresses: addresses('10.1.0.2'),
    network: 'elsewhere',
    services: endpointOf('db')
  })
]

const questions: readonly {
  name: string
  given: MeshParts
  asked: string
  family?: 4 | 6
  by?: Partial<DnsClient>
  with?: Partial<Parameters<typeof answerFor>[4]>
  expect: DnsAnswer
}[] = [
  {
    name: 'a Service of the own namespace by its name',
    given: { services: [web] },
    asked: 'web',
    expect: found('10.0.0.1')
  },
  { name: 'with its namespace', given: { services: [web] }, asked: 'web.shop', expect: found('10.0.0.1') },
  { name: 'with svc', given: { services: [web] }, asked: 'web.shop.svc', expect: found('10.0.0.1') },
  {
    name: 'in full',
    given: { services: [web] },
    asked: 'web.shop.svc.cluster.local',
    expect: found('10.0.0.1')
  },
  { name: 'its IPv6 address', given: { services: [web] }, asked: 'web', family: 6, expect: found('fd00::1') },
  {
    name: 'of another namespace, without it: not meant',
    given: { services: [web] },
    asked: 'web',
    by: { namespace: 'bank' },
    expect: forwarded
  },
  {
    name: 'in a domain of another name',
    given: {
      services: [service({ name: 'web', hostname: 'web.shop.svc.corp.example', vips: vips('/10.0.0.1') })]
    },
    asked: 'web',
    by: { domain: 'corp.example' },
    expect: found('10.0.0.1')
  },
  { name: 'nothing by that name', given: { services: [web] }, asked: 'www.example.com', expect: forwarded },
  { name: 'the root', given: { services: [web] }, asked: '', expect: forwarded },
  {
    name: 'an address on another network',
    given: { services: [service({ name: 'web', vips: vips('remote/10.0.0.1') })] },
    asked: 'web',
    expect: { result: 'no records' }
  },
  {
    name: 'a family that nothing has',
    given: { services: [service({ name: 'web', vips: vips('/10.0.0.1') })] },
    asked: 'web',
    family: 6,
    expect: { result: 'no records' }
  },
  {
    name: 'a family that the Service excludes',
    given: { services: [{ ...web, ipFamilies: 'IPv4' }] },
    asked: 'web',
    family: 6,
    expect: { result: 'service does not support this record type' }
  },
  {
    name: 'IPv6 where it is off',
    given: { services: [web] },
    asked: 'web',
    family: 6,
    with: { ipv6: false },
    expect: { result: 'service does not support this record type' }
  },

  {
    name: 'a headless Service: its pods, also those of other networks',
    given: { services: [db], workloads: pods },
    asked: 'db',
    with: { random: () => 0.5 },
    expect: found('10.1.0.1', '10.1.0.2')
  },
  {
    name: 'a headless Service: the pods of one family',
    given: { services: [db], workloads: pods },
    asked: 'db',
    family: 6,
    expect: found('fd01::1')
  },
  {
    name: 'a headless Service of IPv4 with pods of both',
    given: { services: [{ ...db, ipFamilies: 'IPv4' }], workloads: pods },
    asked: 'db',
    family: 6,
    expect: { result: 'service does not support this record type' }
  },
  {
    name: 'a headless Service without pods',
    given: { services: [db] },
    asked: 'db',
    expect: { result: 'no records' }
  },
  {
    name: 'an unhealthy pod is left out',
    given: { services: [db], workloads: [{ ...pods[0]!, status: 'Unhealthy' }, pods[1]!] },
    asked: 'db',
    expect: found('10.1.0.2')
  },
  {
    name: 'one pod of a headless Service',
    given: { services: [db], workloads: pods },
    asked: 'db-1.db',
    expect: found('10.1.0.2')
  },
  {
    name: 'one pod, in full',
    given: { services: [db], workloads: pods },
    asked: 'db-0.db.shop.svc.cluster.local',
    expect: found('10.1.0.1')
  },
  {
    name: 'one pod, with the namespace',
    given: { services: [db], workloads: pods },
    asked: 'db-0.db.shop',
    expect: found('10.1.0.1')
  },
  {
    name: 'one pod, with svc',
    given: { services: [db], workloads: pods },
    asked: 'db-0.db.shop.svc',
    expect: found('10.1.0.1')
  },
  {
    name: 'a pod that is not there is for the resolver',
    given: { services: [db], workloads: pods },
    asked: 'db-7.db',
    expect: forwarded
  },
  {
    name: 'a pod of a Service with an address is for the resolver',
    given: {
      services: [web],
      workloads: [workload({ name: 'web-0', addresses: addresses('10.1.0.3'), services: endpointOf('web') })]
    },
    asked: 'web-0.web',
    expect: forwarded
  },
  {
    name: 'pods of one name in two clusters: the own one',
    given: {
      services: [db],
      workloads: [
        { ...pods[0]!, uid: 'far//Pod/shop/db-0', clusterId: 'far', addresses: addresses('10.9.0.1') },
        pods[0]!
      ]
    },
    asked: 'db-0.db',
    expect: found('10.1.0.1')
  },

  {
    name: 'a ServiceEntry',
    given: { services: [entry('shop', 'api.test', '/240.240.0.1')] },
    asked: 'api.test',
    expect: found('240.240.0.1')
  },
  {
    name: 'a ServiceEntry of another namespace',
    given: { services: [entry('bank', 'api.test', '/240.240.0.1')] },
    asked: 'api.test',
    expect: found('240.240.0.1')
  },
  {
    name: 'a ServiceEntry that other namespaces do not see',
    given: { services: [entry('bank', 'api.test', '/240.240.0.1', { visibility: 'Namespace' })] },
    asked: 'api.test',
    expect: forwarded
  },
  {
    name: 'a ServiceEntry without an address is for the resolver',
    given: { services: [service({ name: 'x', hostname: 'api.test' })] },
    asked: 'api.test',
    expect: forwarded
  },
  {
    name: 'a ServiceEntry with a block alone is for the resolver',
    given: {
      services: [
        service({ name: 'x', hostname: 'api.test', cidrVips: [{ network: '', cidr: cidr('10.8.0.0/24') }] })
      ]
    },
    asked: 'api.test',
    expect: forwarded
  },
  {
    name: 'the own namespace’s comes first',
    given: {
      services: [entry('bank', 'api.test', '/240.240.0.1'), entry('shop', 'api.test', '/240.240.0.2')]
    },
    asked: 'api.test',
    expect: found('240.240.0.2')
  },
  {
    name: 'then the preferred namespace’s',
    given: { services: [entry('a', 'api.test', '/240.240.0.1'), entry('b', 'api.test', '/240.240.0.2')] },
    asked: 'api.test',
    with: { preferredNamespace: 'b' },
    expect: found('240.240.0.2')
  },
  {
    name: 'a search domain behind it is taken off, and said',
    given: { services: [entry('shop', 'api.test', '/240.240.0.1')] },
    asked: 'api.test.svc.cluster.local',
    expect: aliased('api.test', '240.240.0.1')
  },
  {
    name: 'a search domain behind a short name',
    given: { services: [web] },
    asked: 'web.cluster.local',
    expect: aliased('web', '10.0.0.1')
  },
  {
    name: 'a wildcard',
    given: { services: [entry('shop', '*.wild.test', '/240.240.0.3')] },
    asked: 'a.b.wild.test',
    expect: found('240.240.0.3')
  },
  {
    name: 'a wildcard does not cover its own domain',
    given: { services: [entry('shop', '*.wild.test', '/240.240.0.3')] },
    asked: 'wild.test',
    expect: forwarded
  },
  {
    name: 'a host before a wildcard, a narrow wildcard before a wide one',
    given: {
      services: [entry('shop', '*.test', '/240.240.0.1'), entry('shop', '*.wild.test', '/240.240.0.2')]
    },
    asked: 'a.wild.test',
    expect: found('240.240.0.2')
  },
  {
    name: 'what a wildcard matched keeps the name that was asked for',
    given: { services: [entry('shop', '*.wild.test', '/240.240.0.3')] },
    asked: 'a.wild.test.cluster.local',
    expect: found('240.240.0.3')
  },

  {
    name: 'a machine whose host name and address are known',
    given: {
      workloads: [workload({ name: 'vm', hostname: 'vm.corp.test', addresses: addresses('10.7.0.1') })]
    },
    asked: 'vm.corp.test',
    expect: found('10.7.0.1')
  },
  {
    name: 'a machine known by host name only is for the resolver',
    given: { workloads: [workload({ name: 'vm', hostname: 'vm.corp.test' })] },
    asked: 'vm.corp.test',
    expect: forwarded
  },
  {
    name: 'a machine of another namespace is for the resolver',
    given: {
      workloads: [
        workload({
          name: 'vm',
          namespace: 'bank',
          hostname: 'vm.corp.test',
          addresses: addresses('10.7.0.1')
        })
      ]
    },
    asked: 'vm.corp.test',
    expect: forwarded
  }
]

for (const { name, given, asked, family = 4, by, with: more, expect } of questions) {
  t.test(name, async t => {
    const view = storeOf(given).view()
    t.strictSame(answerFor(view, asked, family, { ...client, ...by }, { ...settings, ...more }), expect)
  })
}

t.test('addresses come in any order, each once', async t => {
  const many = Array.from({ length: 50 }, (_, index) => `/10.2.0.${index}`)
  const view = storeOf({ services: [service({ name: 'many', vips: vips(...many) })] }).view()
  const ask = (): readonly string[] => {
    const answer = answerFor(view, 'many', 4, client, { ...settings, random: Math.random })
    return answer.result === 'success' ? answer.addresses : []
  }
  const firsts = new Set(Array.from({ length: 100 }, () => ask()[0]))
  t.ok(firsts.size > 10, `${firsts.size} of 50 came first`)
  t.equal(new Set(ask()).size, 50)
})

t.test('more pods than a message can have: some of them', async t => {
  const workloads = Array.from({ length: 2500 }, (_, index) =>
    workload({
      name: `db-${index}`,
      addresses: [ip(`10.3.${index >> 8}.${index & 255}`)],
      services: endpointOf('db')
    })
  )
  const answer = answerFor(storeOf({ services: [db], workloads }).view(), 'db', 4, client, settings)
  t.equal(answer.result === 'success' && answer.addresses.length, 2000)
})

t.test('what a name may be short for, in the order in which it is tried', async t => {
  const names = (name: string): readonly string[] => aliasesOf(name, client).map(alias => alias.name)
  t.strictSame(names('a'), ['a', 'a.shop.svc.cluster.local'])
  t.strictSame(names('a.b'), ['a.b', 'a.b.svc.cluster.local', 'a.b.shop.svc.cluster.local'])
  t.strictSame(names('a.b.svc'), ['a.b.svc', 'a.b.svc.cluster.local', 'a.b.svc.svc.cluster.local'])
  t.strictSame(names('a.b.c.svc'), ['a.b.c.svc', 'a.b.c.svc.cluster.local'])
  t.strictSame(names('a.b.c.d'), ['a.b.c.d'])
  t.strictSame(
    aliasesOf('a.b.c.d.cluster.local', client).map(({ name, stripped }) => [name, stripped]),
    [
      ['a.b.c.d.cluster.local', undefined],
      ['a.b.c.d', 'a.b.c.d']
    ]
  )
})

t.test('a name, then the wildcards that cover it', async t => {
  t.strictSame(patternsOf('a.b.c'), ['a.b.c', '*.b.c', '*.c'])
  t.strictSame(patternsOf('a'), ['a'])
})
