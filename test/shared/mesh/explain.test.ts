import t from 'tap'
import { differences } from '../../../cli/explain/compare.ts'
import { explanationText } from '../../../cli/explain/text.ts'
import { readExplainRequest } from '../../../shared/mesh/explain-endpoint.ts'
import { explainPath, type Explanation, type ExplainResult } from '../../../shared/mesh/explain.ts'
import { MeshStore, type MeshChange } from '../../../shared/mesh/store.ts'
import { shop } from './explained-shop.ts'

function viewOf(changes: readonly MeshChange[] = shop) {
  const store = new MeshStore()
  t.strictSame(store.apply(changes).rejected, [])
  return store.view()
}

const ask = (from: string, to: string, changes?: readonly MeshChange[], namespace = 'shop'): ExplainResult =>
  explainPath(viewOf(changes), { from, to, namespace }, { network: '' })

function explained(from: string, to: string, changes?: readonly MeshChange[]): Explanation {
  const result = ask(from, to, changes)
  if (result.kind !== 'explanation') throw new Error(result.message)
  return result
}

t.test('both ends are found under every name that people use', async t => {
  const web = 'Kubernetes//Pod/shop/web-1'
  const froms = [
    'web-1',
    'pod/web-1',
    'web',
    'deploy/web',
    'deployment/web.shop',
    'web.shop',
    'shop/web-1',
    '10.1.1.5',
    web
  ]
  for (const from of froms) t.equal(explained(from, 'db:5432').source.uid, web, from)
  const services = [
    'cart:80',
    'svc/cart:80',
    'service/cart.shop:80',
    'cart.shop.svc.cluster.local:80',
    'shop/cart.shop.svc.cluster.local:80',
    '10.96.0.10:80'
  ]
  for (const to of services) {
    t.match(
      explained('web', to).destination,
      { service: 'shop/cart.shop.svc.cluster.local', addresses: ['10.96.0.10:80'], port: 80 },
      to
    )
  }
  for (const to of [
    'pod/cart-1:8080',
    'deploy/cart:8080',
    'cart-1.shop:8080',
    '10.1.2.7:8080',
    'Kubernetes//Pod/shop/cart-1:8080'
  ]) {
    t.match(
      explained('web', to).destination,
      { workload: 'Kubernetes//Pod/shop/cart-1', addresses: ['10.1.2.7:8080'] },
      to
    )
  }
})

t.test('names that stand for nothing are told, with what there is', async t => {
  const rows: readonly (readonly [string, string, 'from' | 'to', RegExp])[] = [
    ['nobody', 'cart:80', 'from', /no pod, deployment or service nobody in namespace shop/],
    ['svc/cart', 'cart:80', 'from', /no service cart in the mesh/],
    ['10.9.9.9', 'cart:80', 'from', /no workload has the address 10\.9\.9\.9/],
    ['nowhere', 'cart:80', 'from', /nowhere has no IP address yet/],
    ['web', 'cart', 'to', /"cart" has no port: write cart:PORT/],
    ['web', 'cart:0', 'to', /has no port/],
    ['web', 'cart:81', 'to', /service shop\/cart\.shop\.svc\.cluster\.local has no port 81 \(it has: 80\)/],
    ['web', 'pod/nobody:80', 'to', /no pod nobody in namespace shop/],
    ['web', 'empty:80', 'to', /neither an address of its own nor endpoints/]
  ]
  for (const [from, to, what, message] of rows)
    t.match(ask(from, to), { kind: 'unknown', what, message }, `${from} to ${to}`)
})

t.test('a call to a service: every endpoint, its policies, and the rule that allows', async t => {
  const { legs, outcome } = explained('web', 'cart:80')
  t.equal(outcome, 'allowed')
  t.equal(legs.length, 1)
  t.match(legs[0]?.hop, { kind: 'hbone', through: 'destination', to: /^10\.1\.2\.[78]:15008$/ })
  t.match(legs[0]?.because, [
    '10.96.0.10 is the address of service shop/cart.shop.svc.cluster.local',
    'it has 2 endpoints that may be used',
    /speaks HBONE/
  ])
  const [arrival, ...more] = legs[0]?.arrivals ?? []
  t.equal(more.length, 0)
  t.match(arrival, {
    alike: 1,
    identity: 'spiffe://cluster.local/ns/shop/sa/web',
    enforcedBy: 'agent',
    verdict: { kind: 'allow', policy: 'shop/cart-clients' }
  })
  t.match(arrival?.policies, [{ policy: 'shop/cart-clients', matched: true, rule: 0 }])
})

