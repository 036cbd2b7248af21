/** What controllers in the same process see. */
import t from 'tap'
import { parseCidr } from '../../shared/net/address.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import type { ObjectAccess } from '../../lab/api-store/object-access.ts'
import { startStore } from './api-store-start.ts'

interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>
}
interface Pod extends KubeObject {
  readonly spec: {
    readonly containers: readonly object[]
    readonly nodeName?: string
    readonly volumes?: readonly { readonly name: string }[]
  }
  readonly status?: { readonly phase?: string }
}
interface Service extends KubeObject {
  readonly spec: {
    readonly clusterIP?: string
    readonly ports?: readonly { readonly nodePort?: number; readonly port: number }[]
    readonly type?: string
  }
}

const type = <T extends KubeObject>(
  group: string,
  plural: string,
  kind: string,
  namespaced = true
): ResourceType<T> => ({ group, version: 'v1', plural, kind, namespaced })
const configMaps = type<ConfigMap>('', 'configmaps', 'ConfigMap')
const pods = type<Pod>('', 'pods', 'Pod')
const services = type<Service>('', 'services', 'Service')
const namespaces = type('', 'namespaces', 'Namespace', false)
const deployments = type('apps', 'deployments', 'Deployment')
const replicaSets = type('apps', 'replicasets', 'ReplicaSet')

const map = (name: string, metadata: object = {}, data: Record<string, string> = {}): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default', ...metadata },
  data
})
const pod = (name: string, spec: object = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  spec: { containers: [{ name: 'c', image: 'i' }], ...spec }
})
const service = (name: string, spec: object): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { ports: [{ port: 80 }], ...spec }
})

