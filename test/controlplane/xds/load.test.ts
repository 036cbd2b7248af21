// node: --expose-gc
/**
 * 10,000 pods and 500 services in one process: time and memory are printed, and bounded loosely, because the
 * machine may be busy. Objects have the size of real ones when they are read.
 */
import t from 'tap'
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { GrpcServer } from '../../../controlplane/serve/grpc-server.ts'
import { metricFamilies } from '../../../controlplane/metrics.ts'
import { addressType } from '../../../controlplane/desired/snapshot.ts'
import { XdsServer } from '../../../controlplane/xds/server.ts'
import { ip } from '../../../shared/net/address.ts'
import { silent } from '../../../shared/telemetry/logger.ts'
import { Metrics } from '../../../shared/telemetry/metrics.ts'
import { DeltaClient } from './delta-client.ts'
import { object, settings } from '../world.ts'

const podCount = 10_000
const serviceCount = 500
const namespaces = 50

const appOf = (index: number): number => index % serviceCount
const namespaceOf = (app: number): string => `team-${app % namespaces}`

/** As a kubelet and a controller manager leave it: about 4 kB, most of which nobody here reads. */
function pod(index: number, ready = true): unknown {
  const app = appOf(index)
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `app-${app}-5d4f7c9b8-${index}`,
      generateName: `app-${app}-5d4f7c9b8-`,
      namespace: namespaceOf(app),
      uid: `00000000-0000-0000-0000-${String(index).padStart(12, '0')}`,
      resourceVersion: String(index),
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: { app: `app-${app}`, version: 'v1', 'pod-template-hash': '5d4f7c9b8' },
      annotations: { 'ambient.istio.io/redirection': 'enabled', 'example.com/config': 'x'.repeat(800) },
      ownerReferences: [
        {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          name: `app-${app}-5d4f7c9b8`,
          uid: 'u',
          controller: true
        }
      ],
      managedFields: [{ manager: 'kubelet', operation: 'Update', fieldsV1: { f: 'x'.repeat(1200) } }]
    },
    spec: {
      nodeName: `node-${index % 100}`,
      serviceAccountName: `app-${app}`,
      containers: [
        {
          name: 'app',
          image: 'registry.example.com/team/app:v1',
          env: Array.from({ length: 10 }, (_, number) => ({ name: `NAME_${number}`, value: 'value' })),
          ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }]
        }
      ],
      tolerations: [{ key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute' }]
    },
    status: {
      phase: 'Running',
      podIP: address(index),
      podIPs: [{ ip: address(index) }],
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
      containerStatuses: [{ name: 'app', ready: true, restartCount: 0, imageID: 'sha256:'.padEnd(70, '0') }]
    }
  }
}

const address = (index: number): string => `10.${1 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`

function service(app: number): unknown {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: `app-${app}`, namespace: namespaceOf(app) },
    spec: {
      clusterIPs: [`10.96.${app >> 8}.${app & 255}`],
      ipFamilies: ['IPv4'],
      selector: { app: `app-${app}` },
      ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }]
    }
  }
}

t.test('10,000 pods and 500 services', async t => {
  const before = memory()
  const desired = new DesiredState(settings)
  desired.outdateAll()
  const started = performance.now()
  for (let index = 0; index < 100; index += 1) {
    const labels = { 'topology.kubernetes.io/region': 'r', 'topology.kubernetes.io/zone': `z${index % 3}` }
    desired.put(object({ kind: 'Node', metadata: { name: `node-${index}`, labels } }))
  }
  for (let app = 0; app < serviceCount; app += 1) desired.put(object(service(app)))
  // Through JSON, so that nothing is shared that would not be shared by a watch.
  for (let index = 0; index < podCount; index += 1)
    desired.put(object(JSON.parse(JSON.stringify(pod(index)))))
  const read = performance.now() - started
  const changes = desired.refresh()
  const whole = performance.now() - started
  const used = memory() - before
  t.comment(
    `read in ${read.toFixed(0)} ms, translated after ${whole.toFixed(0)} ms, ${used.toFixed(1)} MB held`
  )
  t.equal(changes.address.changed.size, podCount + serviceCount)
  t.ok(whole < 30_000, 'in seconds')
  t.ok(used < 150, `memory is bounded: ${used.toFixed(1)} MB`)

  const metrics = new Metrics(metricFamilies)
  const xds = new XdsServer({
    snapshot: desired.snapshot,
    scopeOf: () => undefined,
    clusterId: () => 'Kubernetes',
    log: silent,
    metrics,
    orderMs: 1
  })
  const server = new GrpcServer({
    maxConnectionAgeMs: 3_600_000,
    services: {
      deltaStream: async stream =>
        xds.connect({
          remote: stream.info.remote,
          caller: undefined,
          send: response => stream.send(response),
          close: (status, reason) => stream.close(status, reason)
        })
    }
  })
  t.teardown(async () => server.close(0))
  const { port } = await server.listenPlain({ ip: ip('127.0.0.1'), port: 0 })
  const clients = Array.from(
    { length: 10 },
    () => new DeltaClient({ target: `127.0.0.1:${port}`, nodeName: '' })
  )
  t.teardown(() => clients.forEach(client => client.close()))

  const asked = performance.now()
  for (const client of clients) client.subscribe(addressType)
  const first = await Promise.all(clients.map(async client => client.next()))
  t.comment(
    `${clients.length} clients have everything after ${(performance.now() - asked).toFixed(0)} ms (decoding included)`
  )
  t.ok(first.every(heard => heard?.resources.length === podCount + serviceCount))
  first.forEach((heard, index) => {
    if (heard !== undefined) clients[index]?.ack(heard)
  })

  const changed = performance.now()
  desired.put(object(pod(4711, false)))
  xds.push(desired.refresh())
  const translated = performance.now() - changed
  const later = await Promise.all(clients.map(async client => client.next()))
  t.comment(
    `one pod: ${translated.toFixed(2)} ms to translate and send, ${(performance.now() - changed).toFixed(1)} ms to all`
  )
  t.ok(
    later.every(heard => heard?.resources.length === 1 && heard.removedResources.length === 0),
    'one pod’s change sends one resource'
  )
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

/** Megabytes of live objects and buffers. */
function memory(): number {
  globalThis.gc?.()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return (heapUsed + arrayBuffers) / 1e6
}
