/** Gateways at the lab's API store: what is made for them, what their status says, and that it follows. */
import t, { type Test } from 'tap'
import { deployments, type Deployment } from '../../shared/kube/apps-api.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import { gatewayClasses, gateways, httpRoutes, type Gateway } from '../../shared/kube/gateway-api.ts'
import type { Condition } from '../../shared/kube/object.ts'
import { eventually } from '../support/eventually.ts'
import { keyPair } from './gateway-world.ts'
import { storeWorld } from './store-world.ts'

t.setTimeout(120_000)

interface World {
  readonly client: KubeClient
  readonly gateway: (name: string) => Promise<Seen>
}

interface Seen {
  readonly raw: Gateway
  readonly conditions: Readonly<Record<string, string>>
  readonly listeners: readonly {
    readonly name: string
    readonly attachedRoutes: number
    readonly conditions: readonly Condition[]
  }[]
}

async function world(t: Test, env: Record<string, string> = {}): Promise<World> {
  const { client, start } = await storeWorld(t)
  const { ready } = await start({ UNDERPASS_WAYPOINT_IMAGE: 'registry/underpass:1', ...env })
  await ready
  const gateway = async (name: string): Promise<Seen> => {
    const raw = await client.get(gateways, { namespace: 'shop', name })
    const conditions = (raw.status?.conditions ?? []).map(
      ({ type, status, reason, observedGeneration }) =>
        [
          type,
          `${status} ${reason} ${observedGeneration === raw.metadata.generation ? 'now' : 'before'}`
        ] as const
    )
    const listeners = (raw.status?.listeners ?? []) as Seen['listeners']
    return { raw, conditions: Object.fromEntries(conditions), listeners }
  }
  return { client, gateway }
}

const http = { name: 'http', port: 80, protocol: 'HTTP', allowedRoutes: { namespaces: { from: 'Same' } } }

function newGateway(name: string, listeners: readonly object[], metadata: object = {}): Gateway {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { namespace: 'shop', name, ...metadata },
    spec: { gatewayClassName: 'underpass', listeners: listeners as [] }
  }
}

const shop = (name: string): { namespace: string; name: string } => ({ namespace: 'shop', name })

/** What a cluster's controllers do. */
async function becomesAvailable(client: KubeClient, name: string): Promise<void> {
  const status: Deployment['status'] = {
    conditions: [{ type: 'Available', status: 'True', reason: 'MinimumReplicasAvailable', message: '' }]
  }
  await client.patch(deployments, shop(name), { status }, { kind: 'merge', subresource: 'status' })
}

t.test('a gateway from its Gateway to its address', async t => {
  const { client, gateway } = await world(t)
  await client.create(gateways, newGateway('edge', [http]))
  await eventually(
    'its objects are there',
    async () => (await client.find(deployments, shop('edge-underpass'))) !== undefined
  )
  t.match((await client.get(coreApi.services, shop('edge-underpass'))).spec, {
    type: 'LoadBalancer',
    ports: [{ port: 15021 }, { port: 80 }]
  })
  t.ok(await client.find(coreApi.serviceAccounts, shop('edge-underpass')))
  await eventually(
    'it is accepted, and waits',
    async () =>
      (await gateway('edge')).conditions['Programmed']?.startsWith('False AddressNotAssigned') === true
  )
  t.equal((await gateway('edge')).conditions['Accepted'], 'True Accepted now')

  await becomesAvailable(client, 'edge-underpass')
  const balanced = { status: { loadBalancer: { ingress: [{ ip: '192.0.2.9' }] } } }
  await client.patch(coreApi.services, shop('edge-underpass'), balanced, {
    kind: 'merge',
    subresource: 'status'
  })
  await eventually(
    'it has the address of its load balancer',
    async () => (await gateway('edge')).conditions['Programmed']?.startsWith('True') === true
  )
  const { raw, listeners } = await gateway('edge')
  t.strictSame(raw.status?.addresses, [{ type: 'IPAddress', value: '192.0.2.9' }])
  t.match(listeners, [
    { name: 'http', attachedRoutes: 0, supportedKinds: [{ kind: 'HTTPRoute' }, { kind: 'GRPCRoute' }] }
  ])

  await client.create(httpRoutes, {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: shop('web'),
    spec: { parentRefs: [{ name: 'edge' }], rules: [{ backendRefs: [{ name: 'web', port: 80 }] }] }
  })
  await eventually('a route counts', async () => (await gateway('edge')).listeners[0]?.attachedRoutes === 1)
  await eventually('and is told so', async () => {
    const { status } = await client.get(httpRoutes, shop('web'))
    return (
      status?.parents?.[0]?.conditions?.some(
        ({ type, status }) => type === 'Accepted' && status === 'True'
      ) === true
    )
  })
  const route = await client.get(httpRoutes, shop('web'))
  t.match(route.status?.parents, [{ controllerName: 'underpass.dev/gateway-controller' }])

  const secret = { name: 'pair' }
  const https = { name: 'https', port: 443, protocol: 'HTTPS', tls: { certificateRefs: [secret] } }
  await client.patch(gateways, shop('edge'), { spec: { listeners: [http, https] } }, { kind: 'merge' })
  await eventually('a new listener opens a port', async () => {
    const ports = (await client.get(coreApi.services, shop('edge-underpass'))).spec?.ports ?? []
    return ports.map(({ port }) => port).join() === '15021,80,443'
  })
  const resolved = async (): Promise<string | undefined> =>
    (await gateway('edge')).listeners[1]?.conditions.find(({ type }) => type === 'ResolvedRefs')?.reason
  await eventually('its certificate is missed', async () => (await resolved()) === 'InvalidCertificateRef')
  const { certificate, key } = keyPair()
  await client.create(coreApi.secrets, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace: 'shop', ...secret },
    type: 'kubernetes.io/tls',
    stringData: { 'tls.crt': certificate, 'tls.key': key }
  })
  await eventually('until it comes', async () => (await resolved()) === 'ResolvedRefs')
  await eventually('all is of the present generation', async () =>
    Object.values((await gateway('edge')).conditions).every(said => said.endsWith('now'))
  )
  await client.delete(coreApi.services, shop('edge-underpass'))
  await eventually(
    'a Service that somebody takes away is there again',
    async () => (await client.find(coreApi.services, shop('edge-underpass'))) !== undefined
  )
  await client.patch(gateways, shop('edge'), { spec: { listeners: [https] } }, { kind: 'merge' })
  await eventually('a listener that is gone closes its port', async () => {
    const ports = (await client.get(coreApi.services, shop('edge-underpass'))).spec?.ports ?? []
    return ports.map(({ port }) => port).join() === '15021,443'
  })
})

