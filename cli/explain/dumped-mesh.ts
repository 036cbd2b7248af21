/** The mesh that an agent's dump shows, for asking it without the agent. */
import { readLocalConfig } from '../../shared/mesh/local-config.ts'
import { MeshStore } from '../../shared/mesh/store.ts'
import type { MeshView } from '../../shared/mesh/view.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { CommandFailure } from '../command.ts'
import type { ConfigDump, DumpPolicy, DumpService, DumpWorkload } from '../config/dump.ts'

/** Throws {@link CommandFailure} with the fields that cannot be read. */
export function meshOfDump(dump: ConfigDump): MeshView {
  const memberships = membershipsOf(dump.services)
  const form = {
    workloads: dump.workloads.map(workload => ({
      trustDomain: 'cluster.local',
      ...picked(workload, workloadFields),
      services: memberships.get(workload.uid) ?? {}
    })),
    services: dump.services.map(service => picked(service, serviceFields)),
    policies: dump.policies.map(policy => ({ dryRun: false, ...picked(policy, policyFields) }))
  }
  const store = new MeshStore()
  try {
    const { workloads, services, policies } = readLocalConfig(JSON.stringify(form))
    const { rejected } = store.apply([
      ...policies.map(policy => ({ kind: 'policy' as const, policy })),
      ...services.map(service => ({ kind: 'service' as const, service })),
      ...workloads.map(workload => ({ kind: 'workload' as const, workload }))
    ])
    const [first] = rejected
    if (first !== undefined) throw new Error(`${first.name}: ${first.reason}`)
  } catch (error) {
    throw new CommandFailure(`the dump cannot be explained: ${messageOf(error)}`, { cause: error })
  }
  return store.view()
}

/** A dump tells of a service's endpoints at the service; the mesh wants them at the workload: service → ports, by uid. */
function membershipsOf(
  services: readonly DumpService[]
): Map<string, Record<string, Record<string, number>>> {
  const found = new Map<string, Record<string, Record<string, number>>>()
  for (const { namespace, hostname, endpoints } of services) {
    for (const [uid, { port = {} }] of Object.entries(endpoints ?? {})) {
      const memberships = found.get(uid) ?? {}
      memberships[`${namespace}/${hostname}`] = port
      found.set(uid, memberships)
    }
  }
  return found
}

/** Only what decisions read: what a later version adds to its dump is no obstacle. */
function picked(
  value: DumpWorkload | DumpService | DumpPolicy,
  fields: readonly string[]
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).filter(([name, field]) => fields.includes(name) && field !== null)
  )
}

const workloadFields = [
  ...[
    'uid',
    'name',
    'namespace',
    'workloadIps',
    'hostname',
    'network',
    'networkMode',
    'protocol',
    'nativeTunnel'
  ],
  ...[
    'trustDomain',
    'serviceAccount',
    'waypoint',
    'networkGateway',
    'applicationTunnel',
    'node',
    'clusterId'
  ],
  ...[
    'workloadName',
    'workloadType',
    'canonicalName',
    'canonicalRevision',
    'locality',
    'authorizationPolicies'
  ],
  ...['status', 'capacity']
]
const serviceFields = [
  ...['name', 'namespace', 'hostname', 'vips', 'cidrVips', 'ports', 'subjectAltNames', 'waypoint'],
  ...['weightedWaypoints', 'loadBalancer', 'ipFamilies', 'canonical', 'visibility']
]
const policyFields = ['name', 'namespace', 'scope', 'action', 'rules', 'dryRun']
