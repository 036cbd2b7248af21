/** Several limits for one request, and what stays used when a policy changes. */
import t from 'tap'
import type { Ip } from '../../../shared/net/address.ts'
import { parseYaml } from '../../../shared/kube/yaml.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'
import { count, type Count } from '../../../waypoint/rate-limit/count.ts'
import { RateLimitStore } from '../../../waypoint/rate-limit/rate-limit-store.ts'
import { readRateLimitPolicy } from '../../../waypoint/rate-limit/read-rate-limit-policy.ts'

const web = { namespace: 'shop', name: 'web', hostname: 'web.shop.svc.cluster.local' }
const clientIp = '10.0.0.7' as Ip

function storeWith(policies: Readonly<Record<string, string>>): RateLimitStore {
  const store = new RateLimitStore({ namespace: 'shop', name: 'waypoint', clusterDomain: 'cluster.local' })
  for (const [name, spec] of Object.entries(policies)) put(store, name, spec)
  return store
}

function put(store: RateLimitStore, name: string, spec: string): void {
  const targets = `targetRefs: [{group: '', kind: Service, name: web}]`
  const value = parseYaml(`${targets}\n${spec}`) as Readonly<Record<string, unknown>>
  const resource = { namespace: 'shop', name, createdMs: 0, spec: value }
  store.replace(`shop/${name}`, readRateLimitPolicy(resource, 'istio-system'))
}

function ask(store: RateLimitStore, path: string, now = 0): Count {
  const http = { method: 'GET', path, authority: 'web', headers: new HeaderList() }
  const request = { peer: undefined, clientIp, destination: { port: 80 }, service: web.hostname, http }
  return count(store.limitsFor(web), request, now)
}

t.test('a request that one limit refuses uses up none of the others', async t => {
  const store = storeWith({
    all: 'limits: [{name: all, requests: 3, per: 1h}]',
    some: 'limits: [{name: some, requests: 1, per: 1h, match: {paths: [/some]}}]'
  })
  t.equal(ask(store, '/some').refusedBy, undefined)
  for (let time = 0; time < 5; time++) t.equal(ask(store, '/some').refusedBy?.limit.name, 'some')
  t.equal(ask(store, '/').refusedBy, undefined)
  t.equal(ask(store, '/').refusedBy, undefined)
  t.equal(ask(store, '/').refusedBy?.limit.name, 'all', 'three in all, the refused ones not among them')
})

t.test('what is least is told; policies that do not tell, and those in shadow, are not among it', async t => {
  const store = storeWith({
    silent: 'limits: [{name: silent, requests: 2, per: 1h}]',
    shadow: 'headers: true\nshadow: true\nlimits: [{name: shadow, requests: 1, per: 1h}]',
    told: 'headers: true\nlimits: [{name: wide, requests: 9, per: 1h}, {name: narrow, requests: 5, per: 1h}]'
  })
  const first = ask(store, '/')
  t.match(first.told, { limit: { name: 'narrow' }, level: { remaining: 4 } })
  t.strictSame(first.overInShadow, [])
  const second = ask(store, '/')
  t.equal(second.refusedBy, undefined)
  t.match(second.overInShadow, [{ limit: { name: 'shadow' } }])
  t.equal(ask(store, '/').refusedBy?.limit.name, 'silent')
})

t.test('a policy that is sent again forgets nothing; one with another rate begins anew', async t => {
  const store = storeWith({ few: 'limits: [{requests: 1, per: 1h}]' })
  t.equal(ask(store, '/').refusedBy, undefined)
  put(store, 'few', 'headers: true\nlimits: [{requests: 1, per: 1h}]')
  t.equal(ask(store, '/').refusedBy?.policy.headers, true, 'the new policy, and what was used of the old one')
  put(store, 'few', 'limits: [{requests: 1, per: 2h}]')
  t.equal(ask(store, '/').refusedBy, undefined)
  put(store, 'few', 'limits: [{requests: 1, per: 2h, key: [{type: Path}]}]')
  t.equal(ask(store, '/').refusedBy, undefined)
  store.remove('shop/few')
  for (let time = 0; time < 3; time++) t.equal(ask(store, '/').refusedBy, undefined)
})

t.test('a policy for another service says nothing here', async t => {
  const store = storeWith({ few: 'limits: [{requests: 1, per: 1h}]' })
  t.equal(store.limitsFor(undefined).length, 0)
  t.equal(store.limitsFor({ ...web, name: 'api' }).length, 0)
  t.equal(store.limitsFor(web).length, 1)
})
