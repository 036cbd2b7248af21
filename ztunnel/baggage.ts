/** How a workload describes itself to the other end of a tunnel, for telemetry there. */
import { formatBaggage } from '../shared/hbone/connect.ts'
import type { Workload } from '../shared/mesh/model.ts'

/** Records do not change, so neither does their text. */
const texts = new WeakMap<Workload, string>()

export function baggageOf(workload: Workload): string {
  let text = texts.get(workload)
  if (text === undefined) {
    text = formatBaggage({
      cluster: workload.clusterId,
      namespace: workload.namespace,
      workloadType: workload.workloadType,
      workloadName: workload.workloadName,
      service: workload.canonicalName,
      version: workload.canonicalRevision,
      region: workload.locality.region,
      zone: workload.locality.zone
    })
    texts.set(workload, text)
  }
  return text
}
