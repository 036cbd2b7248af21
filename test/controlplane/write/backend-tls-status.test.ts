import t from 'tap'
import type { BackendTlsPolicy } from '../../../shared/kube/gateway-api.ts'
import { configMap, edge, policy, web } from '../backend-tls-world.ts'
import { StatusWorld } from './status-world.ts'

const id = 'BackendTLSPolicy shop/tls'

/** What the watch brings after the status was written. */
async function settle(world: StatusWorld): Promise<NonNullable<BackendTlsPolicy['status']>['ancestors']> {
  await world.conditions(id)
  const found: BackendTlsPolicy | undefined = world.kube.objects.get(id)
  if (found !== undefined) world.seen(found)
  world.refresh()
  await world.conditions(id)
  return found?.status?.ancestors
}

const policyWrites = (world: StatusWorld): unknown =>
  world.kube.writes.filter(write => write.includes('BackendTLSPolicy'))

t.test('a policy says what became of it, once, and again when what it depends on changes', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(edge + configMap('ca') + policy('tls', web, { generation: 3 }))
  t.strictSame(await settle(world), [
    {
      ancestorRef: { group: 'gateway.networking.k8s.io', kind: 'Gateway', namespace: 'shop', name: 'edge' },
      controllerName: 'underpass.dev/gateway-controller',
      conditions: [
        ['Accepted', 'Accepted', 'the policy applies to what is reached through it'],
        ['ResolvedRefs', 'ResolvedRefs', 'all certificate authorities were found']
      ].map(([type, reason, message]) => ({
        type,
        status: 'True',
        reason,
        message,
        observedGeneration: 3,
        lastTransitionTime: '2026-01-01T00:00:00Z'
      }))
    }
  ])
  t.strictSame(policyWrites(world), [`patch ${id}/status`], 'what is right is not written again')
  world.desired.delete('ConfigMap', 'shop/ca')
  world.refresh()
  t.match(await settle(world), [
    { conditions: [{ reason: 'NoValidCACertificate' }, { reason: 'InvalidCACertificateRef' }] }
  ])
  world.apply(configMap('ca') + policy('older', web, { year: 2019 }))
  t.match(await settle(world), [{ conditions: [{ reason: 'Conflicted' }, { reason: 'ResolvedRefs' }] }])
  world.desired.delete('BackendTLSPolicy', 'shop/older')
  world.refresh()
  t.match(await settle(world), [{ conditions: [{ status: 'True' }, { status: 'True' }] }])
  world.desired.delete('HTTPRoute', 'shop/r')
  world.refresh()
  t.strictSame(await settle(world), [], 'nothing leads to the service any more')
})

t.test('entries of others stay, and the 16 that an API server keeps are not exceeded', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  const other = (name: string): object => ({
    ancestorRef: { name },
    controllerName: 'other/controller',
    conditions: []
  })
  const others = Array.from({ length: 16 }, (_, at) => other(`g${at}`))
  const status = (entries: readonly object[]): string => `status: ${JSON.stringify({ ancestors: entries })}`
  world.apply(edge + configMap('ca') + policy('tls', web, { status: status(others.slice(0, 1)) }))
  t.match(await settle(world), [
    { ancestorRef: { name: 'g0' }, controllerName: 'other/controller' },
    { controllerName: 'underpass.dev/gateway-controller' }
  ])
  const full = new StatusWorld(t)
  full.writer.lead(true)
  full.apply(edge + configMap('ca') + policy('tls', web, { status: status(others) }))
  t.equal((await settle(full))?.length, 16)
  t.strictSame(policyWrites(full), [])
})

t.test('a policy that nothing of ours uses is left alone', async t => {
  const world = new StatusWorld(t)
  world.writer.lead(true)
  world.apply(edge.replace('underpass', 'another') + configMap('ca') + policy('tls', web))
  t.equal(await settle(world), undefined)
  t.strictSame(policyWrites(world), [])
})
