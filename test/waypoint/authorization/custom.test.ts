/** Which authorizer is asked about what: AZ-38, AZ-41, AZ-42, AZ-47, PI-17. */
import t from 'tap'
import { askWhom, policySet } from '../../../waypoint/authorization/evaluate.ts'
import type { RequestFacts } from '../../../waypoint/authorization/facts.ts'
import type { L7Policy } from '../../../waypoint/authorization/policy.ts'
import { readProviders } from '../../../waypoint/external-authorization/providers.ts'
import { connection, policy, request, type Json } from './support.ts'

const service = 'shop/authz.shop.svc.cluster.local'
const providers = readProviders([
  { name: 'web', envoyExtAuthzHttp: { service, port: 8000 } },
  { name: 'opa', envoyExtAuthzGrpc: { service, port: 9000 } },
  { name: 'broken', envoyExtAuthzGrpc: { service } }
])

const cart: Json = { to: [{ operation: { paths: ['/cart'] } }] }
const elsewhere: Json = { to: [{ operation: { paths: ['/x'] } }] }

function custom(provider: string, rule: Json, name = 'c', dryRun = false): L7Policy {
  const annotations = { 'istio.io/dry-run': String(dryRun) }
  return policy({ action: 'CUSTOM', provider: { name: provider }, rules: [rule] }, { name, annotations })
}

/** In short: who is asked by which rule, or that the rule refuses. */
function asked(policies: readonly L7Policy[], facts: RequestFacts): string | undefined {
  const asking = askWhom(policySet(policies), facts, providers)
  if (asking === undefined) return undefined
  if (asking.kind === 'refused') return `refused ${asking.policyId}`
  return `${asking.dryRun ? 'dry ' : ''}${asking.provider.name} ${asking.policyId}`
}

const bad = '-deny-due-to-bad-CUSTOM-action'
const rule = (provider: string, name = 'c'): string =>
  `istio-ext-authz-${provider}-ns[shop]-policy[${name}]-rule[0]`

const questions: readonly (readonly [
  name: string,
  policies: readonly L7Policy[],
  ofRequest: string | undefined,
  ofConnection: string | undefined
])[] = [
  ['no policies', [], undefined, undefined],
  ['none with CUSTOM', [policy({ action: 'DENY', rules: [{}] })], undefined, undefined],
  ['by gRPC', [custom('opa', {})], `opa ${rule('opa')}`, `opa ${rule('opa')}`],
  ['by HTTP, which connections do without', [custom('web', {})], `web ${rule('web')}`, undefined],
  [
    'only what a rule matches; connections have no paths',
    [custom('opa', elsewhere)],
    undefined,
    `opa ${rule('opa')}`
  ],
  [
    'several policies with one authorizer: once',
    [custom('opa', cart, 'd'), custom('opa', cart, 'c')],
    `opa ${rule('opa')}`,
    `opa ${rule('opa')}`
  ],
  [
    'an authorizer that nobody defined',
    [custom('nobody', {})],
    `refused ${rule('nobody')}${bad}`,
    `refused ${rule('nobody')}${bad}`
  ],
  [
    'one that is defined wrongly',
    [custom('broken', cart)],
    `refused ${rule('broken')}${bad}`,
    `refused ${rule('broken')}${bad}`
  ],
  [
    'a wrong one that is not concerned',
    [custom('broken', { to: [{ operation: { ports: ['81'] } }] })],
    undefined,
    undefined
  ],
  [
    'two authorizers of one target: neither, wherever one of them is wanted',
    [custom('opa', elsewhere, 'a'), custom('web', cart, 'b')],
    `refused ${rule('web', 'b')}${bad}`,
    `refused ${rule('opa', 'a')}${bad}`
  ],
  [
    'two of them where neither is wanted',
    [custom('opa', elsewhere, 'a'), custom('web', elsewhere, 'b')],
    undefined,
    `refused ${rule('opa', 'a')}${bad}`
  ],
  ['a dry run', [custom('opa', {}, 'c', true)], `dry opa ${rule('opa')}`, `dry opa ${rule('opa')}`],
  [
    'a dry run with an authorizer that nobody defined',
    [custom('nobody', {}, 'c', true)],
    undefined,
    undefined
  ],
  [
    'a dry run does not spoil what is in force',
    [custom('web', {}, 'a', true), custom('opa', {}, 'b')],
    `opa ${rule('opa', 'b')}`,
    `opa ${rule('opa', 'b')}`
  ],
  [
    'a dry run beside one in force that does not match',
    [custom('opa', cart, 'a', true), custom('web', elsewhere, 'b')],
    `dry opa ${rule('opa', 'a')}`,
    `dry opa ${rule('opa', 'a')}`
  ]
]

t.test('AZ-38, AZ-41, AZ-42, AZ-47: who is asked, and where there is nobody', async t => {
  for (const [name, policies, ofRequest, ofConnection] of questions) {
    t.equal(asked(policies, request()), ofRequest, name)
    t.equal(asked(policies, connection), ofConnection, `${name}: of a connection`)
  }
})

t.test('PI-17: claims have no part in it, as tokens are looked at later', async t => {
  const when = [{ key: 'request.auth.claims[role]', values: ['admin'] }]
  const policies = [custom('opa', { ...cart, when })]
  for (const claims of [undefined, { role: 'user' }, { role: 'admin' }]) {
    t.equal(asked(policies, request({ claims })), `opa ${rule('opa')}`)
  }
})
