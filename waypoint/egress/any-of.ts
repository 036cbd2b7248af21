/** One of several endpoints that are all the same to us. */
import type { WorkloadUid } from '../../shared/mesh/model.ts'
import type { UsableEndpoint } from '../../shared/mesh/pick.ts'

/** By chance; of those that were tried only where there are no others. */
export function anyOf(
  endpoints: readonly UsableEndpoint[],
  tried: ReadonlySet<WorkloadUid>,
  random: () => number
): UsableEndpoint | undefined {
  const others = endpoints.filter(({ workload }) => !tried.has(workload.uid))
  const among = others.length > 0 ? others : endpoints
  return among[Math.floor(random() * among.length)]
}
