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

t.test(
  'a rule of a large namespace touches itself, and its own pods when it asks for other labels',
  async t => {
    const desired = new DesiredState(settings)
    desired.outdateAll()
    const inOne = (raw: unknown, more: object = {}): unknown => {
      const { metadata, ...rest } = raw as { readonly metadata: object }
      return { ...rest, metadata: { ...metadata, ...more, namespace: 'one' } }
    }
    const address = { type: 'Hostname', value: 'wp.one' }
    const gateway = { kind: 'Gateway', metadata: { name: 'wp' }, spec: {}, status: { addresses: [address] } }
    desired.put(object(inOne(gateway)))
    const use = { labels: { 'istio.io/use-waypoint': 'wp' } }
    for (let app = 0; app < serviceCount; app += 1) desired.put(object(inOne(service(app), use)))
    for (let index = 0; index < 2000; index += 1) desired.put(object(inOne(pod(index))))
    const rule = (app: number, spec: object): unknown =>
      inOne({
        kind: 'DestinationRule',
        metadata: { name: `app-${app}` },
        spec: { host: `app-${app}`, ...spec }
      })
    for (let app = 0; app < serviceCount; app += 1) desired.put(object(rule(app, {})))
    desired.refresh()
    const change = (raw: unknown): unknown => {
      let touched = 0
      desired.put(object(raw))
      const { DestinationRule, address } = desired.refresh(() => void (touched += 1))
      return { touched, rules: DestinationRule.changed.size, addresses: address.changed.size }
    }
    const connections = { connectionPool: { tcp: { maxConnections: 10 } } }
    const subsets = [{ name: 'v1', labels: { version: 'v1' } }]
    t.strictSame(
      change(rule(7, { trafficPolicy: connections })),
      { touched: 1, rules: 1, addresses: 0 },
      'one rule, one resource'
    )
    t.strictSame(
      change(rule(7, { subsets })),
      { touched: 1 + 4, rules: 1, addresses: 4 },
      'the four pods of its service have their labels from now on'
    )
    t.strictSame(change(rule(7, { subsets, trafficPolicy: connections })), {
      touched: 1,
      rules: 1,
      addresses: 0
    })
    t.strictSame(
      change(inOne(pod(7, false))),
      { touched: 1, rules: 0, addresses: 1 },
      'one pod, one resource'
    )
    t.strictSame(change(rule(7, {})), { touched: 1 + 4, rules: 1, addresses: 4 })
  }
)
