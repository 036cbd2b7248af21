/** Tokens of service accounts over time. */
import t from 'tap'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import { startStore } from './api-store-start.ts'

const accounts: ResourceType = {
  group: '',
  version: 'v1',
  plural: 'serviceaccounts',
  kind: 'ServiceAccount',
  namespaced: true
}

t.test('a token opens the API until it expires, or its account goes', async t => {
  let now = Date.now()
  const { api, store } = await startStore(t, { clock: { now: () => now } })
  const token = store.issueToken('default', 'default', { expirationSeconds: 600 })
  const status = async (of: string): Promise<number> =>
    (await api.get('/api/v1/namespaces/default', { token: of })).status
  t.equal(await status(token), 200)
  now += 599_000
  t.equal(await status(token), 200)
  now += 2000
  t.equal(await status(token), 401)

  const account: KubeObject = {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'web', namespace: 'default' }
  }
  store.objects.create(accounts, account)
  const own = store.issueToken('default', 'web', { expirationSeconds: 3600 })
  t.equal(await status(own), 200)
  store.objects.delete(accounts, account.metadata)
  t.equal(await status(own), 401)
  store.objects.create(accounts, account)
  t.equal(await status(own), 401, 'another account of the same name is another account')
})

t.test('a token for others does not open the API', async t => {
  const { api, store } = await startStore(t)
  const token = store.issueToken('default', 'default', { audiences: ['istio-ca'] })
  t.equal((await api.get('/api/v1/namespaces/default', { token })).status, 401)
})

t.test('a token of another store is worth nothing', async t => {
  const [one, two] = [await startStore(t), await startStore(t)]
  const token = one.store.issueToken('default', 'default')
  t.equal((await two.api.get('/api/v1/namespaces/default', { token })).status, 401)
})

t.test('the keys are published for those who verify tokens themselves', async t => {
  const { api, store } = await startStore(t)
  const { body } = await api.get('/.well-known/openid-configuration')
  t.match(body, { issuer: 'https://kubernetes.default.svc.cluster.local', jwks_uri: /\/openid\/v1\/jwks$/ })
  t.same((await api.get('/openid/v1/jwks')).body, JSON.parse(store.jwks()))
})
