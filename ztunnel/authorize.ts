/** Layer-4 policy for one inbound connection, against what the mesh says now. */
import type { Workload } from '../shared/mesh/model.ts'
import { evaluate } from '../shared/policy/evaluate.ts'
import { MeshError } from '../shared/runtime/errors.ts'
import { policyConnection, type TrackedConnection } from './connections.ts'
import type { Pod } from './pod.ts'

type Inbound = TrackedConnection & { direction: 'inbound' }

/** Throws MeshError POLICY_REJECTED with the policy that decided. */
export function authorize(pod: Pod, workload: Workload, connection: Inbound): void {
  const facts = policyConnection(connection)
  const { verdict, unknown } = pod.mesh.read(view => ({
    verdict: evaluate(view.policiesOf(workload), facts),
    unknown: pod.unknownPolicies.untold(view, workload)
  }))
  pod.unknownPolicies.tell(pod.log, workload, unknown)
  const level = pod.config.logPolicyDecisions ? 'info' : 'debug'
  if (pod.log.enabled(level)) {
    for (const note of verdict.notes) pod.log[level](note)
    pod.log[level](`${verdict.kind}: ${verdict.reason}`, {
      src: facts.sourceIp,
      identity: facts.identity,
      port: facts.destinationPort
    })
  }
  if (verdict.kind === 'deny') {
    throw new MeshError('POLICY_REJECTED', `connection closed due to policy rejection: ${verdict.reason}`)
  }
}

/** After a change of policies: ends the pod's connections that are not allowed any more; returns how many. */
export function recheck(pod: Pod): number {
  const { namespace, name, serviceAccount } = pod.description.info
  if (pod.connections.size === 0) return 0
  return pod.mesh.read(view => {
    const workload = view.workloadByName(namespace, name, serviceAccount)
    // Without its record nobody knows which policies hold; new connections wait for it, live ones go on.
    if (workload === undefined) return 0
    const policies = view.policiesOf(workload)
    return pod.connections.recheck(connection => evaluate(policies, connection).kind === 'allow')
  })
}
