/** The worker thread of shared-view.test.ts: reads as fast as it can, and checks that what it sees belongs together. */
import { parentPort, workerData } from 'node:worker_threads'
import { openSharedMesh, type SharedMesh } from '../../../shared/mesh/shared-view.ts'

interface Task {
  readonly mesh: SharedMesh
  readonly stop: Int32Array
  readonly names: readonly string[]
}

const { mesh, stop, names } = workerData as Task
const reader = openSharedMesh(mesh)
const faults: string[] = []
let reads = 0
let attempts = 0
let changes = 0
let last = ''
while (Atomics.load(stop, 0) === 0) {
  const name = names[reads % names.length] ?? ''
  const seen = reader.read(view => {
    attempts += 1
    const service = view.service(`shop/${name}.shop.svc.cluster.local`)
    if (service === undefined) return undefined
    const table = view.endpointTable(`shop/${name}.shop.svc.cluster.local`)
    const rows = Array.from({ length: table.length }, (_, row) => ({
      workload: table.workload(row),
      port: table.targetPort(row, 80),
      capacity: table.capacity(row)
    }))
    const byAddress = rows.map(({ workload }) =>
      view.workloadByAddress('', workload.addresses[0] ?? ('' as never))
    )
    const [first] = rows
    const policies = first === undefined ? [] : view.policiesOf(first.workload)
    return { stamp: service.subjectAltNames[0], rows, byAddress, policies }
  })
  reads += 1
  if (seen === undefined) continue
  // The writer gives a service and all its endpoints one stamp in one step; a mixture was torn.
  for (const [index, { workload, port, capacity }] of seen.rows.entries()) {
    const { canonicalRevision: stamp } = workload
    if (stamp !== seen.stamp || capacity !== Number(stamp) || port !== (Number(stamp) % 60_000) + 1) {
      faults.push(`${name}: ${seen.stamp} with ${workload.uid} ${stamp}, capacity ${capacity}, port ${port}`)
    }
    if (seen.byAddress[index]?.uid !== workload.uid) faults.push(`${workload.uid} is not at its address`)
  }
  for (const { rules } of seen.rows.length === 0 ? [] : seen.policies) {
    const [principal] = rules[0]?.[0]?.[0]?.principals ?? []
    if (principal?.kind !== 'exact' || principal.value !== seen.stamp) {
      faults.push(`${name}: ${seen.stamp} with policy ${JSON.stringify(principal)}`)
    }
  }
  if (seen.rows.length > 0 && seen.policies.length !== 1)
    faults.push(`${name}: ${seen.policies.length} policies`)
  if (seen.stamp !== last) changes += 1
  last = seen.stamp ?? ''
}
parentPort?.postMessage({ reads, attempts, changes, faults: faults.slice(0, 5) }, [])
