/** What is read of an AuthorizationPolicy, and what is refused with the field that is wrong. */
import t from 'tap'
import { readAuthorizationPolicy, unreadablePolicy } from '../../../waypoint/authorization/read-policy.ts'
import { connection, decide, mesh, policy, request, type Json } from './support.ts'

const wrong: readonly (readonly [name: string, spec: Json, complaint: RegExp])[] = [
  ['a field that nobody knows', { rule: [] }, /spec\.rule: unknown field/],
  ['an action', { action: 'REFUSE' }, /spec\.action: expected one of DENY, ALLOW/],
  ['rules that are none', { rules: {} }, /spec\.rules: expected a list/],
  ['a rule that is none', { rules: [null] }, /spec\.rules\[0\]: expected a mapping/],
  ['a field of a rule', { rules: [{ form: [] }] }, /rules\[0\]\.form: unknown field/],
  ['an entry without its source', { rules: [{ from: [{}] }] }, /from\[0\]\.source: is required/],
  ['a source of nothing', { rules: [{ from: [{ source: {} }] }] }, /from\[0\]\.source: is empty/],
  [
    'a field of a source',
    { rules: [{ from: [{ source: { names: ['x'] } }] }] },
    /source\.names: unknown field; known are .*notPrincipals/
  ],
  ['an operation of nothing', { rules: [{ to: [{ operation: { paths: [] } }] }] }, /operation: is empty/],
  [
    'an empty value',
    { rules: [{ to: [{ operation: { paths: [''] } }] }] },
    /paths\[0\]: expected text, found ""/
  ],
  [
    'a port as a number',
    { rules: [{ to: [{ operation: { ports: [80] } }] }] },
    /ports\[0\]: expected text, found 80/
  ],
  ['a port', { rules: [{ to: [{ operation: { ports: ['80', '0'] } }] }] }, /ports\[1\]: "0" is no port/],
  [
    'a range of ports',
    { rules: [{ to: [{ operation: { notPorts: ['1-2'] } }] }] },
    /notPorts\[0\]: "1-2" is no port/
  ],
  [
    'an address',
    { rules: [{ from: [{ source: { ipBlocks: ['10.0.0.0/33'] } }] }] },
    /ipBlocks\[0\]: .*no IP address/
  ],
  [
    'an address of a condition',
    { rules: [{ when: [{ key: 'source.ip', values: ['x'] }] }] },
    /when\[0\]\.values\[0\]: "x" is no IP address/
  ],
  ['a condition without a key', { rules: [{ when: [{ values: ['x'] }] }] }, /when\[0\]\.key: is required/],
  [
    'a condition without values',
    { rules: [{ when: [{ key: 'source.ip' }] }] },
    /when\[0\]: source\.ip needs values/
  ],
  [
    'an account with a wildcard',
    { rules: [{ from: [{ source: { serviceAccounts: ['front/*'] } }] }] },
    /serviceAccounts\[0\]: .*no wildcards/
  ],
  [
    'an account that is too long',
    { rules: [{ from: [{ source: { serviceAccounts: ['x'.repeat(321)] } }] }] },
    /is no service account/
  ],
  [
    'too many accounts',
    { rules: [{ from: [{ source: { serviceAccounts: Array.from({ length: 17 }, (_, at) => `a${at}`) } }] }] },
    /serviceAccounts: has more than 16 entries/
  ],
  [
    'accounts beside principals',
    { rules: [{ from: [{ source: { serviceAccounts: ['a'], notPrincipals: ['b'] } }] }] },
    /serviceAccounts stand beside principals/
  ],
  [
    'a trust domain with two wildcards',
    { rules: [{ from: [{ source: { trustDomains: ['a*b*'] } }] }] },
    /trustDomains\[0\]: .*one wildcard/
  ],
  [
    'too many rules',
    { rules: Array.from({ length: 513 }, () => ({})) },
    /spec\.rules: has 513 entries; 512 is the most/
  ],
  [
    'too many conditions',
    { rules: [{ when: Array.from({ length: 513 }, () => ({ key: 'source.ip', values: ['1.1.1.1'] })) }] },
    /when: has 513 entries/
  ],
  [
    'too many targets',
    { targetRefs: Array.from({ length: 17 }, () => ({ kind: 'Service', name: 'x' })) },
    /targetRefs: has 17 entries; 16 is the most/
  ],
  ['a target without a name', { targetRefs: [{ kind: 'Service' }] }, /targetRefs\[0\]\.name: is required/]
]

for (const [name, spec, complaint] of wrong) {
  t.test(`AZ-07: ${name} is refused`, async t => {
    t.throws(() => policy(spec), { message: complaint })
  })
}

const templates = [
  '/foo/{**}buzz/bar',
  '/{*}/foo/{}/bar',
  '/foo/{*}/bar/*',
  '/foo/{*}/bar/**/buzz',
  '/foo/{name}/bar',
  '/{name}',
  '/foo/{name}/bar/{**}',
  '/foo/{name=*}/bar/{**}',
  '/{*}/foo/{*}.txt',
  '/{*}/foo/{temp',
  '/{*}/foo/temp}/bar',
  '/{**}/foo/{*}/bar',
  '/{**}/{**}',
  '/{*}/foo/?abc',
  '/{*}/foo bar',
  '/{*}//foo',
  'foo/{*}',
  '*/{*}'
]