t.test('outcomes of every kind of path', async t => {
  const rows: readonly (readonly [string, string, string, object])[] = [
    [
      'a client that no rule names is refused',
      'other',
      'cart:80',
      {
        outcome: 'refused',
        legs: [
          { arrivals: [{ verdict: { kind: 'deny', reason: 'allow policies exist, but none allowed' } }] }
        ]
      }
    ],
    [
      'a deny policy refuses by port',
      'web',
      'pod/db-0:9999',
      { outcome: 'refused', legs: [{ arrivals: [{ verdict: { kind: 'deny', policy: 'shop/no-metrics' } }] }] }
    ],
    ['without policies all is allowed', 'web', 'db:5432', { outcome: 'allowed' }],
    [
      'a destination outside of the mesh gets plain TCP and decides nothing',
      'web',
      'legacy:80',
      {
        outcome: 'allowed',
        legs: [{ hop: { kind: 'plaintext' }, arrivals: [{ enforcedBy: 'nobody', identity: undefined }] }]
      }
    ],
    [
      'an unknown address is passed through',
      'web',
      '8.8.8.8:443',
      { outcome: 'allowed', legs: [{ hop: { kind: 'passthrough', to: '8.8.8.8:443' }, arrivals: [] }] }
    ],
    [
      'a source outside of the mesh comes without identity, and strict policy refuses it',
      'legacy',
      'strict:80',
      {
        outcome: 'refused',
        legs: [
          {
            hop: { kind: 'passthrough' },
            arrivals: [{ identity: undefined, verdict: { kind: 'deny', policy: 'istio-system/strict' } }]
          }
        ]
      }
    ],
    [
      'a service waypoint decides for itself',
      'web',
      'guarded:80',
      {
        outcome: 'depends',
        legs: [
          { hop: { kind: 'hbone', through: 'service-waypoint' }, arrivals: [{ enforcedBy: 'waypoint' }] },
          {
            from: { name: 'waypoint-1' },
            arrivals: [{ identity: 'spiffe://cluster.local/ns/shop/sa/waypoint' }]
          }
        ]
      }
    ],
    [
      'a waypoint that is not there refuses',
      'web',
      'broken:80',
      { outcome: 'refused', legs: [{ hop: { kind: 'refused', reason: 'unknown-waypoint' } }] }
    ],
    [
      'a service without endpoints refuses',
      'web',
      'idle:80',
      { outcome: 'refused', legs: [{ hop: { kind: 'refused', reason: 'no-healthy-upstream' } }] }
    ]
  ]
  for (const [name, from, to, expected] of rows) t.match(explained(from, to), expected, name)
})

t.test('endpoints that decide differently are shown apart', async t => {
  const { outcome, legs } = explained('other', 'mixed:80')
  t.equal(outcome, 'depends')
  t.strictSame(legs[0]?.arrivals.map(({ verdict }) => verdict?.kind).toSorted(), ['allow', 'deny'])
})

t.test('the text names the steps, the policy, the rule and the condition that failed', async t => {
  const plain = (_colour: string, text: string): string => text
  const refused = explanationText(explained('other', 'cart:80'), plain)
  t.match(
    refused,
    / 1 {2}source: shop\/other-1 on node-1, enrolled, identity spiffe:\/\/cluster\.local\/ns\/shop\/sa\/other\n/
  )
  t.match(refused, / 2 {2}route from shop\/other-1: HBONE to .*CONNECT .*, peer must be spiffe/)
  t.match(refused, / 3 {2}arrives at shop\/cart-\d on node-2 \(and 1 more like it\)/)
  t.match(
    refused,
    /ALLOW shop\/cart-clients: no rule matches\n {8}rule 1: principals \[.*sa\/web.*\] ✗ saw cluster\.local\/ns\/shop\/sa\/other/
  )
  t.match(refused, /REFUSED: allow policies exist, but none allowed/)
  t.match(refused, /\nresult: refused\n$/)
  const allowed = explanationText(explained('web', 'cart:80'), plain)
  t.match(allowed, /ALLOW shop\/cart-clients: rule 1 matches: principals \[.*\] ✓ saw /)
  t.match(
    explanationText(explained('web', 'guarded:80'), plain),
    /the waypoint decides by its layer-7 policies/
  )
  t.match(
    explanationText(explained('web', '8.8.8.8:443'), plain),
    /plain TCP to 8\.8\.8\.8:443, as if there were no mesh/
  )
})

t.test('an agent that holds something else is told from one that holds the same', async t => {
  const stale = shop.filter(change => !(change.kind === 'policy' && change.policy.name === 'cart-clients'))
  const desired = explained('other', 'cart:80')
  t.strictSame(differences(desired, explained('other', 'cart:80'), 'source', 'node-1'), [])
  t.strictSame(differences(desired, explained('other', 'cart:80'), 'destination', 'node-2'), [])
  const differing = differences(desired, explained('other', 'cart:80', stale), 'destination', 'node-2')
  t.match(differing.join('\n'), /policies on node-2: desired but not held: deny: allow policies exist/)
  t.match(differing.join('\n'), /policies on node-2: held but not desired: allow: no policies/)
  const fewer = shop.filter(change => !(change.kind === 'workload' && change.workload.name === 'cart-2'))
  t.match(
    differences(desired, explained('other', 'cart:80', fewer), 'source', 'node-1').join('\n'),
    /route on node-1: desired but not held: HBONE to one of 2 endpoints/
  )
  const unknown = ask('other', 'cart:80', [])
  t.match(differences(desired, unknown, 'source', 'node-1'), [/the agent on node-1 does not know it: no pod/])
})

t.test('an agent that lets only registered destinations pass is not called out of date', async t => {
  const request = { from: 'web', to: '8.8.8.8:443', namespace: 'shop' }
  const strict = explainPath(viewOf(), request, { network: '', outboundTrafficPolicy: 'REGISTRY_ONLY' })
  t.match(strict, { outcome: 'refused', legs: [{ hop: { kind: 'refused', reason: 'not-registered' } }] })
  t.strictSame(differences(explained('web', '8.8.8.8:443'), strict, 'source', 'node-1'), [
    'route on node-1: this agent lets only registered destinations pass (REGISTRY_ONLY)'
  ])
})

t.test('a question is checked field by field', async t => {
  t.strictSame(readExplainRequest({ from: 'a', to: 'b:1' }), { from: 'a', to: 'b:1', namespace: 'default' })
  for (const [body, message] of [
    [undefined, /expected a JSON object/],
    [{ to: 'b:1' }, /from: expected a text/],
    [{ from: 'a', to: 7 }, /to: expected a text/],
    [{ from: 'a', to: 'b:1', namespace: 'x'.repeat(600) }, /namespace: expected a text of 1 to 512/]
  ] as const) {
    t.throws(() => readExplainRequest(body), { name: 'HttpProblem', status: 400, message })
  }
})
