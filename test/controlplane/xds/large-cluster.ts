/**
 * A control plane with 10,000 pods and 500 services in this process, and clients of it: for the test that bounds what
 * they cost, and for the benchmark that writes it down. Objects have the size of real ones when they are read.
 */
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { addressType } from '../../../controlplane/desired/snapshot.ts'
import { metricFamilies } from '../../../controlplane/metrics.ts'
import { GrpcServer } from '../../../controlplane/serve/grpc-server.ts'
import { XdsServer } from '../../../controlplane/xds/server.ts'
import { ip } from '../../../shared/net/address.ts'
import { silent } from '../../../shared/telemetry/logger.ts'
import { Metrics } from '../../../shared/telemetry/metrics.ts'
import { object, settings } from '../world.ts'
import { DeltaClient } from './delta-client.ts'

export const podCount = 10_000
export const serviceCount = 500
const namespaces = 50

const appOf = (index: number): number => index % serviceCount
const namespaceOf = (app: number): string => `team-${app % namespaces}`

/** As a kubelet and a controller manager leave it: about 4 kB, most of which nobody here reads. */
export function pod(index: number, ready = true): unknown {
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

export function service(app: number): unknown {
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

export interface Load {
  /** Addresses that were translated from the objects. */
  readonly translated: number
  /** From the first object to all of them translated, and to all clients having decoded them. */
  readonly translatedMs: number
  readonly servedMs: number
  /** Live objects and buffers, 10^6 bytes, before there are clients. Exact with `--expose-gc` only. */
  readonly heldMb: number
  /** The whole process then, 10^6 bytes. */
  readonly residentMb: number
  /** What each client got, first and after one pod had become unready. */
  readonly first: readonly number[]
  readonly later: readonly number[]
  /** From that change to all clients having it. */
  readonly changeMs: number
}

/** Loads the cluster, serves it to `clientCount` clients over gRPC, changes one pod. */
export async function measureLoad(
  t: { teardown(undo: () => unknown): void },
  clientCount: number
): Promise<Load> {
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
  const changes = desired.refresh()
  const translatedMs = performance.now() - started
  const heldMb = memory() - before
  const residentMb = process.memoryUsage().rss / 1e6

  const { xds, clients } = await serve(t, desired, clientCount)
  const asked = performance.now()
  for (const client of clients) client.subscribe(addressType)
  const first = await Promise.all(clients.map(async client => client.next()))
  const servedMs = translatedMs + performance.now() - asked
  first.forEach((heard, index) => {
    if (heard !== undefined) clients[index]?.ack(heard)
  })

  const changed = performance.now()
  desired.put(object(pod(4711, false)))
  xds.push(desired.refresh())
  const later = await Promise.all(clients.map(async client => client.next()))
  const changeMs = performance.now() - changed
  const count = (heard: (typeof later)[number]): number =>
    heard === undefined ? 0 : heard.resources.length + heard.removedResources.length
  return {
    translated: changes.address.changed.size,
    translatedMs,
    servedMs,
    heldMb,
    residentMb,
    first: first.map(count),
    later: later.map(count),
    changeMs
  }
}

async function serve(
  t: { teardown(undo: () => unknown): void },
  desired: DesiredState,
  clientCount: number
): Promise<{ xds: XdsServer; clients: readonly DeltaClient[] }> {
  const xds = new XdsServer({
    snapshot: desired.snapshot,
    scopeOf: () => undefined,
    clusterId: () => 'Kubernetes',
    log: silent,
    metrics: new Metrics(metricFamilies),
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
    { length: clientCount },
    () => new DeltaClient({ target: `127.0.0.1:${port}`, nodeName: '' })
  )
  t.teardown(() => clients.forEach(client => client.close()))
  return { xds, clients }
}

/** Megabytes of live objects and buffers. */
function memory(): number {
  globalThis.gc?.()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return (heapUsed + arrayBuffers) / 1e6
}
