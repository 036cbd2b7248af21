import t from 'tap'
import { ip, parseCidr, type Cidr } from '../../../shared/net/address.ts'
import { parseSpiffeId } from '../../../shared/identity/spiffe-id.ts'
import type { Policy, PolicyMatch, StringMatch } from '../../../shared/mesh/model.ts'
import { evaluate, explain, type PolicyConnection } from '../../../shared/policy/evaluate.ts'
import { match, policy, policyOf } from '../../support/policies.ts'

const identity = parseSpiffeId('spiffe://cluster.local/ns/front/sa/web')
const tls: PolicyConnection = {
  sourceIp: ip('10.1.2.3'),
  identity,
  destinationIp: ip('10.9.9.9'),
  destinationPort: 8080
}
const plain: PolicyConnection = { ...tls, identity: undefined }
const v6: PolicyConnection = { ...tls, sourceIp: ip('2001:db8::7'), destinationIp: ip('2001:db8:1::1') }

const exact = (value: string): StringMatch => ({ kind: 'exact', value })
const prefix = (value: string): StringMatch => ({ kind: 'prefix', value })
const suffix = (value: string): StringMatch => ({ kind: 'suffix', value })
const presence: StringMatch = { kind: 'presence' }
const cidr = (text: string): Cidr => parseCidr(text) as Cidr

t.test('what one match says of a connection', async t => {
  const table: readonly (readonly [string, Partial<PolicyMatch>, PolicyConnection, boolean])[] = [
    ['every list empty never matches', {}, tls, false],
    [
      'exact principal, without the scheme',
      { principals: [exact('cluster.local/ns/front/sa/web')] },
      tls,
      true
    ],
    ['a principal with the scheme is another text', { principals: [exact(String(identity))] }, tls, false],
    ['prefix of the principal', { principals: [prefix('cluster.local/ns/front/')] }, tls, true],
    ['suffix of the principal', { principals: [suffix('/sa/web')] }, tls, true],
    ['suffix that is none', { principals: [suffix('/sa/we')] }, tls, false],
    ['one of several values suffices', { principals: [exact('x'), suffix('web')] }, tls, true],
    ['presence of any identity', { principals: [presence] }, tls, true],
    ['plaintext has no identity: presence', { principals: [presence] }, plain, false],
    ['plaintext has no identity: empty prefix', { principals: [prefix('')] }, plain, false],
    ['plaintext is caught by the absence of any principal', { notPrincipals: [presence] }, plain, true],
    ['mutual TLS is not', { notPrincipals: [presence] }, tls, false],
    ['namespace', { namespaces: [exact('front')] }, tls, true],
    ['another namespace', { namespaces: [exact('back')] }, tls, false],
    ['plaintext has the empty namespace: presence', { namespaces: [presence] }, plain, false],
    ['plaintext has the empty namespace: empty prefix', { namespaces: [prefix('')] }, plain, true],
    ['plaintext has the empty namespace: exact', { namespaces: [exact('')] }, plain, true],
    ['plaintext is in none of the namespaces', { notNamespaces: [exact('front')] }, plain, true],
    ['a namespace that is excluded', { notNamespaces: [exact('front')] }, tls, false],
    [
      'service account, whatever the trust domain',
      { serviceAccounts: [{ namespace: 'front', serviceAccount: 'web' }] },
      { ...tls, identity: parseSpiffeId('spiffe://other/ns/front/sa/web') },
      true
    ],
    [
      'another service account',
      { serviceAccounts: [{ namespace: 'front', serviceAccount: 'x' }] },
      tls,
      false
    ],
    [
      'plaintext has no service account',
      { serviceAccounts: [{ namespace: '', serviceAccount: '' }] },
      plain,
      false
    ],
    [
      'plaintext is not that service account',
      { notServiceAccounts: [{ namespace: 'front', serviceAccount: 'web' }] },
      plain,
      true
    ],
    ['source block', { sourceIps: [cidr('10.1.0.0/16')] }, tls, true],
    ['source block, odd length', { sourceIps: [cidr('10.1.2.2/31')] }, tls, true],
    ['source block, one address', { sourceIps: [cidr('10.1.2.3')] }, tls, true],
    ['outside of the block', { sourceIps: [cidr('10.1.2.4/30')] }, tls, false],
    ['a block of length 0 takes its family', { sourceIps: [cidr('0.0.0.0/0')] }, tls, true],
    ['and not the other', { sourceIps: [cidr('::/0')] }, tls, false],
    ['IPv6 source block', { sourceIps: [cidr('2001:db8::/64')] }, v6, true],
    ['IPv6 outside', { sourceIps: [cidr('2001:db8:0:1::/64')] }, v6, false],
    ['an excluded source', { notSourceIps: [cidr('10.1.0.0/16')] }, tls, false],
    ['a source that is not excluded', { notSourceIps: [cidr('10.2.0.0/16')] }, tls, true],
    ['destination block', { destinationIps: [cidr('10.9.9.0/24')] }, tls, true],
    ['excluded destination', { notDestinationIps: [cidr('10.9.9.9/32')] }, tls, false],
    ['destination port', { destinationPorts: [80, 8080] }, tls, true],
    ['another port', { destinationPorts: [15008] }, tls, false],
    ['excluded port', { notDestinationPorts: [8080] }, tls, false],
    ['port that is not excluded', { notDestinationPorts: [9999] }, tls, true],
    ['types are joined by AND', { namespaces: [exact('front')], destinationPorts: [9] }, tls, false],
    [
      'positive and negative of one type: both hold',
      { namespaces: [prefix('fr')], notNamespaces: [exact('x')] },
      tls,
      true
    ],
    [
      'positive and negative of one type: one fails',
      { namespaces: [prefix('fr')], notNamespaces: [exact('front')] },
      tls,
      false
    ]
  ]
  for (const [name, lists, connection, expected] of table) {
    const allow = policyOf(lists)
    t.equal(evaluate([allow], connection).kind, expected ? 'allow' : 'deny', name)
    const [trace] = explain([allow], connection).policies
    t.equal(trace?.matched, expected, `${name}: the trace agrees`)
  }
})

