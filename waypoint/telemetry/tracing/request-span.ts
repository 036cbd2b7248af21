/**
 * The attributes of a request's span. Source: Envoy's published tags of HTTP spans, and those that Istio adds at
 * waypoints: who asked whom.
 */
import type { Workload } from '../../../shared/mesh/model.ts'
import type { AccessLine } from '../../access-line.ts'
import type { HeaderList } from '../../http/header-list.ts'
import type { Attribute } from './span.ts'
import type { CustomTag, TracingTerms } from './tracer.ts'

/** Who this proxy is. */
export interface Self {
  readonly nodeId: string
  readonly clusterId: string
  readonly meshId: string
  readonly namespace: string
  readonly canonicalName: string
  readonly canonicalRevision: string
}

export interface SpanFacts {
  readonly line: AccessLine
  /** Of the answer; empty where it is not gRPC. */
  readonly grpcStatus: string
  readonly source: Workload | undefined
  readonly destination: Workload | undefined
  readonly maxTagLength: number
}

export function requestAttributes(self: Self, terms: TracingTerms, facts: SpanFacts): readonly Attribute[] {
  const { line, grpcStatus, source, destination, maxTagLength } = facts
  const { head, status, flag, bytes } = line
  if (head === undefined) return []
  const { headers } = head
  const scheme = headers.get('x-forwarded-proto') ?? 'http'
  const path = headers.get('x-envoy-original-path') ?? head.target
  const attributes: Attribute[] = [
    ['component', 'proxy'],
    ['node_id', self.nodeId],
    ['guid:x-request-id', headers.get('x-request-id') ?? ''],
    ['http.method', head.method],
    ['http.url', `${scheme}://${head.authority}${path}`.slice(0, maxTagLength)],
    ['http.protocol', head.version],
    ['http.status_code', String(status)],
    ['user_agent', headers.get('user-agent') ?? '-'],
    ['downstream_cluster', '-'],
    ['peer.address', line.remote.slice(0, line.remote.lastIndexOf(':'))],
    ['upstream_address', line.upstreamHost],
    ['upstream_cluster', line.upstreamCluster],
    ['upstream_cluster.name', line.upstreamCluster],
    ['request_size', String(bytes.aToB)],
    ['response_size', String(bytes.bToA)],
    ['response_flags', flag]
  ]
  if (isFailure(status, grpcStatus)) attributes.push(['error', 'true'])
  if (headers.get('content-type')?.startsWith('application/grpc') === true) {
    attributes.push(['grpc.path', path], ['grpc.authority', head.authority], ['grpc.status_code', grpcStatus])
  }
  if (terms.istioTags) attributes.push(...istioTags(self, source, destination))
  for (const tag of terms.customTags) {
    const value = customValue(tag, headers)
    if (value !== '') attributes.push([tag.key, value])
  }
  return attributes
}

/** A server's fault: its clients' own are no errors of its span. 0: the client was gone. */
export function isFailure(status: number, grpcStatus: string): boolean {
  return status >= 500 || status === 0 || serverFaults.has(grpcStatus)
}

/** UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. */
const serverFaults = new Set(['2', '4', '12', '13', '14', '15'])

function istioTags(
  { canonicalName, canonicalRevision, meshId, namespace, clusterId }: Self,
  source: Workload | undefined,
  destination: Workload | undefined
): readonly Attribute[] {
  return [
    ['istio.canonical_service', canonicalName],
    ['istio.canonical_revision', canonicalRevision],
    ['istio.mesh_id', meshId],
    ['istio.namespace', namespace],
    ['istio.cluster_id', clusterId],
    ...endTags('istio.source_', source),
    ...endTags('istio.destination_', destination)
  ]
}

function endTags(prefix: string, workload: Workload | undefined): readonly Attribute[] {
  if (workload === undefined) return []
  const { name, workloadName, workloadType, namespace, clusterId, canonicalName, canonicalRevision } =
    workload
  const tags: readonly Attribute[] = [
    ['workload', workloadName],
    ['namespace', namespace],
    ['cluster_id', clusterId],
    ['canonical_service', canonicalName],
    ['canonical_revision', canonicalRevision],
    ['app', canonicalName],
    ['app_version', canonicalRevision],
    ['workload_type', workloadType],
    ['instance_name', name]
  ]
  return tags.filter(([, value]) => value !== '').map(([key, value]) => [prefix + key, value])
}

function customValue(tag: CustomTag, headers: HeaderList): string {
  return tag.kind === 'literal' ? tag.value : (headers.get(tag.name) ?? tag.fallback)
}
