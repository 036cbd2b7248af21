/** Who may pass, and which rule says so: AZ-08 to AZ-13, AZ-32 to AZ-39, AZ-42; `custom.test.ts` has authorizers. */
import t from 'tap'
import { authorize, noPolicies, policySet } from '../../../waypoint/authorization/evaluate.ts'
import type { L7Policy } from '../../../waypoint/authorization/policy.ts'
import { connection, decide, matches, policy, request, type Json } from './support.ts'

const everything: Json = { rules: [{}] }
const paths = (...values: readonly string[]): Json => ({ to: [{ operation: { paths: values } }] })
const ports = (...values: readonly string[]): Json => ({ to: [{ operation: { ports: values } }] })
const allow = (name: string, rule: Json): L7Policy => policy({ rules: [rule] }, { name })
const deny = (name: string, rule: Json): L7Policy => policy({ action: 'DENY', rules: [rule] }, { name })
const audit = (name: string, rule: Json): L7Policy => policy({ action: 'AUDIT', rules: [rule] }, { name })
const custom = (name: string, rule: Json): L7Policy =>
  policy({ action: 'CUSTOM', provider: { name: 'opa' }, rules: [rule] }, { name })

/** By the id of the rule that refuses; undefined where the request for /cart passes. */
const decisions: readonly (readonly [
  name: string,
  policies: readonly L7Policy[],
  refusedBy: string | undefined
])[] = [
  ['without policies all pass', [], undefined],
  ['an ALLOW that matches lets pass', [allow('a', paths('/cart'))], undefined],
  ['an ALLOW that does not match refuses, and so has no rule to name', [allow('a', paths('/x'))], 'none'],
  ['one ALLOW of several suffices', [allow('a', paths('/x')), allow('b', paths('/cart'))], undefined],
  ['a DENY that matches refuses', [deny('d', paths('/cart'))], 'ns[shop]-policy[d]-rule[0]'],
  ['a DENY that does not match is no ALLOW list', [deny('d', paths('/x'))], undefined],
  ['DENY wins over ALLOW', [allow('a', {}), deny('d', paths('/cart'))], 'ns[shop]-policy[d]-rule[0]'],
  ['a DENY beside an ALLOW that does not match', [allow('a', paths('/x')), deny('d', paths('/x'))], 'none'],
  ['a policy of nothing is an ALLOW of nothing', [policy({})], 'none'],
  ['so is one with an empty list of rules', [policy({ rules: [] })], 'none'],
  ['a DENY without rules does nothing', [policy({ action: 'DENY' })], undefined],
  ['one empty rule matches everything', [policy(everything)], undefined],
  ['an empty rule of DENY too', [policy({ ...everything, action: 'DENY' })], 'ns[shop]-policy[web]-rule[0]'],
  ['AUDIT does not refuse', [audit('l', {})], undefined],
  ['AUDIT does not allow', [audit('l', {}), allow('a', paths('/x'))], 'none'],
  [
    'a CUSTOM that matches refuses, as nobody can be asked',
    [custom('c', paths('/cart')), allow('a', {})],
    'istio-ext-authz-opa-ns[shop]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action'
  ],
  ['a CUSTOM that does not match does nothing', [custom('c', paths('/x'))], undefined],
  [
    'CUSTOM is decided before DENY',
    [deny('a', {}), custom('c', {})],
    'istio-ext-authz-opa-ns[shop]-policy[c]-rule[0]-deny-due-to-bad-CUSTOM-action'
  ],
  [
    'the rule that matched is named by its place',
    [policy({ action: 'DENY', rules: [paths('/x'), ports('81'), paths('/cart')] })],
    'ns[shop]-policy[web]-rule[2]'
  ],
  [
    'of several the first by name is named, whatever their order',
    [deny('c', {}), deny('b', {}), deny('d', {})],
    'ns[shop]-policy[b]-rule[0]'
  ],
  [
    'names are compared as texts, so that rule 10 comes before rule 2',
    [policy({ action: 'DENY', rules: Array.from({ length: 11 }, (_, at) => (at < 2 ? paths('/x') : {})) })],
    'ns[shop]-policy[web]-rule[10]'
  ],
  [
    'policies of all levels are one pool',
    [policy({ rules: [paths('/x')] }, { namespace: 'istio-system' }), allow('a', paths('/cart'))],
    undefined
  ]
]

