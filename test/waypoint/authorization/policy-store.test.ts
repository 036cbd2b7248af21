/** Which policies are for whom: AZ-01 to AZ-06, and when a set that was given is not the right one any more. */
import t from 'tap'
import { authorize, noPolicies } from '../../../waypoint/authorization/evaluate.ts'
import { PolicyStore } from '../../../waypoint/authorization/policy-store.ts'
import type { PolicyService, PolicyTarget } from '../../../waypoint/policy-target.ts'
import { policy, request } from './support.ts'

const own = { namespace: 'infra', name: 'waypoint', clusterDomain: 'cluster.local' }

function service(
  namespace: string,
  name: string,
  hostname = `${name}.${namespace}.svc.cluster.local`
): PolicyService {
  return { namespace, name, hostname }
}

const web = service('shop', 'web')
const entry = service('shop', 'web', 'web.example')

const situations: readonly (readonly [
  name: string,
  target: PolicyTarget,
  of: { readonly web?: boolean; readonly entry?: boolean; readonly pod?: boolean }
])[] = [
  ['a service', { kind: 'Service', namespace: 'shop', name: 'web' }, { web: true }],
  [
    'a service entry of the same name',
    { kind: 'ServiceEntry', namespace: 'shop', name: 'web' },
    { entry: true }
  ],
  ['a service of another namespace', { kind: 'Service', namespace: 'infra', name: 'web' }, {}],
  ['another service', { kind: 'Service', namespace: 'shop', name: 'api' }, {}],
  [
    'the waypoint',
    { kind: 'Gateway', namespace: 'infra', name: 'waypoint' },
    { web: true, entry: true, pod: true }
  ],
  ['another waypoint', { kind: 'Gateway', namespace: 'infra', name: 'other' }, {}],
  ['a waypoint of that name elsewhere', { kind: 'Gateway', namespace: 'shop', name: 'waypoint' }, {}],
  ['a class', { kind: 'GatewayClass', name: 'istio-waypoint' }, { web: true, entry: true, pod: true }],
  ['whatever nobody can tell', { kind: 'everything' }, { web: true, entry: true, pod: true }]
]

t.test('AZ-01, AZ-02, AZ-03, AZ-05: a policy is for its targets alone', async t => {
  for (const [name, target, of] of situations) {
    const store = new PolicyStore(own)
    store.put('p', { ...policy({ action: 'DENY', rules: [{}] }), targets: [target] })
    const denies = (of: PolicyService | undefined): boolean =>
      !authorize(store.policiesFor(of), request()).allowed
    t.equal(denies(web), of.web === true, `${name}: the service`)
    t.equal(denies(entry), of.entry === true, `${name}: the service entry`)
    t.equal(denies(undefined), of.pod === true, `${name}: a pod that was addressed`)
  }
})

t.test('AZ-02: a class is told apart where our own is known', async t => {
  const store = new PolicyStore({ ...own, className: 'underpass-waypoint' })
  store.put('p', { ...policy({}), targets: [{ kind: 'GatewayClass', name: 'istio-waypoint' }] })
  t.equal(store.policiesFor(web), noPolicies)
})

t.test('AZ-04, AZ-06: policies of the root, the waypoint and the service are one pool', async t => {
  const store = new PolicyStore(own)
  const rules = (path: string): unknown[] => [{ to: [{ operation: { paths: [path] } }] }]
  const classTarget = { group: 'gateway.networking.k8s.io', kind: 'GatewayClass', name: 'c' }
  const gatewayTarget = { group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'waypoint' }
  store.put('1', policy({ rules: rules('/root'), targetRefs: [classTarget] }, { namespace: 'istio-system' }))
  store.put('2', policy({ rules: rules('/waypoint'), targetRefs: [gatewayTarget] }, { namespace: 'infra' }))
  store.put('3', policy({ rules: rules('/service') }))
  const passes = (path: string, of: PolicyService | undefined): boolean =>
    authorize(store.policiesFor(of), request({ path })).allowed
  for (const path of ['/root', '/waypoint', '/service']) t.ok(passes(path, web), path)
  t.notOk(passes('/service', service('shop', 'api')))
  t.notOk(passes('/other', web))
})

t.test('a set stays the same until something changes', async t => {
  const store = new PolicyStore(own)
  t.equal(store.policiesFor(web), noPolicies)
  const before = store.version
  store.put('p', policy({ action: 'DENY', rules: [{}] }))
  t.ok(store.has('p'))
  t.not(store.version, before)
  const set = store.policiesFor(web)
  t.equal(store.policiesFor({ ...web }), set)
  t.equal(store.policiesFor(service('shop', 'api')), noPolicies)

  store.put('p', policy({ action: 'DENY', rules: [] }))
  t.equal(authorize(store.policiesFor(web), request()).allowed, true, 'a change takes the place of what was')
  t.equal(authorize(set, request()).allowed, false, 'and does not touch what was given')
  t.equal([...store.all()].length, 1)

  const changed = store.version
  store.remove('unknown')
  t.equal(store.version, changed)
  store.remove('p')
  t.equal(store.policiesFor(web), noPolicies)
})
