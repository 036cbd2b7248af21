/** Routes at a real API server: that it takes the statuses as they are written, and keeps what others wrote. */
import t from 'tap'
import { startApp } from '../../controlplane/app.ts'
import { readConfig } from '../../controlplane/config.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { namespaces, services } from '../../shared/kube/core-api.ts'
import { customResourceDefinitions, publishedDefinitions } from '../../shared/kube/definitions.ts'
import { gateways, grpcRoutes, httpRoutes, type Route } from '../../shared/kube/gateway-api.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { eventually } from '../support/eventually.ts'
import { needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'

t.setTimeout(180_000)

const parentRefs = [{ group: '', kind: 'Service', name: 'web' }]
const routeOf = (
  kind: string,
  name: string,
  rules: readonly object[]
): KubeObject & { readonly spec: object } => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind,
  metadata: { namespace: 'shop', name },
  spec: { parentRefs, rules }
})

t.test('a real API server takes the statuses of routes', { skip: needsKubeApiserver() }, async t => {
  const api = await startKubeApiserver(t)
  const client = new KubeClient(await loadKubeConfig({ kubeconfig: api.kubeconfig }))
  t.teardown(() => client.close())
  for (const definition of publishedDefinitions()) await client.create(customResourceDefinitions, definition)
  for (const name of ['istio-system', 'shop']) {
    await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  const create = async (type: ResourceType, object: KubeObject): Promise<void> => {
    await eventually(`${object.kind} ${object.metadata.name} is taken`, async () => {
      await client.create(type, object)
      return true
    })
  }
  const web = { apiVersion: 'v1', kind: 'Service', spec: { ports: [{ port: 80 }] } }
  await create(services, {
    ...web,
    metadata: { namespace: 'shop', name: 'web', labels: { 'istio.io/use-waypoint': 'wp' } }
  })
  // With an address in its spec, an operator runs it; so nothing here has to.
  await create(gateways, {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { namespace: 'shop', name: 'wp' },
    spec: {
      gatewayClassName: 'underpass-waypoint',
      addresses: [{ type: 'Hostname', value: 'wp.shop.svc.cluster.local' }],
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }]
    }
  } as KubeObject)
  const status = { addresses: [{ type: 'Hostname', value: 'wp.shop.svc.cluster.local' }] }
  await client.patch(
    gateways,
    { namespace: 'shop', name: 'wp' },
    { status },
    { kind: 'merge', subresource: 'status' }
  )
  await create(httpRoutes, routeOf('HTTPRoute', 'good', [{ backendRefs: [{ name: 'web', port: 80 }] }]))
  const gone = Array.from({ length: 16 }, (_, index) => ({ name: `gone-${index}`, port: 80 }))
  const rules = Array.from({ length: 16 }, () => ({ backendRefs: gone }))
  await create(httpRoutes, routeOf('HTTPRoute', 'bad', [...rules.slice(1), { filters: [extension] }]))
  await create(grpcRoutes, routeOf('GRPCRoute', 'good', []))
  const foreign = { parentRef: parentRefs[0], controllerName: 'example.com/mesh', conditions: [theirs] }
  await client.patch(
    httpRoutes,
    { namespace: 'shop', name: 'good' },
    { status: { parents: [foreign] } },
    { kind: 'merge', subresource: 'status' }
  )

  const lines: string[] = []
  const { config } = readConfig({
    UNDERPASS_LISTEN: '127.0.0.1',
    UNDERPASS_XDS_PORT: '0',
    UNDERPASS_MONITORING_PORT: '0',
    UNDERPASS_READY_PORT: '0',
    UNDERPASS_WEBHOOK_PORT: '0',
    TERMINATION_DRAIN_DURATION: '100ms'
  })
  const logs = new LogOutput({ ...config.log, sink: { write: line => void lines.push(line) } })
  const app = await startApp({ config, client, logs })
  t.teardown(async () => app.close())

  const said = async (type: ResourceType<Route>, name: string): Promise<readonly string[]> => {
    const route = await client.find(type, { namespace: 'shop', name })
    return (route?.status?.parents ?? []).flatMap(({ controllerName, conditions = [] }) => [
      controllerName,
      ...conditions.map(({ type, status, reason, observedGeneration }) =>
        [type, status, reason, observedGeneration].join(' ')
      )
    ])
  }
  const wanted: readonly [ResourceType<Route>, string, readonly string[]][] = [
    [
      httpRoutes,
      'good',
      ['example.com/mesh', 'Accepted True Fine 7', ours, 'Accepted True Accepted 1', resolved, waypoint]
    ],
    [
      httpRoutes,
      'bad',
      [
        ours,
        'Accepted True Accepted 1',
        'PartiallyInvalid True UnsupportedValue 1',
        'ResolvedRefs False BackendNotFound 1',
        waypoint
      ]
    ],
    [grpcRoutes, 'good', [ours, 'Accepted True Accepted 1', resolved, waypoint]]
  ]
  for (const [type, name, texts] of wanted) {
    await eventually(`${type.kind} ${name} says so`, async () => (await said(type, name)).includes(waypoint))
    t.strictSame(await said(type, name), texts, `${type.kind} ${name}`)
  }
  const versions = async (): Promise<unknown> =>
    Promise.all(
      wanted.map(async ([type, name]) => (await client.find(type, { namespace: 'shop', name }))?.metadata)
    )
  const before = await versions()
  await client.patch(
    services,
    { namespace: 'shop', name: 'web' },
    { metadata: { labels: { any: 'thing' } } },
    { kind: 'merge' }
  )
  await eventually(
    'the change is seen',
    () => app.desired.view.get('Service', 'shop/web')?.meta.labels['any'] === 'thing'
  )
  t.strictSame(await versions(), before, 'what is right is not written again')
  t.notMatch(lines.join(''), /status failed/, 'no write is refused')
})

const theirs = {
  type: 'Accepted',
  status: 'True',
  reason: 'Fine',
  message: '',
  lastTransitionTime: '2026-01-01T00:00:00Z',
  observedGeneration: 7
}
const ours = 'underpass.dev/waypoint-controller'
const resolved = 'ResolvedRefs True ResolvedRefs 1'
const waypoint = 'ResolvedWaypoints True ResolvedWaypoints 1'
const extension = { type: 'ExtensionRef', extensionRef: { group: 'g', kind: 'k', name: 'n' } }
