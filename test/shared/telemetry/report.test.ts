import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import { spiffeId } from '../../../shared/identity/spiffe-id.ts'
import type { Service, Workload } from '../../../shared/mesh/model.ts'
import { MeshError } from '../../../shared/runtime/errors.ts'
import { AccessLog, type LoggedConnection } from '../../../shared/telemetry/access-log.ts'
import type { ConnectionEvent } from '../../../shared/telemetry/connection-events.ts'
import { LogOutput } from '../../../shared/telemetry/logger.ts'
import { Metrics, type MetricsSnapshot } from '../../../shared/telemetry/metrics.ts'
import { Reports } from '../../../shared/telemetry/report.ts'
import { nobody, trafficFamilies, trafficLabels } from '../../../shared/telemetry/traffic-metrics.ts'

const webIdentity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' })
const cartIdentity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' })
const service = { name: 'cart', namespace: 'shop', hostname: 'cart.shop.svc.cluster.local' } as Service

const outbound: LoggedConnection = {
  reporter: 'source',
  source: { workload: workload('web'), identity: webIdentity, baggage: undefined },
  destination: { ...nobody, workload: workload('cart') },
  service,
  mutualTls: true,
  sourceAddress: { ip: ip('10.0.0.1'), port: 40000 },
  destinationAddress: { ip: ip('10.0.0.2'), port: 15008 },
  authority: '10.0.0.2:8080'
}

t.test('a connection that ends well is counted and logged once', async t => {
  const { reports, metrics, lines, at } = world()
  const report = reports.begin(outbound)
  report.open()
  report.open()
  t.match(rows(metrics.snapshot(), 'istio_tcp_sockets_open'), [
    { labels: ['source'], value: 1 },
    { value: 0 }
  ])
  report.bytes.aToB = 11
  report.bytes.bToA = 22
  t.match(rows(metrics.snapshot(), 'istio_tcp_received_bytes_total'), [{ value: 11 }], 'bytes are live')
  report.bytes.aToB = 100
  at.elapsed += 1234
  at.now -= 86_400_000 // a clock that is set meanwhile changes no duration
  report.finish()
  report.fail(new Error('too late'))
  const snapshot = metrics.snapshot()
  const [opened] = rows(snapshot, 'istio_tcp_connections_opened_total')
  t.equal(opened?.value, 1)
  t.strictSame(
    Object.fromEntries((opened?.labels ?? []).map((value, index) => [trafficLabels[index], value])),
    {
      reporter: 'source',
      source_workload: 'web-deployment',
      source_canonical_service: 'web-app',
      source_canonical_revision: 'v1',
      source_workload_namespace: 'shop',
      source_principal: webIdentity,
      source_app: 'web-app',
      source_version: 'v1',
      source_cluster: 'Kubernetes',
      destination_service: 'cart.shop.svc.cluster.local',
      destination_service_namespace: 'shop',
      destination_service_name: 'cart',
      destination_workload: 'cart-deployment',
      destination_canonical_service: 'cart-app',
      destination_canonical_revision: 'v1',
      destination_workload_namespace: 'shop',
      destination_principal: cartIdentity,
      destination_app: 'cart-app',
      destination_version: 'v1',
      destination_cluster: 'Kubernetes',
      request_protocol: 'tcp',
      response_flags: '-',
      connection_security_policy: 'mutual_tls',
      source_region: 'r',
      source_zone: 'unknown',
      destination_region: 'r',
      destination_zone: 'unknown'
    }
  )
  t.match(rows(snapshot, 'istio_tcp_connections_closed_total'), [{ value: 1 }])
  t.match(rows(snapshot, 'istio_tcp_received_bytes_total'), [{ value: 100 }])
  t.match(rows(snapshot, 'istio_tcp_sent_bytes_total'), [{ value: 22 }])
  t.strictSame(rows(snapshot, 'istio_tcp_connections_failed_total'), [])
  t.match(rows(snapshot, 'istio_tcp_sockets_open'), [{ value: 0 }, { value: 0 }])
  t.strictSame(lines, [
    `debug\taccess\tconnection opened\tsrc.addr=10.0.0.1:40000 src.workload="web-1" src.namespace="shop" src.identity="${webIdentity}" src.cluster="Kubernetes" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.service="cart.shop.svc.cluster.local" dst.workload="cart-1" dst.namespace="shop" dst.identity="${cartIdentity}" dst.cluster="Kubernetes" direction="outbound"`,
    `info\taccess\tconnection complete\tsrc.addr=10.0.0.1:40000 src.workload="web-1" src.namespace="shop" src.identity="${webIdentity}" src.cluster="Kubernetes" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.service="cart.shop.svc.cluster.local" dst.workload="cart-1" dst.namespace="shop" dst.identity="${cartIdentity}" dst.cluster="Kubernetes" direction="outbound" bytes_sent=100 bytes_recv=22 duration="1234ms"`
  ])
})

