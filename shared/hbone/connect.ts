/**
 * What an HBONE CONNECT request says about itself: authority, baggage, forwarded, traceparent and network.
 * Pure parsing and formatting. Source: what Istio's ztunnel and waypoints put on the wire.
 */
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../net/address.ts'
import type { HeaderField, HeaderList } from './header-field.ts'

/** Where a tunnel leads: an address, or (between networks) a service by name. */
export type Authority =
  | { readonly kind: 'address'; readonly address: SocketAddress }
  | { readonly kind: 'hostname'; readonly hostname: string; readonly port: number }

/** Reads `1.2.3.4:80`, `[2001:db8::1]:80` or `host.name:80`; undefined for anything else: the port is mandatory. */
export function parseAuthority(text: string): Authority | undefined {
  const address = parseSocketAddress(text)
  if (address !== undefined) return { kind: 'address', address }
  const [, hostname = '', portText] =
    /^([A-Za-z0-9_*](?:[A-Za-z0-9_.*-]{0,252}[A-Za-z0-9_.])?):(\d{1,5})$/.exec(text) ?? []
  const port = Number(portText)
  return hostname !== '' && port <= 65535 ? { kind: 'hostname', hostname, port } : undefined
}

export function formatAuthority(authority: Authority): string {
  return authority.kind === 'address'
    ? formatSocketAddress(authority.address)
    : `${authority.hostname}:${authority.port}`
}

/** A workload as `baggage` describes it, for telemetry only. An empty text is "not set". */
export interface Baggage {
  readonly cluster: string
  readonly namespace: string
  readonly workloadType: 'deployment' | 'cronjob' | 'pod' | 'job'
  readonly workloadName: string
  /** Canonical name and revision. */
  readonly service: string
  readonly version: string
  readonly region: string
  readonly zone: string
}

const workloadTypes = ['deployment', 'cronjob', 'pod', 'job'] as const

/** Values are written as they are, without percent-encoding; those that a header cannot carry are left out. */
export function formatBaggage(baggage: Baggage): string {
  let text = ''
  const add = (key: string, value: string): void => {
    if (value !== '' && /^[\x21-\x2b\x2d-\x7e]+$/.test(value))
      text += `${text === '' ? '' : ','}${key}=${value}`
  }
  add('k8s.cluster.name', baggage.cluster)
  add('k8s.namespace.name', baggage.namespace)
  add(`k8s.${baggage.workloadType}.name`, baggage.workloadName)
  add('service.name', baggage.service)
  add('service.version', baggage.version)
  add('cloud.region', baggage.region)
  add('cloud.availability_zone', baggage.zone)
  return text
}

/** Reads every `baggage` line of a message; unknown keys are skipped, undefined when nothing is known. */
export function parseBaggage(values: readonly string[]): Baggage | undefined {
  const found = new Map<string, string>()
  for (const value of values) {
    if (/[^ -~\t]/.test(value)) continue
    for (const member of value.split(',')) {
      const at = member.indexOf('=')
      if (at > 0) found.set(member.slice(0, at).trim(), member.slice(at + 1).trim())
    }
  }
  if (found.size === 0) return undefined
  const workloadType = workloadTypes.find(type => found.get(`k8s.${type}.name`)) ?? 'deployment'
  return {
    cluster: found.get('k8s.cluster.name') ?? '',
    namespace: found.get('k8s.namespace.name') ?? '',
    workloadType,
    workloadName: found.get(`k8s.${workloadType}.name`) ?? '',
    service: found.get('service.name') ?? '',
    version: found.get('service.version') ?? '',
    region: found.get('cloud.region') ?? '',
    zone: found.get('cloud.availability_zone') ?? ''
  }
}

/** RFC 7239, with the quotes that ztunnels write; `host` is the service that the client asked for. */
export function formatForwarded(source: SocketAddress, serviceHostname: string | undefined): string {
  const element = `for="${formatSocketAddress(source)}"`
  return serviceHostname === undefined ? element : `${element};host=${serviceHostname}`
}

/** The `host` of a `forwarded` header. Its `for` is never read: nobody vouches for it. */
export function parseForwardedHost(values: readonly string[]): string | undefined {
  for (const value of values) {
    if (!value.includes('host=') || /[^ -~\t]/.test(value)) continue
    for (const part of value.split(';')) {
      const [, host = ''] = /^host="?([^"]*)"?$/.exec(part.trim()) ?? []
      if (host !== '') return host
    }
  }
  return undefined
}

/** W3C Trace Context, version 00. */
export interface TraceParent {
  /** 32 hexadecimal digits. */
  readonly traceId: string
  /** 16 hexadecimal digits. */
  readonly spanId: string
}

/** Unlike others by chance; nothing secret depends on it, so the cheap generator will do. */
export function newTraceParent(random: () => number = Math.random): TraceParent {
  const word = (): string => {
    const bits = random() * 0x1_0000_0000
    return hexOf(bits >>> 24) + hexOf(bits >>> 16) + hexOf(bits >>> 8) + hexOf(bits)
  }
  return { traceId: word() + word() + word() + word(), spanId: word() + word() }
}

/** Numbers beyond 2^31 take a slow way to hexadecimal text; bytes can be looked up. */
const hexBytes = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

function hexOf(bits: number): string {
  return hexBytes[bits & 0xff] ?? ''
}

export function formatTraceParent({ traceId, spanId }: TraceParent): string {
  return `00-${traceId}-${spanId}-00`
}

/** Undefined unless the text has exactly the form `00-<32 hex>-<16 hex>-<2 hex>`. */
export function parseTraceParent(values: readonly string[]): TraceParent | undefined {
  const form = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/
  const [, traceId, spanId] = form.exec(values[0] ?? '') ?? []
  return traceId === undefined || spanId === undefined ? undefined : { traceId, spanId }
}

/** The header that marks a connection from another network; only on the inner CONNECT of a double tunnel. */
export const networkHeader = 'x-forwarded-network'

/** Whether a request says that it came through a gateway from another network than `ownNetwork`. */
export function fromOtherNetwork(values: readonly string[], ownNetwork: string): boolean {
  const [network] = values
  return network !== undefined && network.toLowerCase() !== ownNetwork.toLowerCase()
}

export interface ConnectFacts {
  /** Already formatted, because it is the same for every connection of a workload. */
  readonly baggage: string
  readonly source: SocketAddress
  /** Set when the client asked for a service. */
  readonly serviceHostname: string | undefined
  readonly trace: TraceParent
  /** Own network, only for the inner CONNECT of a double tunnel; may be `''`. */
  readonly network?: string
}

/** The headers of a CONNECT request beside its authority, in the order that ztunnels send them. */
export function connectHeaders(facts: ConnectFacts): HeaderList {
  const headers: HeaderField[] = [
    ['baggage', facts.baggage],
    ['forwarded', formatForwarded(facts.source, facts.serviceHostname)],
    ['traceparent', formatTraceParent(facts.trace)]
  ]
  if (facts.network !== undefined) headers.push([networkHeader, facts.network])
  return headers
}