t.test('a Gateway that is not taken gets nothing but words', async t => {
  const { client, gateway } = await world(t)
  await client.create(gateways, newGateway('odd', [{ name: 'odd', port: 1111, protocol: 'ODD' }]))
  await eventually(
    'it is told',
    async () => (await gateway('odd')).conditions['Accepted'] === 'False ListenersNotValid now'
  )
  t.equal(await client.find(deployments, shop('odd-underpass')), undefined)
  await client.create(deployments, {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: shop('taken-underpass'),
    spec: {
      selector: { matchLabels: { app: 'x' } },
      template: { metadata: { labels: { app: 'x' } }, spec: { containers: [{ name: 'x', image: 'x' }] } }
    }
  })
  await client.create(gateways, newGateway('taken', [http]))
  await eventually(
    'whose name is taken, too',
    async () => (await gateway('taken')).conditions['Programmed']?.startsWith('False Invalid') === true
  )
  const { spec } = await client.get(deployments, shop('taken-underpass'))
  t.match(spec?.template?.spec?.containers, [{ image: 'x' }], 'what somebody else made is left alone')
})

t.test('a Gateway without a load balancer is for the cluster', async t => {
  const { client, gateway } = await world(t)
  const metadata = { annotations: { 'networking.istio.io/service-type': 'ClusterIP' } }
  await client.create(gateways, newGateway('inner', [http], metadata))
  await eventually(
    'its objects are there',
    async () => (await client.find(deployments, shop('inner-underpass'))) !== undefined
  )
  await becomesAvailable(client, 'inner-underpass')
  await eventually(
    'it is programmed',
    async () => (await gateway('inner')).conditions['Programmed']?.startsWith('True') === true
  )
  const service = await client.get(coreApi.services, shop('inner-underpass'))
  t.strictSame((await gateway('inner')).raw.status?.addresses, [
    { type: 'IPAddress', value: service.spec?.clusterIP }
  ])
})

t.test('classes of ours are made, and say that they are taken, whatever their name', async t => {
  const { client } = await world(t)
  const accepted = async (name: string): Promise<boolean> => {
    const found = await client.find(gatewayClasses, { name })
    return (
      found?.status?.conditions?.some(
        ({ type, status, observedGeneration }) =>
          type === 'Accepted' && status === 'True' && observedGeneration === found.metadata.generation
      ) === true
    )
  }
  for (const name of ['underpass', 'underpass-waypoint']) {
    await eventually(`class ${name}`, async () => accepted(name))
  }
  const { status } = (await client.get(gatewayClasses, { name: 'underpass' })) as {
    status?: { supportedFeatures?: readonly { readonly name: string }[] }
  }
  const features = status?.supportedFeatures?.map(({ name }) => name) ?? []
  t.ok(features.includes('HTTPRoute'))
  t.strictSame(features, features.toSorted())
  const made = (name: string, controllerName: string): object => ({
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'GatewayClass',
    metadata: { name },
    spec: { controllerName }
  })
  await client.create(gatewayClasses, made('theirs', 'example.com/controller') as never)
  await client.create(gatewayClasses, made('custom', 'underpass.dev/gateway-controller') as never)
  await eventually('class custom', async () => accepted('custom'))
  await client.patch(gatewayClasses, { name: 'custom' }, { spec: { description: 'new' } }, { kind: 'merge' })
  await eventually('of its new generation', async () => accepted('custom'))
  t.notOk(await accepted('theirs'))
})

t.test('without gateways a Gateway is nobody’s, and Secrets are not looked at', async t => {
  const { client, gateway } = await world(t, { UNDERPASS_GATEWAYS: 'false' })
  await client.create(gateways, newGateway('edge', [http]))
  await client.create(gateways, {
    ...newGateway('wp', [{ name: 'mesh', port: 15008, protocol: 'HBONE' }]),
    spec: {
      gatewayClassName: 'underpass-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }]
    }
  })
  await eventually(
    'waypoints are run',
    async () => (await client.find(deployments, shop('wp'))) !== undefined
  )
  t.equal(await client.find(deployments, shop('edge-underpass')), undefined)
  t.notMatch((await gateway('edge')).conditions['Accepted'], /True|False/)
})
