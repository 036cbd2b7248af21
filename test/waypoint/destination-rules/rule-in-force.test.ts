/** What ports and subsets inherit, and what several rules for one host come to. Source: Istio's published DestinationRule. */
import t from 'tap'
import { RuleInForce } from '../../../waypoint/destination-rules/rule-in-force.ts'
import { policyOf, read } from './support.ts'

const random = { loadBalancer: { simple: 'RANDOM' } }
const roundRobin = { loadBalancer: { simple: 'ROUND_ROBIN' } }
const few = { connectionPool: { tcp: { maxConnections: 1 } } }
const many = { connectionPool: { http: { http2MaxRequests: 100 } } }
const outliers = { outlierDetection: {} }
const budget = { retryBudget: { percent: 50 } }
const tls = { tls: { mode: 'SIMPLE' } }
const meshTls = { tls: { mode: 'ISTIO_MUTUAL' } }

function forPort(number: number, policy: object): object {
  return { port: { number }, ...policy }
}

interface Expected {
  readonly kind?: string
  readonly connections?: number
  readonly requests?: number
  readonly outliers?: boolean
  readonly budget?: boolean
  readonly tls?: boolean
}

const usual: Required<Expected> = {
  kind: 'least-request',
  connections: Infinity,
  requests: Infinity,
  outliers: false,
  budget: false,
  tls: false
}

/** For port 80; `expect` is what is not the default, undefined that there is no policy. */
const situations: readonly {
  readonly name: string
  readonly rule?: object
  readonly subset?: object
  readonly expect: Expected | undefined
}[] = [
  { name: 'nothing is said', expect: undefined },
  { name: 'the whole service', rule: { ...random, ...few }, expect: { kind: 'random', connections: 1 } },
  {
    name: 'settings for the port, which inherit nothing',
    rule: { ...random, ...few, ...budget, portLevelSettings: [forPort(80, outliers)] },
    expect: { outliers: true }
  },
  {
    name: 'settings for another port',
    rule: { ...random, portLevelSettings: [forPort(81, outliers)] },
    expect: { kind: 'random' }
  },
  {
    name: 'settings for another port alone',
    rule: { portLevelSettings: [forPort(81, random)] },
    expect: undefined
  },
  {
    name: 'settings for the port that leave TLS out',
    rule: { ...tls, portLevelSettings: [forPort(80, random)] },
    expect: { kind: 'random' }
  },
  {
    name: 'the port twice: the first counts',
    rule: { portLevelSettings: [forPort(80, random), forPort(80, roundRobin)] },
    expect: { kind: 'random' }
  },
  { name: 'a subset alone', subset: random, expect: { kind: 'random' } },
  { name: 'a subset that says nothing', rule: random, subset: {}, expect: { kind: 'random' } },
  {
    name: 'a subset, which inherits the parts that it does not speak of',
    rule: { ...random, ...few, ...budget },
    subset: { ...roundRobin, ...outliers },
    expect: { kind: 'round-robin', connections: 1, outliers: true, budget: true }
  },
  { name: 'a part of a subset as a whole', rule: few, subset: many, expect: { requests: 100 } },
  { name: 'an empty part of a subset', rule: random, subset: { loadBalancer: {} }, expect: {} },
  { name: 'TLS that a subset does away with', rule: tls, subset: meshTls, expect: undefined },
  {
    name: 'TLS that a subset inherits',
    rule: tls,
    subset: random,
    expect: { kind: 'random', tls: true }
  },
  {
    name: 'a subset over the settings for the port',
    rule: { ...random, ...budget, portLevelSettings: [forPort(80, few)] },
    subset: outliers,
    expect: { connections: 1, outliers: true }
  },
  {
    name: "a subset's settings for the port, which take the place of all that a port can have",
    rule: { ...random, ...few, ...tls, ...budget },
    subset: { ...roundRobin, portLevelSettings: [forPort(80, outliers)] },
    expect: { outliers: true, budget: true }
  },
  {
    name: "a subset's settings for another port",
    rule: few,
    subset: { ...roundRobin, portLevelSettings: [forPort(81, outliers)] },
    expect: { connections: 1, kind: 'round-robin' }
  }
]

for (const { name, rule, subset, expect } of situations) {
  t.test(`VS-28: ${name}`, async t => {
    const policy = policyOf(
      {
        ...(rule === undefined ? {} : { trafficPolicy: rule }),
        subsets: [{ name: 'v1', ...(subset === undefined ? {} : { trafficPolicy: subset }) }]
      },
      80,
      'v1'
    )
    const found = policy && {
      kind: policy.balancing.kind,
      connections: policy.limits.connections,
      requests: policy.limits.requests,
      outliers: policy.outliers !== undefined,
      budget: policy.retryBudget !== undefined,
      tls: policy.tls !== undefined
    }
    t.strictSame(found, expect && { ...usual, ...expect })
  })
}

t.test('a subset is for requests that ask for it', async t => {
  const spec = { trafficPolicy: random, subsets: [{ name: 'v1', trafficPolicy: roundRobin }] }
  t.equal(policyOf(spec)?.balancing.kind, 'random')
  t.equal(policyOf(spec, 80, 'v1')?.balancing.kind, 'round-robin')
  t.equal(policyOf(spec, 80, 'v2')?.balancing.kind, 'random', 'one that is not known')
})

t.test('of several rules the oldest policy counts, and the subsets of all', async t => {
  const [bare, first, second] = [
    read({ subsets: [{ name: 'v1', labels: { version: 'v1' } }] }),
    read({
      trafficPolicy: { ...random, portLevelSettings: [forPort(81, few)] },
      subsets: [{ name: 'v1', labels: { version: 'x' }, trafficPolicy: few }, { name: 'all' }]
    }),
    read({
      trafficPolicy: { ...roundRobin, ...outliers },
      subsets: [{ name: 'v2', labels: { version: 'v2' }, trafficPolicy: many }]
    })
  ]
  const rule = new RuleInForce([bare, first, second])
  t.match(rule.policyFor(80, undefined), { balancing: { kind: 'random' }, outliers: undefined })
  t.match(rule.policyFor(81, undefined), { balancing: { kind: 'least-request' }, limits: { connections: 1 } })
  t.match(rule.policyFor(80, 'v1'), { limits: { connections: Infinity } })
  t.match(rule.policyFor(80, 'v2'), { balancing: { kind: 'random' }, limits: { requests: 100 } })
  t.strictSame(rule.labelsOf('v1'), new Map([['version', 'v1']]))
  t.strictSame(rule.labelsOf('v2'), new Map([['version', 'v2']]))
  t.strictSame(rule.labelsOf('all'), new Map())
  t.equal(rule.labelsOf('v3'), undefined)
})

t.test('the same question has the same object for an answer', async t => {
  const spec = {
    trafficPolicy: { ...random, portLevelSettings: [forPort(80, few)] },
    subsets: [{ name: 'v1', trafficPolicy: many }, { name: 'v2' }]
  }
  const rule = new RuleInForce([read(spec)])
  for (const subset of [undefined, 'v1', 'v2', 'v3']) {
    for (const port of [80, 81]) {
      t.ok(rule.policyFor(port, subset))
      t.equal(rule.policyFor(port, subset), rule.policyFor(port, subset))
    }
    t.not(rule.policyFor(80, subset), rule.policyFor(81, subset))
    t.equal(
      rule.policyFor(81, subset),
      rule.policyFor(82, subset),
      'ports that nothing is said of share theirs'
    )
  }
})