t.test('a refused connection is opened, closed and failed, with its flag on the last two', async t => {
  const { reports, metrics, lines, events } = world(true)
  const report = reports.begin({ ...outbound, reporter: 'destination' })
  report.fail(
    new MeshError(
      'POLICY_REJECTED',
      'connection closed due to policy rejection: explicitly denied by: shop/no'
    )
  )
  const snapshot = metrics.snapshot()
  const flag = trafficLabels.indexOf('response_flags')
  const flags = (name: string): unknown =>
    rows(snapshot, name).map(({ labels, value }) => [labels[flag], value])
  t.strictSame(flags('istio_tcp_connections_opened_total'), [['-', 1]])
  t.strictSame(flags('istio_tcp_connections_closed_total'), [['DENY', 1]])
  t.strictSame(flags('istio_tcp_connections_failed_total'), [['DENY', 1]])
  t.match(lines, [
    /^debug\taccess\tconnection opened\t/,
    /^error\taccess\tconnection complete\t.*error="connection closed due to policy rejection: explicitly denied by: shop\/no"$/
  ])
  t.match(events, [
    { kind: 'refused', direction: 'inbound', responseFlags: 'DENY', source: { identity: webIdentity } }
  ])
})

t.test('bytes are named from the proxy’s own side in the log, from the client’s in the metrics', async t => {
  const { reports, metrics, lines } = world()
  const report = reports.begin({ ...outbound, reporter: 'destination' })
  report.open()
  report.bytes.aToB = 5
  report.bytes.bToA = 7
  report.finish()
  t.match(lines.at(-1), /direction="inbound" bytes_sent=7 bytes_recv=5 /)
  t.match(rows(metrics.snapshot(), 'istio_tcp_received_bytes_total'), [{ value: 5 }])
  t.match(rows(metrics.snapshot(), 'istio_tcp_sent_bytes_total'), [{ value: 7 }])
})

t.test('what is drained is an error in the log, not a failure in the metrics', async t => {
  const { reports, metrics, lines } = world()
  const report = reports.begin(outbound)
  report.open()
  report.fail(new MeshError('DRAINED', 'connection closed due to connection drain'))
  t.match(lines.at(-1), /^error.*error="connection closed due to connection drain"$/)
  t.strictSame(rows(metrics.snapshot(), 'istio_tcp_connections_failed_total'), [])
  t.match(rows(metrics.snapshot(), 'istio_tcp_connections_closed_total'), [{ value: 1 }])
})

t.test('nothing known of either end leaves the places out', async t => {
  const { reports, metrics } = world()
  reports
    .begin({ ...outbound, source: nobody, destination: nobody, service: undefined, mutualTls: false })
    .open()
  const [row] = rows(metrics.snapshot(), 'istio_tcp_connections_opened_total')
  t.equal(row?.labels.length, trafficLabels.indexOf('source_region'))
  t.equal(row?.labels[1], 'unknown')
})

t.test('a plaintext source has no principal, whatever its record says', async t => {
  const { reports, metrics, lines } = world()
  const source = { ...outbound.source, identity: undefined }
  reports
    .begin({ ...outbound, reporter: 'destination', source, mutualTls: false, authority: undefined })
    .open()
  const [row] = rows(metrics.snapshot(), 'istio_tcp_connections_opened_total')
  t.equal(row?.labels[trafficLabels.indexOf('source_principal')], 'unknown')
  t.equal(row?.labels[trafficLabels.indexOf('connection_security_policy')], 'unknown')
  t.notMatch(lines[0], /identity/)
})

const baggage = {
  cluster: 'far',
  namespace: 'said-ns',
  workloadType: 'deployment' as const,
  workloadName: 'said-name',
  service: 'said-app',
  version: 'v9',
  region: 'r9',
  zone: 'z9'
}

