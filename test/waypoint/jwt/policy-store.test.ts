/** Which rules are for which destination. */
import t from 'tap'
import { JwtPolicyStore } from '../../../waypoint/jwt/policy-store.ts'
import type { PolicyService } from '../../../waypoint/policy-target.ts'
import { readRequestAuthentication } from '../../../waypoint/jwt/read-request-authentication.ts'

const own = { namespace: 'shop', name: 'wp', clusterDomain: 'cluster.local' }
const group = 'gateway.networking.k8s.io'

function put(
  store: JwtPolicyStore,
  name: string,
  targets: readonly object[],
  { namespace = 'shop', issuers = [name] }: { namespace?: string; issuers?: readonly string[] } = {}
): void {
  const jwtRules = issuers.map(issuer => ({ issuer, jwksUri: 'http://keys.example' }))
  const spec = { targetRefs: targets, jwtRules }
  store.put(
    `${namespace}/${name}`,
    readRequestAuthentication({ namespace, name, createdMs: 0, spec }, 'istio-system')
  )
}

const service = (name: string, namespace = 'shop'): PolicyService => ({
  ...{ namespace, name, hostname: `${name}.${namespace}.svc.cluster.local` }
})
const entry = (name: string): PolicyService => ({ namespace: 'shop', name, hostname: `${name}.example` })

t.test('rules follow their targets', async t => {
  const store = new JwtPolicyStore(own)
  put(store, 'for-web', [{ kind: 'Service', name: 'web' }])
  put(store, 'for-entry', [{ kind: 'ServiceEntry', group: 'networking.istio.io', name: 'web' }])
  put(store, 'for-waypoint', [{ kind: 'Gateway', group, name: 'wp' }])
  put(store, 'for-other-waypoint', [{ kind: 'Gateway', group, name: 'wp2' }])
  put(store, 'for-namesake', [{ kind: 'Gateway', group, name: 'wp' }], { namespace: 'elsewhere' })
  put(store, 'for-class', [{ kind: 'GatewayClass', group, name: 'c' }], { namespace: 'istio-system' })
  put(store, 'for-class-from-elsewhere', [{ kind: 'GatewayClass', group, name: 'c' }])
  put(store, 'for-two', [
    { kind: 'Service', name: 'web' },
    { kind: 'Service', name: 'api' }
  ])
  const rows: readonly (readonly [name: string, PolicyService | undefined, string[]])[] = [
    ['a Service', service('web'), ['for-class', 'for-two', 'for-waypoint', 'for-web']],
    ['another one', service('api'), ['for-class', 'for-two', 'for-waypoint']],
    ['one of that name elsewhere', service('web', 'other'), ['for-class', 'for-waypoint']],
    ['a ServiceEntry of that name', entry('web'), ['for-class', 'for-entry', 'for-waypoint']],
    ['a pod', undefined, ['for-class', 'for-waypoint']]
  ]
  for (const [name, destination, issuers] of rows) {
    t.strictSame(
      store.rulesFor(destination).map(({ issuer }) => issuer),
      issuers,
      name
    )
  }
})

t.test('rules of all policies are one list by issuer', async t => {
  const store = new JwtPolicyStore(own)
  put(store, 'p', [{ kind: 'Service', name: 'web' }], { issuers: ['z', 'a'] })
  put(store, 'q', [{ kind: 'Gateway', group, name: 'wp' }], { issuers: ['m', 'a'] })
  const rules = store.rulesFor(service('web'))
  t.strictSame(
    rules.map(({ issuer, policy }) => `${issuer} ${policy}`),
    ['a shop/p', 'a shop/q', 'm shop/q', 'z shop/p']
  )
  t.equal(store.rulesFor(service('web')), rules, 'put together once')
  t.equal([...store.allRules()].length, 4)
})

t.test('a change is seen, and only a change', async t => {
  const store = new JwtPolicyStore(own)
  const before = store.version
  t.strictSame(store.rulesFor(service('web')), [])
  put(store, 'p', [{ kind: 'Service', name: 'web' }])
  t.not(store.version, before)
  t.equal(store.rulesFor(service('web')).length, 1)
  put(store, 'p', [{ kind: 'Service', name: 'api' }])
  t.equal(store.rulesFor(service('web')).length, 0, 'the new one instead of the old one')
  const { version } = store
  store.remove('shop/unknown')
  t.equal(store.version, version)
  store.remove('shop/p')
  t.strictSame([store.rulesFor(service('api')), [...store.all()]], [[], []])
})