t.test('AZ-08, AZ-09, AZ-13, AZ-36: decisions', async t => {
  for (const [name, policies, refusedBy] of decisions) {
    const verdict = decide(policies, request())
    t.equal(verdict.allowed ? undefined : verdict.policyId, refusedBy, name)
  }
})

const site = { source: { namespaces: ['front'] } }
const stranger = { source: { namespaces: ['other'] } }
const cart = { operation: { paths: ['/cart'] } }
const port81 = { operation: { ports: ['81'] } }
const here = { key: 'destination.port', values: ['80'] }
const there = { key: 'destination.port', values: ['81'] }

const rules: readonly (readonly [name: string, rule: Json, matched: boolean])[] = [
  ['one of from', { from: [stranger, site] }, true],
  ['none of from', { from: [stranger] }, false],
  ['from and to', { from: [site], to: [cart] }, true],
  ['from, not to', { from: [site], to: [port81] }, false],
  ['to, not from', { from: [stranger], to: [cart] }, false],
  ['one of to', { to: [port81, cart] }, true],
  ['all of when', { when: [here, { key: 'source.namespace', values: ['front'] }] }, true],
  ['not all of when', { when: [here, there] }, false],
  ['from, to and not when', { from: [site], to: [cart], when: [there] }, false],
  [
    'fields of a source are joined by AND',
    { from: [{ source: { namespaces: ['front'], ipBlocks: ['9.9.9.9'] } }] },
    false
  ],
  ['values of a field by OR', { from: [{ source: { namespaces: ['x', 'front', 'y'] } }] }, true],
  ['fields of an operation by AND', { to: [{ operation: { paths: ['/cart'], methods: ['POST'] } }] }, false],
  [
    'a value and its opposite by AND',
    { to: [{ operation: { paths: ['/c*'], notPaths: ['/cart'] } }] },
    false
  ],
  ['a value without the excluded', { to: [{ operation: { paths: ['/c*'], notPaths: ['/cat'] } }] }, true],
  ['one of what must not be is enough', { to: [{ operation: { notPaths: ['/a', '/cart'] } }] }, false],
  ['values of when by OR', { when: [{ key: 'destination.port', values: ['1', '80'] }] }, true],
  [
    'values and opposite of when by AND',
    { when: [{ key: 'source.namespace', values: ['f*'], notValues: ['front'] }] },
    false
  ]
]

t.test('AZ-10, AZ-11, AZ-12: what makes a rule match', async t => {
  for (const [name, rule, matched] of rules) t.equal(matches(rule, request()), matched, name)
})

t.test('AZ-39: AUDIT tells every rule that matches, also of what is refused', async t => {
  const logs = [audit('m', paths('/cart')), audit('l', {}), audit('n', paths('/x'))]
  const ids = ['ns[shop]-policy[l]-rule[0]', 'ns[shop]-policy[m]-rule[0]']
  t.strictSame(decide(logs, request()), { allowed: true, audit: ids, dryRun: [] })
  t.match(decide([...logs, deny('d', {})], request()), { allowed: false, audit: ids })
  t.match(decide([...logs, allow('a', paths('/x'))], request()), {
    allowed: false,
    policyId: 'none',
    audit: ids
  })
})

const dry = { 'istio.io/dry-run': 'true' }

t.test('AZ-37, AZ-38: a dry run is told and decides nothing', async t => {
  const run = (action: string, name: string, rule: Json): L7Policy =>
    policy({ action, rules: [rule] }, { name, annotations: dry })
  t.strictSame(decide([run('DENY', 'd', {})], request()).dryRun, [
    { action: 'DENY', result: 'denied', policyId: 'ns[shop]-policy[d]-rule[0]' }
  ])
  t.strictSame(decide([run('DENY', 'd', paths('/x')), run('ALLOW', 'a', paths('/x'))], request()), {
    allowed: true,
    audit: [],
    dryRun: [
      { action: 'DENY', result: 'allowed', policyId: undefined },
      { action: 'ALLOW', result: 'denied', policyId: undefined }
    ]
  })
  const mixed = [run('ALLOW', 'a', paths('/cart')), allow('b', paths('/x'))]
  t.strictSame(
    decide(mixed, request()),
    {
      allowed: false,
      policyId: 'none',
      audit: [],
      dryRun: [{ action: 'ALLOW', result: 'allowed', policyId: 'ns[shop]-policy[a]-rule[0]' }]
    },
    'what runs dry does not allow either'
  )
  t.match(
    decide([run('ALLOW', 'a', {}), deny('d', {})], request()),
    { allowed: false, dryRun: [] },
    'nobody looks at ALLOW after a DENY'
  )
  for (const action of ['AUDIT', 'CUSTOM']) {
    t.strictSame(
      decide([run(action, 'x', {})], request()),
      { allowed: true, audit: [], dryRun: [] },
      `${action} has nothing to tell`
    )
  }
})