t.test('AZ-21: a template is one, or it is refused with the path', async t => {
  for (const path of templates) {
    const rules = [{ to: [{ operation: { notPaths: ['/fine', path] } }] }]
    t.throws(() => policy({ rules }), { message: /operation\.notPaths\[1\]: "/ }, path)
  }
  for (const path of ['/{*}/foo/', '/foo/{**}/bar', '/{**}', "/a-z._~%20!$&'()+,;:@=/{*}"]) {
    t.doesNotThrow(() => policy({ rules: [{ to: [{ operation: { paths: [path] } }] }] }), path)
  }
})

t.test('every problem is told at once', async t => {
  const rules = [{ to: [{ operation: { ports: ['x'] } }] }, { when: [{ key: 'source.ip', values: ['y'] }] }]
  t.throws(() => policy({ rules, extra: 1 }), { message: /rules\[0\].*; .*rules\[1\].*; spec\.extra/ })
})

t.test('AZ-02: targets', async t => {
  const gateways = 'gateway.networking.k8s.io'
  const read = (namespace: string, ...targetRefs: readonly Json[]): ReturnType<typeof policy> =>
    policy({ targetRefs }, { namespace })
  const { targets, problems } = read(
    'shop',
    { group: '', kind: 'Service', name: 'web' },
    { group: 'core', kind: 'Service', name: 'api', namespace: 'shop' },
    { group: 'networking.istio.io', kind: 'ServiceEntry', name: 'out' },
    { group: gateways, kind: 'Gateway', name: 'waypoint' },
    { group: gateways, kind: 'GatewayClass', name: 'istio-waypoint' },
    { group: '', kind: 'Service', name: 'web', namespace: 'other' },
    { group: 'apps', kind: 'Deployment', name: 'web' },
    { group: 'apps', kind: 'Service', name: 'web' }
  )
  t.strictSame(targets, [
    { kind: 'Service', namespace: 'shop', name: 'web' },
    { kind: 'Service', namespace: 'shop', name: 'api' },
    { kind: 'ServiceEntry', namespace: 'shop', name: 'out' },
    { kind: 'Gateway', namespace: 'shop', name: 'waypoint' }
  ])
  t.match(problems, [
    /targetRefs\[4\]: a policy for GatewayClass istio-waypoint has to be in istio-system/,
    /targetRefs\[5\]: Service web of other needs a policy of its own namespace/,
    /targetRefs\[6\]: a policy cannot target Deployment of apps/,
    /targetRefs\[7\]: a policy cannot target Service of apps/
  ])
  t.strictSame(read('istio-system', { group: gateways, kind: 'GatewayClass', name: 'c' }).targets, [
    { kind: 'GatewayClass', name: 'c' }
  ])
  const single = policy({ targetRefs: [], targetRef: { group: gateways, kind: 'Gateway', name: 'w' } })
  t.strictSame(single.targets, [{ kind: 'Gateway', namespace: 'shop', name: 'w' }], 'the older field')
  t.strictSame(policy({ targetRefs: [], selector: { matchLabels: { app: 'web' } } }).targets, [])
})

t.test('AZ-37: the mark of a dry run', async t => {
  const of = (text: string): ReturnType<typeof policy> =>
    policy({}, { annotations: { 'istio.io/dry-run': text } })
  for (const text of ['true', 'True', 'TRUE', 't', 'T', '1']) t.ok(of(text).dryRun, text)
  for (const text of ['false', 'F', '0']) t.notOk(of(text).dryRun, text)
  t.match(of('yes'), { dryRun: false, problems: [/dry-run: expected true or false, found "yes"/] })
})

t.test('what cannot be read lets nothing more through', async t => {
  const rules = [{ form: [] }]
  const targetRefs = [{ group: '', kind: 'Service', name: 'web' }]
  const standIn = (spec: Json, annotations = {}): unknown => {
    const resource = { namespace: 'shop', name: 'web', createdMs: 0, annotations, spec }
    t.throws(() => readAuthorizationPolicy(resource, mesh))
    const stand = unreadablePolicy(resource, mesh, 'it is broken')
    t.strictSame(stand.problems, ['it is broken'])
    return [decide([stand], request()), decide([stand], connection), stand.targets]
  }
  const web = [{ kind: 'Service', namespace: 'shop', name: 'web' }]
  const denied = { allowed: false, policyId: 'ns[shop]-policy[web]-rule[0]' }
  t.match(standIn({ action: 'DENY', targetRefs, rules }), [denied, denied, web])
  t.match(standIn({ action: 'REFUSE', targetRefs, rules }), [denied, denied, web])
  t.match(standIn({ targetRefs, rules }), [{ policyId: 'none' }, { policyId: 'none' }, web])
  t.match(standIn({ action: 'CUSTOM', targetRefs, rules }), [
    { policyId: /bad-CUSTOM/ },
    { allowed: false },
    web
  ])
  t.match(standIn({ action: 'AUDIT', targetRefs, rules }), [
    { allowed: true, audit: [] },
    { allowed: true },
    web
  ])
  t.match(standIn({ action: 'DENY', targetRefs: 'web' }), [denied, denied, [{ kind: 'everything' }]])
  const dry = { 'istio.io/dry-run': 'true' }
  t.match(standIn({ action: 'DENY', targetRefs, rules }, dry), [{ allowed: true }, { allowed: true }, web])
})
