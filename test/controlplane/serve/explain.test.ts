import t from 'tap'
import type { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { explainDesired } from '../../../controlplane/serve/explain.ts'
import { Snapshot, type Translated } from '../../../controlplane/desired/snapshot.ts'
import type { ExplainAnswer } from '../../../shared/mesh/explain-endpoint.ts'

const pod = (name: string, address: number, policies: readonly string[] = []): Translated => ({
  kind: 'workload',
  message: {
    uid: `Kubernetes//Pod/shop/${name}`,
    name,
    namespace: 'shop',
    addresses: [Buffer.from([10, 0, 0, address])],
    serviceAccount: name,
    trustDomain: 'cluster.local',
    tunnelProtocol: 1,
    node: 'node-1',
    authorizationPolicies: policies
  } as never
})

const denyWeb: Translated = {
  kind: 'authorization',
  message: {
    name: 'deny-web',
    namespace: 'shop',
    scope: 2,
    action: 1,
    rules: [{ clauses: [{ matches: [{ principals: [{ exact: 'cluster.local/ns/shop/sa/web' }] }] }] }]
  } as never
}

t.test('the desired state is asked as the agents hold it, and followed as it changes', async t => {
  const snapshot = new Snapshot()
  const explain = explainDesired()
  const ask = (body: unknown = { from: 'web', to: 'pod/cart:80', namespace: 'shop' }): ExplainAnswer =>
    explain({ snapshot } as unknown as DesiredState, body) as ExplainAnswer
  t.match(ask(), { state: 'desired', result: { kind: 'unknown', what: 'from' } })
  snapshot.replace(new Map([['pods', [pod('web', 1), pod('cart', 2)]]]))
  t.match(ask(), { apiVersion: 'underpass.dev/v1', result: { outcome: 'allowed' } })
  snapshot.replace(
    new Map([
      ['pods', [pod('web', 1), pod('cart', 2, ['shop/deny-web'])]],
      ['policy', [denyWeb]]
    ])
  )
  t.match(ask(), {
    result: { outcome: 'refused', legs: [{ arrivals: [{ verdict: { policy: 'shop/deny-web' } }] }] }
  })
  snapshot.replace(new Map<string, readonly Translated[]>([['policy', []]]))
  t.match(ask(), { result: { outcome: 'allowed' } })
  snapshot.replace(new Map([['pods', [pod('web', 1)]]]))
  t.match(ask(), { result: { kind: 'unknown', what: 'to' } })
  t.throws(() => ask({ from: 'web' }), { name: 'HttpProblem', status: 400, message: /^to: / })
})
