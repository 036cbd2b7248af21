/** How workloads describe themselves to the other end of a tunnel, for telemetry there. */
import { formatBaggage, parseBaggage, type Baggage } from '../shared/hbone/connect.ts'
import type { Workload } from '../shared/mesh/model.ts'
import { Recent } from '../shared/mesh/recent.ts'

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

/** Texts of peers that are kept read. */
const READ_TEXTS = 256
/** Longer ones are read each time, so that no peer can fill the memory with them. */
const LONGEST_KEPT = 512

/** What others say about themselves: a peer says the same with every tunnel, so it is read once. */
export class BaggageReader {
  readonly #read = new Recent<string, Baggage>(READ_TEXTS)

  /** As {@link parseBaggage}. */
  read(values: readonly string[]): Baggage | undefined {
    const [text] = values
    if (text === undefined || values.length > 1 || text.length > LONGEST_KEPT) return parseBaggage(values)
    const known = this.#read.get(text)
    if (known !== undefined) return known
    const baggage = parseBaggage(values)
    if (baggage !== undefined) this.#read.set(text, baggage)
    return baggage
  }
}
