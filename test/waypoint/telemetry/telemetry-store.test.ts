/** TM-17: which of several Telemetries counts, field by field. */
import t from 'tap'
import { silent } from '../../../shared/telemetry/logger.ts'
import type { MeshSettings } from '../../../waypoint/mesh-settings.ts'
import { readTelemetry } from '../../../waypoint/telemetry/rules/read-telemetry.ts'
import { TelemetryStore } from '../../../waypoint/telemetry/rules/telemetry-store.ts'
import { readTraceProviders } from '../../../waypoint/telemetry/tracing/trace-providers.ts'

const collector = (name: string): object => ({
  name,
  opentelemetry: { service: `${name}.example`, port: 4317 }
})
const settingsOf = (more: Partial<MeshSettings> = {}): MeshSettings => ({
  ...{ trustDomains: [], pathNormalization: 'BASE', providers: new Map() },
  rateLimitProviders: new Map(),
  ...{
    accessLog: undefined,
    accessLogEncoding: 'TEXT',
    defaultTraceProvider: undefined,
    traceSampling: 0.01
  },
  traceProviders: readTraceProviders([collector('a'), collector('b'), { name: 'old', zipkin: {} }]),
  ...more
})

interface Written {
  readonly name: string
  readonly namespace: string
  readonly createdMs?: number
  readonly spec: Readonly<Record<string, unknown>>
}

function storeOf(
  written: readonly Written[],
  settings: () => MeshSettings = always(settingsOf())
): TelemetryStore {
  const own = { namespace: 'gates', name: 'waypoint', clusterDomain: 'cluster.local' }
  const rootNamespace = 'istio-system'
  const store = new TelemetryStore({ own, rootNamespace, accessLog: 'errors', settings, log: silent })
  for (const { createdMs = 0, ...resource } of written) {
    const context = { rootNamespace, mode: 'SERVER', environment: () => undefined } as const
    store.put(resource.name, readTelemetry({ ...resource, createdMs }, context))
  }
  return store
}

const always =
  <T>(value: T): (() => T) =>
  () =>
    value
const web = { namespace: 'shop', name: 'web', hostname: 'web.shop.svc.cluster.local' }
const tracing = (fields: object): Readonly<Record<string, unknown>> => ({ tracing: [fields] })
const percent = (value: number): object => ({ randomSamplingPercentage: value })
const toWeb = { targetRefs: [{ group: '', kind: 'Service', name: 'web' }] }

t.test('the mesh, the waypoint, the service, then what names it', async t => {
  const root = {
    name: 'root',
    namespace: 'istio-system',
    spec: tracing({ providers: [{ name: 'a' }], ...percent(10) })
  }
  const own = { name: 'own', namespace: 'gates', spec: tracing(percent(20)) }
  const service = { name: 'service', namespace: 'shop', spec: tracing(percent(30)) }
  const target = { name: 'target', namespace: 'shop', spec: { ...toWeb, ...tracing(percent(40)) } }
  const other = { name: 'other', namespace: 'elsewhere', spec: tracing(percent(50)) }
  const sampling = (...written: readonly Written[]): number | undefined =>
    storeOf([...written, other]).rulesFor(web).tracing?.sampling
  t.equal(sampling(root), 0.1)
  t.equal(sampling(own, root), 0.2)
  t.equal(sampling(service, own, root), 0.3)
  t.equal(sampling(target, service, own, root), 0.4)
  t.equal(
    storeOf([target, service, own, root]).rulesFor(undefined).tracing?.sampling,
    0.2,
    'for what is no service'
  )
})

t.test('of equals the oldest counts', async t => {
  const of = (name: string, createdMs: number, value: number): Written => ({
    ...{ name, namespace: 'shop', createdMs },
    spec: tracing({ providers: [{ name: 'a' }], ...percent(value) })
  })
  t.equal(storeOf([of('x', 2, 20), of('y', 1, 10), of('z', 3, 30)]).rulesFor(web).tracing?.sampling, 0.1)
})

t.test('tags of the most special one take the place of all others', async t => {
  const tags = (key: string): object => ({ customTags: { [key]: { literal: { value: 'x' } } } })
  const store = storeOf([
    {
      name: 'root',
      namespace: 'istio-system',
      spec: tracing({ providers: [{ name: 'a' }], ...tags('mesh') })
    },
    { name: 'web', namespace: 'shop', spec: { ...toWeb, ...tracing(tags('web')) } }
  ])
  t.strictSame(store.rulesFor(web).tracing?.customTags, [{ kind: 'literal', key: 'web', value: 'x' }])
})

t.test('without a collector that can be used nothing is traced', async t => {
  const by = (name: string): Written => ({
    name,
    namespace: 'shop',
    spec: tracing({ providers: [{ name }] })
  })
  t.equal(storeOf([by('old')]).rulesFor(web).tracing, undefined)
  t.equal(storeOf([by('gone')]).rulesFor(web).tracing, undefined)
  t.equal(
    storeOf([{ name: 'none', namespace: 'shop', spec: tracing(percent(5)) }]).rulesFor(web).tracing,
    undefined
  )
})

t.test('changes of the mesh configuration, and removal, take effect at once', async t => {
  let settings = settingsOf()
  const store = storeOf(
    [{ name: 'off', namespace: 'shop', spec: { accessLogging: [{ disabled: true }] } }],
    () => settings
  )
  t.match(store.rulesFor(web), { accessLog: 'off', tracing: undefined })
  t.equal(store.rulesFor(web), store.rulesFor(web), 'they are put together once')
  settings = settingsOf({ accessLog: 'all', defaultTraceProvider: 'b', traceSampling: 0.5 })
  t.match(store.rulesFor(web), { accessLog: 'off', tracing: { provider: 'b', sampling: 0.5 } })
  store.remove('off')
  t.equal(store.rulesFor(web).accessLog, 'all')
  settings = settingsOf()
  t.equal(store.rulesFor(web).accessLog, 'errors')
})