/** Resolves once everything that writes set off has run. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise(resolve => setImmediate(resolve))
}

t.test('what one call writes the next one reads', async t => {
  const { objects } = (await startStore(t, { listeners: [] })).store
  const made = objects.create(configMaps, map('a', {}, { x: '1' }))
  t.match(made.metadata, { uid: String, resourceVersion: String, namespace: 'default' })
  t.strictSame(objects.get(configMaps, made.metadata), made)
  const edited = objects.edit(configMaps, made.metadata, current => ({ ...current, data: { x: '2' } }))
  t.strictSame(edited?.data, { x: '2' })
  t.equal(
    objects.edit(configMaps, { namespace: 'default', name: 'none' }, current => current),
    undefined
  )
  t.throws(() => objects.update(configMaps, made), { code: 409 })
  t.throws(() => objects.create(configMaps, map('a')), { code: 409, message: /already exists/ })
  t.throws(() => objects.create(configMaps, map('Wrong')), { code: 422 })
  t.throws(() => objects.create(configMaps, { ...map('b'), typo: 1 } as ConfigMap), {
    message: /unknown field "typo"/
  })
  t.strictSame(objects.list(configMaps, { namespace: 'default', fieldSelector: 'metadata.name=a' }).length, 1)
  t.equal(objects.delete(configMaps, made.metadata), true)
  t.equal(objects.delete(configMaps, made.metadata), false)
  t.throws(() => objects.get(type('x.example', 'xs', 'X'), made.metadata), { code: 404 })
})

t.test('objects cannot be changed in place', async t => {
  const { objects } = (await startStore(t, { listeners: [] })).store
  const made = objects.create(configMaps, map('a', {}, { x: '1' }))
  t.throws(() => Object.assign(made.data ?? {}, { x: '2' }), TypeError)
})

t.test('a watch gives what is there, then every change in order, never inside a write', async t => {
  const { objects } = (await startStore(t, { listeners: [] })).store
  objects.create(configMaps, map('a', { labels: { on: 'yes' } }))
  objects.create(configMaps, map('off'))
  const seen: string[] = []
  let writing = false
  const stop = objects.watch(configMaps, { labelSelector: 'on=yes' }, ({ type, object, previous }) => {
    t.notOk(writing, 'not inside a write')
    seen.push(`${type} ${object.metadata.name} ${previous?.data?.['x'] ?? '-'}>${object.data?.['x'] ?? '-'}`)
  })
  writing = true
  objects.create(configMaps, map('b', { labels: { on: 'yes' } }, { x: '1' }))
  objects.edit(configMaps, { namespace: 'default', name: 'b' }, current => ({ ...current, data: { x: '2' } }))
  objects.edit(configMaps, { namespace: 'default', name: 'a' }, current => ({
    ...current,
    metadata: { ...current.metadata, labels: {} }
  }))
  objects.delete(configMaps, { namespace: 'default', name: 'b' })
  writing = false
  await settled()
  stop()
  objects.create(configMaps, map('late', { labels: { on: 'yes' } }))
  await settled()
  t.strictSame(seen, ['added a ->-', 'added b ->1', 'modified b 1>2', 'deleted a ->-', 'deleted b 2>2'])
})

t.test('a listener may write; what it causes comes after', async t => {
  const { objects } = (await startStore(t, { listeners: [] })).store
  const seen: string[] = []
  const abort = new AbortController()
  objects.watch(
    configMaps,
    { namespace: 'default' },
    ({ type, object }) => {
      seen.push(`${type} ${object.metadata.name}`)
      if (object.metadata.name === 'first') objects.create(configMaps, map('second'))
    },
    abort.signal
  )
  objects.create(configMaps, map('first'))
  await settled()
  t.strictSame(seen, ['added first', 'added second'])
  abort.abort()
  objects.create(configMaps, map('third'))
  await settled()
  t.equal(seen.length, 2)
})

t.test('apply merges and records the manager', async t => {
  const { objects } = (await startStore(t, { listeners: [] })).store
  objects.apply(configMaps, map('a', {}, { x: '1' }), { fieldManager: 'one' })
  const both = objects.apply(configMaps, map('a', {}, { y: '2' }), { fieldManager: 'two' })
  t.strictSame(both.data, { x: '1', y: '2' })
})

t.test('a pod is created with its status, placed, and ended as the kubelet does', async t => {
  const { objects } = (await startStore(t, { listeners: [] })).store
  const made = objects.create(pods, pod('p'))
  t.match(made, {
    status: { phase: 'Pending' },
    spec: { serviceAccountName: 'default', volumes: [{ name: /^kube-api-access-/ }] }
  })
  objects.edit(pods, made.metadata, current => ({ ...current, spec: { ...current.spec, nodeName: 'n1' } }))
  const running = objects.edit(
    pods,
    made.metadata,
    current => ({ ...current, status: { phase: 'Running' } }),
    { subresource: 'status' }
  )
  t.equal(running?.status?.phase, 'Running')
  objects.delete(pods, made.metadata)
  t.match(objects.get(pods, made.metadata)?.metadata, { deletionTimestamp: String })
  objects.edit(pods, made.metadata, current => ({ ...current, status: { phase: 'Failed' } }), {
    subresource: 'status'
  })
  t.ok(objects.get(pods, made.metadata), 'still there until the kubelet says so')
  objects.delete(pods, made.metadata, { gracePeriodSeconds: 0 })
  t.equal(objects.get(pods, made.metadata), undefined)
})

t.test('Services get addresses and node ports that are free, and give them back', async t => {
  const serviceCidr = parseCidr('10.97.0.0/28')
  if (serviceCidr === undefined) throw new Error('not a CIDR')
  const { objects } = (await startStore(t, { listeners: [], serviceCidr })).store
  t.equal(objects.get(services, { namespace: 'default', name: 'kubernetes' })?.spec.clusterIP, '10.97.0.1')
  const used = new Set<string | undefined>()
  for (let number = 0; number < 13; number += 1)
    used.add(objects.create(services, service(`s${number}`, {})).spec.clusterIP)
  t.equal(used.size, 13)
  t.throws(() => objects.create(services, service('full', {})), {
    message: /no free address is left in the service range 10\.97\.0\.0\/28/
  })
  objects.delete(services, { namespace: 'default', name: 's3' })
  t.ok(used.has(objects.create(services, service('again', {})).spec.clusterIP))
  objects.edit(services, { namespace: 'default', name: 's1' }, current => ({
    ...current,
    spec: { ...current.spec, type: 'NodePort' }
  }))
  const [first] = objects.get(services, { namespace: 'default', name: 's1' })?.spec.ports ?? []
  t.equal(first?.nodePort, 30000)
  objects.edit(services, { namespace: 'default', name: 's2' }, current => ({
    ...current,
    spec: { ...current.spec, type: 'LoadBalancer' }
  }))
  t.equal(objects.get(services, { namespace: 'default', name: 's2' })?.spec.ports?.[0]?.nodePort, 30001)
})

t.test('dependents go with their owner', async t => {
  const family = async (objects: ObjectAccess, name: string): Promise<KubeObject> => {
    const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i' }] } }
    const spec = { selector: { matchLabels: { a: 'b' } }, template }
    const owner = objects.create(deployments, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name, namespace: 'default' },
      spec
    } as KubeObject)
    const reference = (object: KubeObject): object => ({
      ownerReferences: [
        {
          apiVersion: object.apiVersion,
          kind: object.kind,
          name: object.metadata.name,
          uid: object.metadata.uid,
          controller: true,
          blockOwnerDeletion: true
        }
      ]
    })
    const set = objects.create(replicaSets, {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: { name, namespace: 'default', ...reference(owner) },
      spec
    } as KubeObject)
    objects.create(pods, { ...pod(name), metadata: { name, namespace: 'default', ...reference(set) } })
    await settled()
    return owner
  }
  const left = (objects: ObjectAccess, name: string): string[] =>
    [deployments, replicaSets, pods]
      .filter(type => objects.get(type, { namespace: 'default', name }) !== undefined)
      .map(({ kind }) => kind)

  await t.test('in the background', async t => {
    const { objects } = (await startStore(t, { listeners: [] })).store
    await family(objects, 'web')
    t.strictSame(left(objects, 'web'), ['Deployment', 'ReplicaSet', 'Pod'])
    objects.delete(deployments, { namespace: 'default', name: 'web' }, { propagationPolicy: 'Background' })
    t.strictSame(left(objects, 'web'), ['ReplicaSet', 'Pod'])
    await settled()
    t.strictSame(left(objects, 'web'), [])
  })

  await t.test('in the foreground, the owner last', async t => {
    const { objects } = (await startStore(t, { listeners: [] })).store
    await family(objects, 'web')
    objects.edit(pods, { namespace: 'default', name: 'web' }, current => ({
      ...current,
      metadata: { ...current.metadata, finalizers: ['example.org/hold'] }
    }))
    objects.delete(deployments, { namespace: 'default', name: 'web' }, { propagationPolicy: 'Foreground' })
    await settled()
    t.strictSame(left(objects, 'web'), ['Deployment', 'ReplicaSet', 'Pod'])
    t.match(objects.get(deployments, { namespace: 'default', name: 'web' })?.metadata, {
      finalizers: ['foregroundDeletion']
    })
    objects.edit(pods, { namespace: 'default', name: 'web' }, current => ({
      ...current,
      metadata: { ...current.metadata, finalizers: [] }
    }))
    await settled()
    t.strictSame(left(objects, 'web'), [])
  })

  await t.test('not at all when they are orphaned', async t => {
    const { objects } = (await startStore(t, { listeners: [] })).store
    await family(objects, 'web')
    objects.delete(deployments, { namespace: 'default', name: 'web' }, { propagationPolicy: 'Orphan' })
    await settled()
    t.strictSame(left(objects, 'web'), ['ReplicaSet', 'Pod'])
    t.same(
      objects.get(replicaSets, { namespace: 'default', name: 'web' })?.metadata.ownerReferences ?? [],
      []
    )
  })

  await t.test('at once when the owner was never there', async t => {
    const { objects } = (await startStore(t, { listeners: [] })).store
    const ownerReferences = [
      { apiVersion: 'v1', kind: 'Pod', name: 'ghost', uid: '11111111-1111-1111-1111-111111111111' }
    ]
    objects.create(configMaps, map('lost', { ownerReferences }))
    await settled()
    t.equal(objects.get(configMaps, { namespace: 'default', name: 'lost' }), undefined)
  })

  await t.test('a second owner keeps the dependent', async t => {
    const { objects } = (await startStore(t, { listeners: [] })).store
    const owners = ['one', 'two'].map(name => objects.create(configMaps, map(name)))
    const ownerReferences = owners.map(({ metadata }) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      name: metadata.name,
      uid: metadata.uid ?? ''
    }))
    objects.create(configMaps, map('shared', { ownerReferences }))
    objects.delete(configMaps, { namespace: 'default', name: 'one' })
    await settled()
    t.match(objects.get(configMaps, { namespace: 'default', name: 'shared' })?.metadata.ownerReferences, [
      { name: 'two' }
    ])
    objects.delete(configMaps, { namespace: 'default', name: 'two' })
    await settled()
    t.equal(objects.get(configMaps, { namespace: 'default', name: 'shared' }), undefined)
  })
})

t.test('a namespace goes with all that is in it, once its pods have ended', async t => {
  const { objects } = (await startStore(t, { listeners: [] })).store
  objects.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
  t.ok(
    objects.get(type('', 'serviceaccounts', 'ServiceAccount'), { namespace: 'shop', name: 'default' }),
    'has its default account'
  )
  objects.create(configMaps, map('a', { namespace: 'shop' }))
  const running = objects.create(pods, {
    ...pod('p', { nodeName: 'n1' }),
    metadata: { name: 'p', namespace: 'shop' }
  })
  objects.delete(namespaces, { name: 'shop' })
  await settled()
  t.match(objects.get(namespaces, { name: 'shop' }), { status: { phase: 'Terminating' } })
  t.equal(objects.get(configMaps, { namespace: 'shop', name: 'a' }), undefined)
  t.match(objects.get(pods, running.metadata)?.metadata, { deletionTimestamp: String })
  objects.delete(pods, running.metadata, { gracePeriodSeconds: 0 })
  await settled()
  t.equal(objects.get(namespaces, { name: 'shop' }), undefined)
  t.strictSame(objects.list(type('', 'serviceaccounts', 'ServiceAccount'), { namespace: 'shop' }), [])
})

t.test('tokens are issued for accounts that are there', async t => {
  const { store } = await startStore(t, { listeners: [] })
  t.match(
    store.issueToken('default', 'default', { audiences: ['istio-ca'], expirationSeconds: 600 }),
    /^ey.+\..+\..+$/
  )
  t.throws(() => store.issueToken('default', 'nobody'), { code: 404 })
  t.throws(() => store.issueToken('default', 'default', { pod: 'nothing' }), { code: 404 })
  t.match(JSON.parse(store.jwks()), { keys: [{ kty: 'EC', alg: 'ES256' }] })
})

t.test('the definitions of Istio and the Gateway API are served from the start', async t => {
  const { objects } = (await startStore(t, { listeners: [] })).store
  const policies = type('security.istio.io', 'authorizationpolicies', 'AuthorizationPolicy')
  const made = objects.create(policies, {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'p', namespace: 'default' },
    spec: { action: 'ALLOW', rules: [{ from: [{ source: { principals: ['cluster.local/ns/a/sa/b'] } }] }] }
  } as KubeObject)
  t.match(made, { metadata: { generation: 1 } })
  t.throws(
    () =>
      objects.create(policies, {
        apiVersion: 'security.istio.io/v1',
        kind: 'AuthorizationPolicy',
        metadata: { name: 'q', namespace: 'default' },
        spec: { action: 'PERHAPS' }
      } as KubeObject),
    {
      message:
        /spec\.action: Unsupported value: "PERHAPS": supported values: "ALLOW", "DENY", "AUDIT", "CUSTOM"/
    }
  )
  const gateways = type('gateway.networking.k8s.io', 'gateways', 'Gateway')
  const gateway = objects.create(gateways, {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name: 'waypoint', namespace: 'default' },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }]
    }
  } as KubeObject)
  t.match(gateway, {
    spec: { listeners: [{ allowedRoutes: { namespaces: { from: 'Same' } } }] },
    status: { conditions: [{ type: 'Accepted', status: 'Unknown' }, { type: 'Programmed' }] }
  })
})
