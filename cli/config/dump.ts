/**
 * The answer of an agent to `GET /config_dump`, as far as it is shown. Agents of other versions and the Rust
 * ztunnel answer too: lists may come as maps, and any field may be absent.
 * Source: the form that `istioctl ztunnel-config` reads.
 */
import { CommandFailure } from '../command.ts'

export interface DumpWaypoint {
  /** `network/ip`, or `namespace/hostname`. */
  readonly destination: string
}

export interface DumpWorkload {
  readonly uid: string
  readonly name: string
  readonly namespace: string
  readonly workloadIps?: readonly string[]
  readonly waypoint?: DumpWaypoint
  readonly protocol?: string
  readonly node?: string
  readonly network?: string
  readonly serviceAccount?: string
  readonly trustDomain?: string
  readonly workloadName?: string
  readonly workloadType?: string
  readonly status?: string
  readonly clusterId?: string
  readonly authorizationPolicies?: readonly string[]
}

export interface DumpService {
  readonly name: string
  readonly namespace: string
  readonly hostname: string
  /** `network/ip`. */
  readonly vips?: readonly string[]
  readonly ports?: Readonly<Record<string, number>>
  readonly endpoints?: Readonly<
    Record<string, { readonly status?: string; readonly port?: Readonly<Record<string, number>> }>
  >
  readonly waypoint?: DumpWaypoint
  readonly loadBalancer?: { readonly mode?: string }
}

export interface DumpPolicy {
  readonly name: string
  readonly namespace: string
  readonly scope?: string
  readonly action?: string
  readonly rules?: readonly unknown[]
  readonly dryRun?: boolean
}

export interface DumpCertificate {
  /** Decimal. */
  readonly serialNumber?: string
  readonly validFrom?: string
  readonly expirationTime?: string
}

export interface DumpCertificates {
  readonly identity: string
  /** `Available`, `Initializing`, `Unavailable: <reason>`. */
  readonly state: string
  readonly certChain?: readonly DumpCertificate[]
  readonly rootCerts?: readonly DumpCertificate[]
}

export interface DumpConnection {
  readonly src: string
  readonly originalDst?: string | null
  readonly actualDst: string
  readonly protocol: string
}

export interface DumpWorkloadState {
  readonly state?: string
  readonly info?: { readonly name: string; readonly namespace: string; readonly serviceAccount?: string }
  readonly connections?: {
    readonly inbound?: readonly DumpConnection[]
    readonly outbound?: readonly DumpConnection[]
  }
}

export interface ConfigDump {
  readonly workloads: readonly DumpWorkload[]
  readonly services: readonly DumpService[]
  readonly policies: readonly DumpPolicy[]
  readonly certificates: readonly DumpCertificates[]
  readonly workloadState: Readonly<Record<string, DumpWorkloadState>>
  readonly version: Readonly<Record<string, string>>
  /** Everything, as it came. */
  readonly whole: object
}

/** Throws {@link CommandFailure} when the text is no dump; `where` names it. */
export function readConfigDump(text: string, where: string): ConfigDump {
  let whole: unknown
  try {
    whole = JSON.parse(text)
  } catch (error) {
    throw new CommandFailure(`${where}: not JSON; a dump is the answer of an agent to GET /config_dump`, {
      cause: error
    })
  }
  if (typeof whole !== 'object' || whole === null || Array.isArray(whole)) {
    throw new CommandFailure(`${where}: not a dump of an agent (expected an object)`)
  }
  const field = fieldsOf(whole)
  if (
    field('workloads') === undefined &&
    field('services') === undefined &&
    field('certificates') === undefined
  ) {
    throw new CommandFailure(
      `${where}: not a dump of an agent (it has no workloads, services or certificates)`
    )
  }
  return {
    workloads: listOf(field('workloads')),
    services: listOf(field('services')),
    policies: listOf(field('policies')),
    certificates: listOf(field('certificates')),
    workloadState: objectOf(field('workloadState')),
    version: objectOf(field('version')),
    whole
  }
}

// What follows trusts the agents for the shape of each entry: `never` fits whatever the caller declares.

/** Keys are matched whatever their case, as istioctl does. */
function fieldsOf(whole: object): (name: string) => unknown {
  const fields = new Map(Object.entries(whole).map(([name, value]) => [name.toLowerCase(), value as unknown]))
  return name => fields.get(name.toLowerCase())
}

function listOf(value: unknown): readonly never[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value) as never[]
}

function objectOf(value: unknown): Readonly<Record<string, never>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, never>>)
    : {}
}
