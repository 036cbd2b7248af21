/** VS-27: which rules are for a service, and that what was found stays the same object while nothing changes. */
import t from 'tap'
import {
  DestinationRuleStore,
  type OwnNamespaces
} from '../../../waypoint/destination-rules/destination-rule-store.ts'
import { read } from './support.ts'

const own: OwnNamespaces = { namespace: 'infra', rootNamespace: 'istio-system' }
const web = { namespace: 'shop', hostname: 'web.shop.svc.cluster.local' }

interface Rule {
  readonly in: string
  readonly host?: string
  readonly exportTo?: readonly string[]
  readonly createdMs?: number
  readonly workloadSelector?: object
}

/** Rules by their names; each can be told by its number of connections, which is its place from 1 on. */
function storeOf(rules: Readonly<Record<string, Rule>>, from = own): DestinationRuleStore {
  const store = new DestinationRuleStore(from)
  for (const [at, [name, rule]] of Object.entries(rules).entries()) put(store, name, rule, at + 1)
  return store
}

function put(store: DestinationRuleStore, name: string, rule: Rule, maxConnections: number): void {
  const { in: namespace, host = web.hostname, createdMs = 0, ...rest } = rule
  const spec = { host, trafficPolicy: { connectionPool: { tcp: { maxConnections } } }, ...rest }
  store.put(`${namespace}/${name}`, read(spec, { namespace, name, createdMs, spec }))
}

/** `expect`: the rule whose policy counts. */
const situations: readonly {
  readonly name: string
  readonly rules: Readonly<Record<string, Rule>>
  readonly of?: { readonly namespace: string; readonly hostname: string }
  readonly from?: OwnNamespaces
  readonly expect: string | undefined
}[] = [
  { name: 'no rule', rules: {}, expect: undefined },
  { name: 'a rule for another host', rules: { a: { in: 'shop', host: 'api' } }, expect: undefined },
  { name: "the waypoint's namespace", rules: { a: { in: 'infra' } }, expect: 'a' },
  { name: "the service's namespace", rules: { a: { in: 'shop' } }, expect: 'a' },
  { name: 'the root namespace', rules: { a: { in: 'istio-system' } }, expect: 'a' },
  { name: 'any other namespace', rules: { a: { in: 'other' } }, expect: undefined },
  {
    name: "the waypoint's before the service's, even with a wildcard",
    rules: { root: { in: 'istio-system' }, service: { in: 'shop' }, waypoint: { in: 'infra', host: '*' } },
    expect: 'waypoint'
  },
  {
    name: "the service's before the root's, even with a wildcard",
    rules: { root: { in: 'istio-system' }, service: { in: 'shop', host: '*.cluster.local' } },
    expect: 'service'
  },
  {
    name: 'the exact host before wildcards',
    rules: {
      short: { in: 'shop', host: '*' },
      exact: { in: 'shop' },
      long: { in: 'shop', host: `*${web.hostname}` }
    },
    expect: 'exact'
  },
  {
    name: 'the longer wildcard before the shorter',
    rules: {
      all: { in: 'shop', host: '*' },
      long: { in: 'shop', host: '*.shop.svc.cluster.local' },
      short: { in: 'shop', host: '*.cluster.local' }
    },
    expect: 'long'
  },
  {
    name: 'a wildcard is not for the host that it adds to',
    rules: { a: { in: 'shop', host: `*.${web.hostname}` } },
    expect: undefined
  },
  {
    name: 'a service that is a wildcard itself: the same one',
    rules: { wide: { in: 'shop', host: '*' }, same: { in: 'shop', host: '*.example' } },
    of: { namespace: 'shop', hostname: '*.example' },
    expect: 'same'
  },
  {
    name: 'a service that is a wildcard itself: a wider one, and no narrower',
    rules: { wide: { in: 'shop', host: '*.example' }, narrow: { in: 'shop', host: '*.a.b.example' } },
    of: { namespace: 'shop', hostname: '*.b.example' },
    expect: 'wide'
  },
  { name: 'exported to all', rules: { a: { in: 'shop', exportTo: ['*'] } }, expect: 'a' },
  { name: 'exported to the waypoint', rules: { a: { in: 'shop', exportTo: ['x', 'infra'] } }, expect: 'a' },
  { name: 'exported to others', rules: { a: { in: 'shop', exportTo: ['x'] } }, expect: undefined },
  { name: 'exported to nobody else', rules: { a: { in: 'shop', exportTo: ['.'] } }, expect: undefined },
  { name: 'private to the waypoint', rules: { a: { in: 'infra', exportTo: ['.'] } }, expect: 'a' },
  {
    name: 'private to the waypoint, by its name',
    rules: { a: { in: 'infra', exportTo: ['infra'] } },
    expect: 'a'
  },
  {
    name: "the waypoint's namespace, exported to others alone",
    rules: { root: { in: 'istio-system' }, a: { in: 'infra', exportTo: ['x'] } },
    expect: 'root'
  },
  {
    name: 'private to the root namespace',
    rules: { a: { in: 'istio-system', exportTo: ['.'] } },
    expect: undefined
  },
  {
    name: 'what is not exported hides nothing',
    rules: { hidden: { in: 'shop', exportTo: ['.'] }, wide: { in: 'shop', host: '*' } },
    expect: 'wide'
  },
  {
    name: 'a rule for sidecars of some pods',
    rules: { a: { in: 'infra', workloadSelector: {} }, b: { in: 'shop' } },
    expect: 'b'
  },
  {
    name: 'a waypoint in the root namespace: what is for the whole mesh comes last',
    rules: { root: { in: 'istio-system' }, service: { in: 'shop', host: '*' } },
    from: { namespace: 'istio-system', rootNamespace: 'istio-system' },
    expect: 'service'
  },
  {
    name: 'a waypoint in the root namespace: what is for itself comes first',
    rules: { service: { in: 'shop' }, root: { in: 'istio-system', host: '*', exportTo: ['.'] } },
    from: { namespace: 'istio-system', rootNamespace: 'istio-system' },
    expect: 'root'
  },
  {
    name: 'of two for one host the older',
    rules: { newer: { in: 'shop', createdMs: 2000 }, older: { in: 'shop', createdMs: 1000 } },
    expect: 'older'
  },
  {
    name: 'of two of one age the first by name',
    rules: { b: { in: 'shop' }, a: { in: 'shop' } },
    expect: 'a'
  }
]