t.test('rules, clauses and matches nest as OR, AND, OR', async t => {
  const yes = match({ destinationPorts: [8080] })
  const no = match({ destinationPorts: [1] })
  const table: readonly (readonly [string, Policy['rules'], boolean])[] = [
    ['no rules never match', [], false],
    ['a rule without clauses matches', [[]], true],
    ['a clause without matches matches', [[[]]], true],
    ['an empty match does not', [[[match()]]], false],
    ['an empty clause and one that fails', [[[], [no]]], false],
    ['any rule', [[[no]], [[yes]]], true],
    ['every clause', [[[yes], [no]]], false],
    ['every clause holds', [[[yes], [yes]]], true],
    ['any match of a clause', [[[no, yes]]], true],
    ['no match of a clause', [[[no, no]]], false]
  ]
  for (const [name, rules, matches] of table) {
    t.equal(evaluate([policy({ rules })], tls).kind, matches ? 'allow' : 'deny', `ALLOW: ${name}`)
    const deny = policy({ rules, action: 'Deny' })
    t.equal(evaluate([deny], tls).kind, matches ? 'deny' : 'allow', `DENY: ${name}`)
    t.equal(explain([deny], tls).policies[0]?.matched, matches, `trace: ${name}`)
  }
})

t.test('the order of actions', async t => {
  const yes = { rules: [[[match({ destinationPorts: [8080] })]]] }
  const no = { rules: [[[match({ destinationPorts: [1] })]]] }
  const allowYes = policy({ name: 'allow-yes', ...yes })
  const allowNo = policy({ name: 'allow-no', ...no })
  const denyYes = policy({ name: 'deny-yes', action: 'Deny', ...yes })
  const denyNo = policy({ name: 'deny-no', action: 'Deny', ...no })
  const dryAllowNo = policy({ name: 'dry-allow-no', dryRun: true, ...no })
  const dryAllowYes = policy({ name: 'dry-allow-yes', dryRun: true, ...yes })
  const dryDeny = policy({ name: 'dry-deny', action: 'Deny', dryRun: true, ...yes })
  const broken = policy({
    name: 'broken',
    action: 'Deny',
    rules: [[]],
    unreadable: 'action: unknown value 7'
  })
  const table = [
    { name: 'no policy allows', given: [], kind: 'allow', reason: 'no policies' },
    { name: 'a DENY that does not match', given: [denyNo], kind: 'allow', reason: 'no allow policies' },
    {
      name: 'a DENY wins over an ALLOW',
      given: [allowYes, denyYes],
      kind: 'deny',
      reason: 'explicitly denied by: shop/deny-yes',
      policy: 'shop/deny-yes'
    },
    {
      name: 'one of the ALLOWs',
      given: [allowNo, allowYes],
      kind: 'allow',
      reason: 'allowed by: shop/allow-yes',
      policy: 'shop/allow-yes'
    },
    {
      name: 'ALLOWs, none matches',
      given: [allowNo, denyNo],
      kind: 'deny',
      reason: 'allow policies exist, but none allowed'
    },
    {
      name: 'dry-run DENY only notes',
      given: [dryDeny],
      kind: 'allow',
      reason: 'no allow policies',
      notes: ['dry-run: deny policy match: shop/dry-deny']
    },
    {
      name: 'dry-run ALLOW that fails only notes',
      given: [dryAllowNo],
      kind: 'allow',
      reason: 'no allow policies',
      notes: ['dry-run: no allow policies match']
    },
    {
      name: 'dry-run ALLOW that matches',
      given: [dryAllowYes],
      kind: 'allow',
      reason: 'no allow policies',
      notes: ['dry-run: allow policy match: shop/dry-allow-yes']
    },
    {
      name: 'dry-run ALLOW beside an enforced one',
      given: [dryAllowNo, allowYes],
      kind: 'allow',
      reason: 'allowed by: shop/allow-yes',
      notes: []
    },
    {
      name: 'dry-run ALLOW does not count as one that allows',
      given: [dryAllowYes, allowNo],
      kind: 'deny',
      reason: 'allow policies exist, but none allowed'
    },
    {
      name: 'what cannot be read denies and says why',
      given: [broken, allowYes],
      kind: 'deny',
      policy: 'shop/broken',
      reason: /cannot be read, so nothing passes: action: unknown value 7/
    }
  ]
  for (const { name, given, ...expected } of table) t.match(evaluate(given, tls), expected, name)
})