t.test('baggage speaks where there is no record, the record where there is one', async t => {
  const { reports, metrics } = world()
  reports.begin({ ...outbound, source: { ...nobody, baggage, identity: webIdentity } }).open()
  reports.begin({ ...outbound, destination: { ...nobody, workload: workload('cart'), baggage } }).open()
  reports
    .begin({
      ...outbound,
      destination: { workload: workload('cart'), baggage, identity: cartIdentity },
      trustDestinationBaggage: true
    })
    .open()
  const labels = rows(metrics.snapshot(), 'istio_tcp_connections_opened_total').map(({ labels }) => labels)
  t.equal(labels[0]?.[trafficLabels.indexOf('source_workload')], 'said-name')
  t.equal(labels[0]?.[trafficLabels.indexOf('source_app')], 'said-name')
  t.equal(labels[0]?.[trafficLabels.indexOf('source_canonical_service')], 'said-app')
  t.equal(labels[1]?.[trafficLabels.indexOf('destination_workload')], 'cart-deployment')
  t.equal(
    labels[2]?.[trafficLabels.indexOf('destination_workload')],
    'said-name',
    'unless it comes from behind a gateway'
  )
  t.equal(labels[2]?.[trafficLabels.indexOf('destination_principal')], cartIdentity)
})

t.test('what is turned away early is a line and an event, no metric', async t => {
  const { reports, metrics, lines, events } = world(true)
  const addresses = {
    direction: 'inbound',
    sourceAddress: outbound.sourceAddress,
    destinationAddress: outbound.destinationAddress
  } as const
  reports.refused(addresses, new Error('expected method CONNECT', { cause: new Error('got GET') }))
  t.match(lines, [
    'warn\taccess\tconnection failed\tsrc.addr=10.0.0.1:40000 dst.addr=10.0.0.2:15008 direction="inbound" error="expected method CONNECT: got GET"'
  ])
  t.match(events, [{ kind: 'refused', error: 'expected method CONNECT: got GET' }])
  t.strictSame(rows(metrics.snapshot(), 'istio_tcp_connections_opened_total'), [])
})

t.test('events carry identities and bytes, and are not made while nobody watches', async t => {
  const watched = world(true)
  const report = watched.reports.begin(outbound)
  report.open()
  report.bytes.aToB = 3
  report.finish()
  t.match(watched.events, [
    {
      kind: 'opened',
      direction: 'outbound',
      service: service.hostname,
      source: { workload: 'web-1', namespace: 'shop', identity: webIdentity },
      destination: { identity: cartIdentity }
    },
    { kind: 'closed', bytesFromClient: 3, bytesToClient: 0, responseFlags: '-' }
  ])
  const silent = world(false)
  silent.reports.begin(outbound).open()
  t.strictSame(silent.events, [])
})

function world(active = false): {
  reports: Reports
  metrics: Metrics<typeof trafficFamilies>
  lines: string[]
  events: ConnectionEvent[]
  at: { now: number; elapsed: number }
} {
  const at = { now: Date.UTC(2030, 0, 1), elapsed: 5 }
  const lines: string[] = []
  const events: ConnectionEvent[] = []
  const sink = { write: (line: string) => void lines.push(line.trimEnd().split('\t').slice(1).join('\t')) }
  const log = new LogOutput({ filter: { fallback: 'debug', targets: new Map() }, format: 'plain', sink })
  const metrics = new Metrics(trafficFamilies)
  const reports = new Reports({
    metrics,
    accessLog: new AccessLog(log.logger('access')),
    events: { active, emit: event => void events.push(event) },
    now: () => at.now,
    elapsed: () => at.elapsed
  })
  return { reports, metrics, lines, events, at }
}

function rows(snapshot: MetricsSnapshot, name: string): MetricsSnapshot[number]['rows'] {
  return snapshot.find(family => family.name === name)?.rows ?? []
}

function workload(name: string): Workload {
  return {
    uid: `Kubernetes//Pod/shop/${name}-1`,
    name: `${name}-1`,
    namespace: 'shop',
    trustDomain: 'cluster.local',
    serviceAccount: name,
    workloadName: `${name}-deployment`,
    canonicalName: `${name}-app`,
    canonicalRevision: 'v1',
    clusterId: 'Kubernetes',
    locality: { region: 'r', zone: '', subzone: '' }
  } as Workload
}
