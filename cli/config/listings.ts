/**
 * The tables of `config`: the columns, order and texts of `istioctl ztunnel-config`, so that scripts and eyes
 * move over; `-o wide` adds ours.
 */
import type { Column } from '../table.ts'
import type {
  DumpCertificate,
  DumpCertificates,
  DumpPolicy,
  DumpService,
  DumpWaypoint,
  DumpWorkload,
  DumpWorkloadState
} from './dump.ts'
import type { AgentDump, Held } from './sources.ts'

const agents = <T>(): Column<Held<T>> => ({
  heading: 'AGENTS',
  cell: ({ nodes, of }) => `${nodes.length}/${of}`,
  wide: true
})

/** `waypointName` is {@link waypointNames} of the services at hand. */
export function workloadColumns(
  waypointName: (waypoint: DumpWaypoint | undefined) => string
): Column<Held<DumpWorkload>>[] {
  return [
    { heading: 'NAMESPACE', cell: ({ value }) => value.namespace },
    { heading: 'POD NAME', cell: ({ value }) => value.name },
    { heading: 'ADDRESS', cell: ({ value }) => (value.workloadIps ?? []).join(',') },
    { heading: 'NODE', cell: ({ value }) => value.node ?? '' },
    { heading: 'WAYPOINT', cell: ({ value }) => waypointName(value.waypoint) },
    { heading: 'PROTOCOL', cell: ({ value }) => value.protocol ?? '' },
    { heading: 'STATUS', cell: ({ value }) => value.status ?? '', wide: true },
    { heading: 'SERVICE ACCOUNT', cell: ({ value }) => value.serviceAccount ?? '', wide: true },
    {
      heading: 'POLICIES',
      cell: ({ value }) => (value.authorizationPolicies ?? []).join(',') || '-',
      wide: true
    },
    agents()
  ]
}

export function serviceColumns(
  waypointName: (waypoint: DumpWaypoint | undefined) => string
): Column<Held<DumpService>>[] {
  return [
    { heading: 'NAMESPACE', cell: ({ value }) => value.namespace },
    { heading: 'SERVICE NAME', cell: ({ value }) => value.name },
    { heading: 'SERVICE VIP', cell: ({ value }) => (value.vips ?? []).map(afterSlash).join(',') },
    { heading: 'WAYPOINT', cell: ({ value }) => waypointName(value.waypoint) },
    { heading: 'ENDPOINTS', cell: ({ value }) => endpointCount(value) },
    { heading: 'HOSTNAME', cell: ({ value }) => value.hostname, wide: true },
    { heading: 'PORTS', cell: ({ value }) => portsOf(value), wide: true },
    { heading: 'BALANCING', cell: ({ value }) => value.loadBalancer?.mode ?? 'Standard', wide: true },
    agents()
  ]
}

export function policyColumns(): Column<Held<DumpPolicy>>[] {
  return [
    { heading: 'NAMESPACE', cell: ({ value }) => value.namespace },
    { heading: 'POLICY NAME', cell: ({ value }) => value.name },
    { heading: 'ACTION', cell: ({ value }) => value.action ?? '' },
    { heading: 'SCOPE', cell: ({ value }) => value.scope ?? '' },
    { heading: 'RULES', cell: ({ value }) => String(value.rules?.length ?? 0), wide: true },
    { heading: 'DRY RUN', cell: ({ value }) => String(value.dryRun ?? false), wide: true },
    agents()
  ]
}

/** The service behind a waypoint reference, by its key; `NA` when the agent holds none with that name. */
export function waypointNames(
  services: readonly DumpService[]
): (waypoint: DumpWaypoint | undefined) => string {
  const byKey = new Map(services.map(({ namespace, hostname, name }) => [`${namespace}/${hostname}`, name]))
  return waypoint => (waypoint === undefined ? 'None' : (byKey.get(waypoint.destination) ?? 'NA'))
}

export interface CertificateRow {
  readonly node: string
  readonly identity: string
  readonly type: 'Leaf' | 'Intermediate' | 'Root' | 'NA'
  readonly status: string
  /** The reason behind `Unavailable`. */
  readonly reason: string
  readonly valid: boolean
  readonly certificate: DumpCertificate | undefined
}

export function certificateRows({ node, dump }: AgentDump, now: number): CertificateRow[] {
  return dump.certificates.flatMap((entry): CertificateRow[] => {
    const [status, ...reason] = entry.state.split(': ')
    const base = { node, identity: entry.identity, status: status ?? '', reason: reason.join(': ') }
    const chain = entry.certChain ?? []
    if (chain.length === 0) return [{ ...base, type: 'NA', valid: false, certificate: undefined }]
    return chainOf(entry).map(({ type, certificate }) => ({
      ...base,
      type,
      valid: isValid(certificate, now),
      certificate
    }))
  })
}

