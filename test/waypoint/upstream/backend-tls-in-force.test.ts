/** Which TLS holds for a port of a service: of a policy for it, for the service, of a DestinationRule, of its ServiceEntry. */
import t from 'tap'
import { DestinationRuleStore } from '../../../waypoint/destination-rules/destination-rule-store.ts'
import { PoliciesInForce } from '../../../waypoint/upstream/backend-tls-in-force.ts'
import { BackendTlsPolicies } from '../../../waypoint/upstream/backend-tls-policies.ts'
import { readBackendTlsPolicy } from '../../../waypoint/upstream/backend-tls-policy.ts'
import { service } from '../../support/mesh.ts'
import { read } from '../destination-rules/support.ts'

const web = service({ name: 'web', namespace: 'shop', hostname: 'web.shop.svc.cluster.local' })

interface World {
  readonly policies: PoliciesInForce
  readonly backendTls: BackendTlsPolicies
  readonly rules: DestinationRuleStore
}

function world(): World {
  const rules = new DestinationRuleStore({ namespace: 'shop', rootNamespace: 'istio-system' })
  const backendTls = new BackendTlsPolicies()
  return { policies: new PoliciesInForce(rules, backendTls, () => undefined), backendTls, rules }
}

function put({ backendTls }: World, name: string, port?: number, createdMs = 1): void {
  const target = { namespace: 'shop', hostname: web.hostname, ...(port === undefined ? {} : { port }) }
  const validation = { hostname: `${name}.example`, caCertificates: '' }
  const spec = { targetRefs: [target], validation }
  backendTls.put(`shop/${name}`, readBackendTlsPolicy({ namespace: 'shop', name, createdMs, spec }))
}

const nameFor = ({ policies }: World, port: number): string | undefined =>
  policies.policyFor(web, port, undefined)?.tls?.serverName

t.test('the port before the service, the older before the younger, and they go as they came', async t => {
  const it = world()
  t.equal(it.policies.policyFor(web, 80, undefined), undefined, 'nobody said anything')
  put(it, 'all')
  put(it, 'younger', undefined, 2)
  put(it, 'port', 443)
  t.equal(nameFor(it, 80), 'all.example')
  t.equal(nameFor(it, 443), 'port.example')
  t.equal(it.policies.policyFor({ ...web, hostname: 'other' }, 80, undefined), undefined)
  const before = it.policies.policyFor(web, 80, undefined)
  t.equal(it.policies.policyFor(web, 80, undefined), before, 'the same object while nothing changes')
  it.backendTls.remove('shop/port')
  it.backendTls.remove('shop/all')
  t.equal(nameFor(it, 443), 'younger.example')
  it.backendTls.remove('shop/younger')
  t.equal(it.policies.policyFor(web, 443, undefined), undefined)
})

t.test('the other parts of a DestinationRule stay, the same for each question', async t => {
  const it = world()
  const rule = { tls: { mode: 'SIMPLE', sni: 'rule.example' }, loadBalancer: { simple: 'RANDOM' } }
  it.rules.put('shop/web', read({ trafficPolicy: rule }))
  t.match(it.policies.policyFor(web, 80, undefined), { tls: { serverName: 'rule.example' } })
  put(it, 'own')
  const policy = it.policies.policyFor(web, 80, undefined)
  t.match(policy, { tls: { serverName: 'own.example' }, balancing: { kind: 'random' } })
  t.equal(it.policies.policyFor(web, 81, undefined), policy)
})

t.test('VS-48: names of a ServiceEntry count where the rule has none', async t => {
  const it = world()
  it.rules.put('shop/web', read({ trafficPolicy: { tls: { mode: 'SIMPLE' } } }))
  const tlsOf = (subjectAltNames: readonly string[]): unknown =>
    it.policies.policyFor({ ...web, subjectAltNames }, 80, undefined)?.tls
  t.match(tlsOf([]), { serverName: web.hostname, names: [] })
  t.match(tlsOf(['spiffe://a/b', 'c.d']), {
    serverName: web.hostname,
    names: [
      { kind: 'uri', value: 'spiffe://a/b' },
      { kind: 'hostname', value: 'c.d' }
    ]
  })
  it.rules.put('shop/web', read({ trafficPolicy: { tls: { mode: 'SIMPLE', subjectAltNames: ['x.y'] } } }))
  t.match(tlsOf(['c.d']), { names: [{ value: 'x.y' }] })
})

t.test('a policy that cannot be carried out adds to what a rule cannot', async t => {
  const it = world()
  it.rules.put('shop/web', read({ trafficPolicy: { proxyProtocol: {} } }))
  const targetRefs = [{ namespace: 'shop', hostname: web.hostname }]
  const resource = { namespace: 'shop', name: 'own', createdMs: 0, spec: { targetRefs, unresolved: 'no CA' } }
  it.backendTls.put('shop/own', readBackendTlsPolicy(resource))
  t.match(
    it.policies.policyFor(web, 80, undefined)?.unsupported,
    /proxyProtocol.*; BackendTLSPolicy shop\/own: no CA$/
  )
})

const wrong: readonly (readonly [spec: object, message: RegExp])[] = [
  [{}, /spec\.targetRefs: expected at least one; spec\.validation: is required/],
  [{ targetRefs: [{ hostname: 'a' }], unresolved: 'x' }, /targetRefs\[0\]\.namespace: /],
  [{ targetRefs: [{ hostname: 'a', namespace: 'b', port: 70_000 }], unresolved: 'x' }, /\.port: expected/],
  [{ targetRefs: [{ hostname: 'a', namespace: 'b', odd: 1 }], unresolved: 'x' }, /\.odd: unknown field/],
  [{ validation: { hostname: '', caCertificates: '' } }, /validation\.hostname: must not be empty/],
  [{ validation: { hostname: 'a' } }, /validation\.caCertificates: /],
  [
    { validation: { hostname: 'a', caCertificates: 'hello' } },
    /caCertificates: expected certificates as PEM/
  ],
  [
    {
      validation: {
        hostname: 'a',
        caCertificates: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
      }
    },
    /caCertificates: expected certificates as PEM \(/
  ],
  [
    { validation: { hostname: 'a', caCertificates: '', subjectAltNames: [{ type: 'IP', hostname: 'b' }] } },
    /subjectAltNames\[0\]\.type: expected one of Hostname, URI/
  ],
  [
    { validation: { hostname: 'a', caCertificates: '', subjectAltNames: [{ type: 'URI', uri: '' }] } },
    /subjectAltNames\[0\]: an empty URI is no name/
  ]
]

t.test('every wrong field is named', async t => {
  for (const [spec, message] of wrong) {
    const resource = { namespace: 'shop', name: 'own', createdMs: 0, spec: { ...spec } }
    t.throws(() => readBackendTlsPolicy(resource), { message })
  }
})