t.test('a trace shows for each condition what was wanted, what was seen, and the result', async t => {
  const guarded = policy({
    name: 'guard',
    action: 'Deny',
    rules: [
      [[match({ destinationPorts: [1, 2] })]],
      [[match({ principals: [prefix('td/')], notSourceIps: [cidr('10.1.0.0/16')] })], []]
    ]
  })
  t.strictSame(explain([guarded], plain), {
    verdict: { kind: 'allow', reason: 'no allow policies', policy: undefined, notes: [] },
    policies: [
      {
        policy: 'shop/guard',
        action: 'Deny',
        dryRun: false,
        matched: false,
        rule: undefined,
        rules: [
          {
            matched: false,
            clauses: [
              {
                matched: false,
                matches: [
                  {
                    matched: false,
                    conditions: [
                      { field: 'destinationPorts', wanted: ['1', '2'], seen: '8080', matched: false }
                    ]
                  }
                ]
              }
            ]
          },
          {
            matched: false,
            clauses: [
              {
                matched: false,
                matches: [
                  {
                    matched: false,
                    conditions: [
                      { field: 'principals', wanted: ['td/*'], seen: undefined, matched: false },
                      { field: 'notSourceIps', wanted: ['10.1.0.0/16'], seen: '10.1.2.3', matched: false }
                    ]
                  }
                ]
              },
              { matched: true, matches: [] }
            ]
          }
        ]
      }
    ]
  })
  const found = explain([policy({ rules: [[[match({ destinationPorts: [1] })]], [[]]] })], tls)
  t.equal(found.policies[0]?.rule, 1, 'the first rule that matched')
})

t.test('the trace agrees with the verdict on 5,000 random policies', async t => {
  let seed = 42
  const random = (limit: number): number => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return seed % limit
  }
  const some = <T>(values: readonly T[]): T[] => values.filter(() => random(5) === 0)
  const strings = [
    exact('front'),
    prefix('fr'),
    suffix('nt'),
    presence,
    exact('cluster.local/ns/front/sa/web')
  ]
  const randomMatch = (): PolicyMatch =>
    match({
      principals: some(strings),
      notPrincipals: some(strings),
      namespaces: some(strings),
      notNamespaces: some(strings),
      sourceIps: some([cidr('10.0.0.0/8'), cidr('::/0')]),
      notSourceIps: some([cidr('10.1.2.0/24')]),
      destinationPorts: some([8080, 1]),
      notDestinationPorts: some([8080, 1])
    })
  const list = <T>(make: () => T): T[] => Array.from({ length: random(3) }, make)
  let disagreements = 0
  for (let round = 0; round < 5000; round += 1) {
    const given = policy({ rules: list(() => list(() => list(randomMatch))) })
    const connection = [tls, plain, v6][random(3)] ?? tls
    const allowed = evaluate([given], connection).kind === 'allow'
    if (allowed !== explain([given], connection).policies[0]?.matched) disagreements += 1
  }
  t.equal(disagreements, 0)
})