export const certificateColumns: readonly Column<CertificateRow>[] = [
  { heading: 'CERTIFICATE NAME', cell: ({ identity }) => identity },
  { heading: 'TYPE', cell: ({ type }) => type },
  { heading: 'STATUS', cell: ({ status }) => status },
  { heading: 'VALID CERT', cell: ({ valid }) => String(valid) },
  { heading: 'SERIAL NUMBER', cell: ({ certificate }) => hexadecimal(certificate?.serialNumber) },
  { heading: 'NOT AFTER', cell: ({ certificate }) => certificate?.expirationTime ?? 'NA' },
  { heading: 'NOT BEFORE', cell: ({ certificate }) => certificate?.validFrom ?? 'NA' },
  { heading: 'NODE', cell: ({ node }) => node, wide: true },
  { heading: 'REASON', cell: ({ reason }) => reason || '-', wide: true }
]

function chainOf(entry: DumpCertificates): { type: CertificateRow['type']; certificate: DumpCertificate }[] {
  const chain = (entry.certChain ?? []).map((certificate, index) => ({
    type: index === 0 ? ('Leaf' as const) : ('Intermediate' as const),
    certificate
  }))
  return [...chain, ...(entry.rootCerts ?? []).map(certificate => ({ type: 'Root' as const, certificate }))]
}

export interface ConnectionRow {
  readonly node: string
  readonly workload: string
  readonly namespace: string
  readonly direction: 'Inbound' | 'Outbound'
  readonly local: string
  readonly remote: string
  readonly target: string
  readonly protocol: string
}

export interface ConnectionFilter {
  readonly namespace: string | undefined
  readonly direction: string | undefined
  /** Addresses instead of names. */
  readonly raw: boolean
}

export function connectionRows({ node, dump }: AgentDump, filter: ConnectionFilter): ConnectionRow[] {
  const name = filter.raw ? (address: string) => address : namesOf(dump)
  const rows = Object.values(dump.workloadState)
    .toSorted((a, b) => stateName(a).localeCompare(stateName(b)))
    .flatMap(({ info, connections }): ConnectionRow[] => {
      if (info === undefined) return []
      const base = { node, workload: `${info.name}.${info.namespace}`, namespace: info.namespace }
      const inbound = (connections?.inbound ?? []).map(
        ({ src, originalDst, actualDst, protocol }): ConnectionRow => ({
          ...base,
          direction: 'Inbound',
          local: name(actualDst),
          remote: name(src),
          target: name(originalDst ?? ''),
          protocol
        })
      )
      const outbound = (connections?.outbound ?? []).map(
        ({ src, originalDst, actualDst, protocol }): ConnectionRow => ({
          ...base,
          direction: 'Outbound',
          local: name(src),
          remote: name(actualDst),
          target: name(originalDst ?? ''),
          protocol
        })
      )
      return [...inbound, ...outbound]
    })
  return rows.filter(
    ({ namespace, direction }) =>
      (filter.namespace === undefined || namespace === filter.namespace) &&
      (filter.direction === undefined || direction.toLowerCase() === filter.direction)
  )
}

export const connectionColumns: readonly Column<ConnectionRow>[] = [
  { heading: 'WORKLOAD', cell: ({ workload }) => workload },
  { heading: 'DIRECTION', cell: ({ direction }) => direction },
  { heading: 'LOCAL', cell: ({ local }) => local },
  { heading: 'REMOTE', cell: ({ remote }) => remote },
  { heading: 'REMOTE TARGET', cell: ({ target }) => target },
  { heading: 'PROTOCOL', cell: ({ protocol }) => protocol },
  { heading: 'NODE', cell: ({ node }) => node, wide: true }
]

/** Names by the first address of each service, then of each workload, as istioctl finds them. */
function namesOf({ services, workloads }: AgentDump['dump']): (address: string) => string {
  const byIp = new Map<string, string>()
  for (const { name, namespace, workloadIps } of workloads) {
    const [ip] = workloadIps ?? []
    if (ip !== undefined) byIp.set(ip, `${name}.${namespace}`)
  }
  for (const { hostname, vips } of services) {
    const [vip] = vips ?? []
    if (vip !== undefined) byIp.set(afterSlash(vip), hostname)
  }
  return address => {
    const [, v6, v4, port] = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(address) ?? []
    const known = byIp.get(v6 ?? v4 ?? '')
    return known === undefined ? address : `${known}:${port}`
  }
}

function stateName({ info }: DumpWorkloadState): string {
  return `${info?.namespace ?? ''}/${info?.name ?? ''}`
}

function endpointCount({ endpoints }: DumpService): string {
  const all = Object.values(endpoints ?? {})
  return `${all.filter(({ status }) => (status ?? 'Healthy') === 'Healthy').length}/${all.length}`
}

function portsOf({ ports }: DumpService): string {
  return Object.entries(ports ?? {})
    .map(([port, target]) => (target === 0 || String(target) === port ? port : `${port}:${target}`))
    .join(',')
}

/** `network/ip` without the network. */
function afterSlash(text: string): string {
  return text.slice(text.indexOf('/') + 1)
}

function isValid({ validFrom, expirationTime }: DumpCertificate, now: number): boolean {
  const from = Date.parse(validFrom ?? '')
  const until = Date.parse(expirationTime ?? '')
  return from < now && now < until
}

function hexadecimal(serial: string | undefined): string {
  return serial !== undefined && /^\d+$/.test(serial) ? BigInt(serial).toString(16) : 'NA'
}
