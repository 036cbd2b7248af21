/** What waypoints hear of the mesh configuration, and nobody else. */
import t from 'tap'
import { readMeshConfig } from '../../../controlplane/cluster/mesh-config.ts'
import { addressType } from '../../../controlplane/desired/snapshot.ts'
import { meshConfigForWaypoints } from '../../../controlplane/translate/mesh-config.ts'
import { settings, waypoint, world } from '../world.ts'
import { next, ServedWorld, waypointNode as node } from './served-world.ts'

const type = 'mesh.istio.io/v1alpha1/MeshConfig'
const mesh = `
trustDomainAliases: [old.example]
pathNormalization: {normalization: MERGE_SLASHES}
extensionProviders:
  - name: login
    envoyExtAuthzHttp: {service: login.auth.svc.cluster.local, port: 8080}
`

t.test('aliases, the form of paths and providers, as they are written', async t => {
  const read = readMeshConfig(mesh, settings)
  if (read.kind === 'problem') throw new Error(read.message)
  const view = world(waypoint, read.settings)
  t.match(meshConfigForWaypoints(view), {
    message: {
      namespace: 'istio-system',
      name: 'mesh',
      spec: {
        trustDomainAliases: ['old.example'],
        pathNormalization: 'MERGE_SLASHES',
        extensionProviders: [
          { name: 'login', envoyExtAuthzHttp: { service: 'login.auth.svc.cluster.local', port: 8080 } }
        ]
      }
    }
  })
  t.equal(meshConfigForWaypoints(world('')), undefined, 'without waypoints there is nobody to tell')
  t.match(readMeshConfig('pathNormalization: {normalization: LOUD}', settings), {
    kind: 'problem',
    message: /pathNormalization\.normalization/
  })
})

t.test('who gets traces and logs, and of how many requests, where it is said', async t => {
  const text = 'defaultProviders: {tracing: [otel]}\ndefaultConfig: {tracing: {sampling: 12.5}}'
  const read = readMeshConfig(text, settings)
  if (read.kind === 'problem') throw new Error(read.message)
  t.match(meshConfigForWaypoints(world(waypoint, read.settings))?.message.spec, {
    defaultProviders: { tracing: ['otel'] },
    defaultConfig: { tracing: { sampling: 12.5 } }
  })
  const logged = readMeshConfig('accessLogFile: /dev/stdout\naccessLogEncoding: JSON', settings)
  if (logged.kind === 'problem') throw new Error(logged.message)
  t.match(meshConfigForWaypoints(world(waypoint, logged.settings))?.message.spec, {
    accessLogFile: '/dev/stdout',
    accessLogEncoding: 'JSON'
  })
  const silent = readMeshConfig('defaultConfig: {}', settings)
  if (silent.kind === 'problem') throw new Error(silent.message)
  const spec = meshConfigForWaypoints(world(waypoint, silent.settings))?.message.spec ?? {}
  t.strictSame(Object.keys(spec).toSorted(), [
    'extensionProviders',
    'pathNormalization',
    'trustDomainAliases'
  ])
  t.match(readMeshConfig('defaultConfig: {tracing: {sampling: many}}', settings), {
    kind: 'problem',
    message: /defaultConfig\.tracing\.sampling/
  })
})

t.test('a waypoint hears of it, and of a change; a ztunnel does not', async t => {
  const served = await new ServedWorld(t, 1).start(waypoint)
  const client = served.client()
  client.send({ typeUrl: type, node })
  const told = { type: 'MeshConfig', names: ['istio-system/mesh'], removed: [] }
  t.strictSame(await next(client), told)
  const read = readMeshConfig(mesh, settings)
  if (read.kind === 'settings') served.desired.configure(read.settings)
  served.push()
  t.strictSame(await next(client), told)
  const ztunnel = served.client()
  ztunnel.subscribe(type)
  t.strictSame(await next(ztunnel), { type: 'MeshConfig', names: [], removed: [] })
})

t.test('services that providers name are known to every waypoint', async t => {
  const read = readMeshConfig(mesh, settings)
  const login = `kind: Service
metadata: {name: login, namespace: auth}
spec: {clusterIPs: [10.96.0.9], ports: [{port: 8080}]}
---
kind: Service
metadata: {name: other, namespace: auth}
spec: {clusterIPs: [10.96.0.8], ports: [{port: 8080}]}
---
`
  const served = await new ServedWorld(t, 1).start(login + waypoint)
  const client = served.client()
  client.send({ typeUrl: type, node })
  t.match(await next(client), { type: 'MeshConfig' })
  client.send({ typeUrl: addressType, node })
  t.strictSame(await next(client), { type: 'Address', names: [], removed: [] })
  if (read.kind === 'settings') served.desired.configure(read.settings)
  served.push()
  t.match(await next(client), { type: 'MeshConfig' })
  t.strictSame(await next(client), {
    type: 'Address',
    names: ['auth/login.auth.svc.cluster.local'],
    removed: []
  })
})
