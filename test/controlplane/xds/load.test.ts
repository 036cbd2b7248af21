// node: --expose-gc
/** A large cluster in one process: time and memory are printed, and bounded loosely, because the machine may be busy. */
import t from 'tap'
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { object, settings } from '../world.ts'
import { measureLoad, pod, podCount, service, serviceCount } from './large-cluster.ts'

t.test('10,000 pods and 500 services', async t => {
  const { translated, translatedMs, servedMs, heldMb, first, later, changeMs } = await measureLoad(t, 10)
  t.comment(`translated after ${translatedMs.toFixed(0)} ms, ${heldMb.toFixed(1)} MB held`)
  t.comment(
    `10 clients have everything after ${servedMs.toFixed(0)} ms, one pod's change after ${changeMs.toFixed(1)} ms`
  )
  t.equal(translated, podCount + serviceCount)
  t.ok(translatedMs < 30_000, 'in seconds')
  t.ok(heldMb < 150, `memory is bounded: ${heldMb.toFixed(1)} MB`)
  t.strictSame(first, Array(10).fill(podCount + serviceCount), 'each client has everything')
  t.strictSame(later, Array(10).fill(1), 'one pod’s change sends one resource')
})

t.test('a service of a large namespace touches its own pods only', async t => {
  const desired = new DesiredState(settings)
  desired.outdateAll()
  for (let index = 0; index < 2000; index += 1) {
    const raw = pod(index) as { metadata: { namespace: string } }
    raw.metadata.namespace = 'one'
    desired.put(object(raw))
  }
  desired.refresh()
  const touched: string[] = []
  const raw = service(7) as { metadata: { namespace: string } }
  raw.metadata.namespace = 'one'
  desired.put(object(raw))
  const changes = desired.refresh(unit => void touched.push(unit.kind))
  t.equal(touched.length, 1 + 4, 'the service and the four pods that it selects')
  t.equal(changes.address.changed.size, 1 + 4)
})