for (const { name, rules, of = web, from, expect } of situations) {
  t.test(`VS-27: ${name}`, async t => {
    const policy = storeOf(rules, from).policyFor(of, 80, undefined)
    const connections = policy?.limits.connections
    t.equal(connections === undefined ? undefined : Object.keys(rules)[connections - 1], expect)
  })
}

t.test('VS-30: subsets of all rules for a host, told by their labels', async t => {
  const store = new DestinationRuleStore(own)
  const subset = (version: string): object => ({ subsets: [{ name: version, labels: { version } }] })
  store.put('shop/a', read(subset('v1')))
  store.put('shop/b', read(subset('v2'), { name: 'b' }))
  store.put('istio-system/c', read({ ...subset('v3'), host: '*' }, { namespace: 'istio-system', name: 'c' }))
  t.strictSame(store.subsetOf(web, 'v1'), new Map([['version', 'v1']]))
  t.strictSame(store.subsetOf(web, 'v2'), new Map([['version', 'v2']]))
  t.equal(store.subsetOf(web, 'v3'), undefined, 'of another namespace')
  t.equal(store.policyFor(web, 80, 'v1'), undefined, 'nobody said anything of it')
})

t.test('a policy is the same object until a rule for its service changes', async t => {
  const store = storeOf({ a: { in: 'shop' } })
  const policy = store.policyFor(web, 80, undefined)
  t.equal(policy?.limits.connections, 1)
  t.equal(store.policyFor({ ...web }, 80, undefined), policy)

  put(store, 'api', { in: 'shop', host: 'api' }, 7)
  put(store, 'all', { in: 'istio-system', host: '*' }, 8)
  put(store, 'sidecars', { in: 'infra', workloadSelector: {} }, 9)
  t.equal(store.policyFor(web, 80, undefined), policy, 'rules for others')
  put(store, 'a', { in: 'shop' }, 1)
  t.equal(store.policyFor(web, 80, undefined), policy, 'the same rule once more')

  put(store, 'a', { in: 'shop' }, 2)
  t.equal(store.policyFor(web, 80, undefined)?.limits.connections, 2)
  store.remove('shop/a')
  t.equal(store.policyFor(web, 80, undefined)?.limits.connections, 8)
  store.remove('istio-system/all')
  t.equal(store.policyFor(web, 80, undefined), undefined)
  store.remove('istio-system/all')
  t.strictSame(
    [...store.all()].map(({ name }) => name),
    ['api', 'sidecars']
  )
  t.ok(store.has('infra/sidecars'))
  t.notOk(store.has('shop/a'))
})

t.test('a rule that moves to another host leaves its former one', async t => {
  const store = storeOf({ a: { in: 'shop' } })
  t.ok(store.policyFor(web, 80, undefined))
  put(store, 'a', { in: 'shop', host: 'api' }, 1)
  t.equal(store.policyFor(web, 80, undefined), undefined)
  t.ok(store.policyFor({ namespace: 'shop', hostname: 'api.shop.svc.cluster.local' }, 80, undefined))
})

t.test('services that come and go are not remembered for ever', async t => {
  const store = storeOf({ a: { in: 'shop', host: '*' } })
  const first = store.policyFor(web, 80, undefined)
  for (let at = 0; at < 50_000; at++) {
    store.policyFor({ namespace: 'shop', hostname: `${at}.example` }, 80, undefined)
  }
  t.not(store.policyFor(web, 80, undefined), first)
})
