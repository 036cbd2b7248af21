// node: --expose-gc
/** A large cluster in one process: time and memory are printed, and bounded loosely, because the machine may be busy. */
import t from 'tap'
import type { ConfigKind } from '../../../controlplane/cluster/objects.ts'
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
    const { apps, change: changed } = largeNamespace(desired)
    const rule = (app: number, spec: object): unknown =>
      inOne({
        kind: 'DestinationRule',
        metadata: { name: `app-${app}` },
        spec: { host: `app-${app}`, ...spec }
      })
    for (const app of apps) desired.put(object(rule(app, {})))
    desired.refresh()
    const change = (raw: unknown): unknown => changed(raw, 'DestinationRule')
    const connections = { connectionPool: { tcp: { maxConnections: 10 } } }
    const subsets = [{ name: 'v1', labels: { version: 'v1' } }]
    t.strictSame(
      change(rule(7, { trafficPolicy: connections })),
      { touched: 1, configs: 1, addresses: 0 },
      'one rule, one resource'
    )
    t.strictSame(
      change(rule(7, { subsets })),
      { touched: 1 + 4, configs: 1, addresses: 4 },
      'the four pods of its service have their labels from now on'
    )
    t.strictSame(change(rule(7, { subsets, trafficPolicy: connections })), {
      touched: 1,
      configs: 1,
      addresses: 0
    })
    t.strictSame(
      change(inOne(pod(7, false))),
      { touched: 1, configs: 0, addresses: 1 },
      'one pod, one resource'
    )
    t.strictSame(change(rule(7, {})), { touched: 1 + 4, configs: 1, addresses: 4 })
  }
)

t.test(
  'a VirtualService of a large namespace touches itself, and where it leads when it leads elsewhere',
  async t => {
    const desired = new DesiredState(settings)
    desired.outdateAll()
    const virtualService = (app: number, to: number, weight: number): unknown => {
      const shares = [app, to].map(each => ({ destination: { host: `app-${each}` }, weight }))
      return inOne({
        kind: 'VirtualService',
        metadata: { name: `app-${app}` },
        spec: { hosts: [`app-${app}`], http: [{ route: shares }] }
      })
    }
    const { apps, change } = largeNamespace(desired)
    for (const app of apps) desired.put(object(virtualService(app, (app + 1) % serviceCount, 50)))
    const started = performance.now()
    desired.refresh()
    t.comment(`translated in ${(performance.now() - started).toFixed(0)} ms`)
    const of = (raw: unknown): unknown => change(raw, 'VirtualService')
    t.strictSame(of(virtualService(7, 8, 10)), { touched: 1, configs: 1, addresses: 0 }, 'one, one resource')
    t.strictSame(of(inOne(pod(7, false))), { touched: 1, configs: 0, addresses: 1 }, 'one pod, one resource')
    t.strictSame(
      of(virtualService(7, 9, 10)),
      { touched: 1 + 3, configs: 1, addresses: 0 },
      'the services where it leads, now or before; its waypoint knows them all'
    )
  }
)

/** A thing as one of namespace `one`. */
function inOne(raw: unknown, more: object = {}): unknown {
  const { metadata, ...rest } = raw as { readonly metadata: object }
  return { ...rest, metadata: { ...metadata, ...more, namespace: 'one' } }
}

/** 2,000 pods and all services in one namespace, behind its waypoint; `change` counts what a change of it costs. */
function largeNamespace(desired: DesiredState): {
  readonly apps: readonly number[]
  readonly change: (raw: unknown, kind: ConfigKind) => unknown
} {
  const address = { type: 'Hostname', value: 'wp.one' }
  const gateway = { kind: 'Gateway', metadata: { name: 'wp' }, spec: {}, status: { addresses: [address] } }
  desired.put(object(inOne(gateway)))
  const use = { labels: { 'istio.io/use-waypoint': 'wp' } }
  const apps = Array.from({ length: serviceCount }, (_, app) => app)
  for (const app of apps) desired.put(object(inOne(service(app), use)))
  for (let index = 0; index < 2000; index += 1) desired.put(object(inOne(pod(index))))
  return {
    apps,
    change: (raw, kind) => {
      let touched = 0
      desired.put(object(raw))
      const changes = desired.refresh(() => void (touched += 1))
      const { changed } = changes[kind]
      return { touched, configs: changed.size, addresses: changes.address.changed.size }
    }
  }
}