const onlyHttp = { to: [{ operation: { methods: ['GET'] } }] }
const both = { from: [site], to: [{ operation: { ports: ['80'], methods: ['POST'] } }] }
const token = { from: [{ source: { requestPrincipals: ['*'] } }] }

/** Of a connection that is carried as it is. */
const plain: readonly (readonly [name: string, action: string, rule: Json, matched: boolean])[] = [
  ['a rule of ports', 'ALLOW', ports('80'), true],
  ['a rule of methods only allows nothing', 'ALLOW', onlyHttp, false],
  ['a rule with a method allows nothing', 'ALLOW', both, false],
  [
    'neither does one with a method in one of its alternatives',
    'ALLOW',
    { to: [port81, ...onlyHttp.to, here80()] },
    false
  ],
  ['nor one with a token', 'ALLOW', token, false],
  ['nor one with a header', 'ALLOW', { when: [{ key: 'request.headers[x]', notValues: ['a'] }] }, false],
  ['a DENY of methods only refuses everything', 'DENY', onlyHttp, true],
  ['a DENY without its method', 'DENY', both, true],
  ['but with its port', 'DENY', { to: [{ operation: { ports: ['81'], methods: ['GET'] } }] }, false],
  ['a DENY without its token', 'DENY', token, true],
  [
    'a DENY without its header',
    'DENY',
    { when: [there, { key: 'request.headers[x]', values: ['a'] }] },
    false
  ],
  ['a CUSTOM without its path', 'CUSTOM', paths('/x'), true],
  ['an AUDIT without its path', 'AUDIT', paths('/x'), true]
]

function here80(): Json {
  return { operation: { ports: ['80'] } }
}

t.test('AZ-32, AZ-33: connections know no methods; less passes for that', async t => {
  for (const [name, action, rule, matched] of plain) {
    const verdict = decide([policy({ action, rules: [rule] })], connection)
    const found =
      action === 'ALLOW' ? verdict.allowed : action === 'AUDIT' ? verdict.audit.length > 0 : !verdict.allowed
    t.equal(found, matched, name)
  }
})

t.test('AZ-12, AZ-23: a condition that nobody knows', async t => {
  const rule = { from: [site], when: [{ key: 'source.mood', values: ['good'] }] }
  const spec = { rules: [rule, paths('/known')] }
  const allowing = policy(spec)
  t.match(allowing.problems, [/spec\.rules\[0\]\.when\[0\]\.key: source\.mood is no attribute/])
  t.match(decide([allowing], request()), { allowed: false, policyId: 'none' }, 'allows nothing')
  t.equal(decide([allowing], request({ path: '/known' })).allowed, true, 'and takes no other rule with it')
  const denying = policy({ ...spec, action: 'DENY' })
  t.equal(decide([denying], request()).allowed, false, 'does not keep a DENY from refusing')
  const others = policy({ action: 'DENY', rules: [{ ...rule, from: [stranger] }] })
  t.equal(decide([others], request()).allowed, true, 'whose other conditions count')
})

t.test('AZ-26: what Envoy alone knows is told and does not count', async t => {
  const key = 'experimental.envoy.filters.network.mysql_proxy[db]'
  const { problems } = policy({ rules: [{ when: [{ key, values: ['[x]'] }] }] })
  t.match(problems, [/filters of Envoy/])
})

t.test('PI-17: CUSTOM knows no tokens', async t => {
  const when = [{ key: 'request.auth.claims[role]', values: ['admin'] }]
  const asking = policy({ action: 'CUSTOM', provider: { name: 'opa' }, rules: [{ ...paths('/cart'), when }] })
  t.match(asking.problems, [/spec\.rules\[0\]: tokens are not known yet/])
  t.equal(decide([asking], request({ claims: { role: 'user' } })).allowed, false)
  t.equal(decide([asking], request({ path: '/x', claims: { role: 'admin' } })).allowed, true)
})

t.test('without policies a request costs a look at a flag', async t => {
  t.equal(authorize(noPolicies, request()), authorize(policySet([]), connection), 'one verdict for all')
})
