/** How a ztunnel takes a large mesh from a control plane: time, memory, and what one change costs it then. */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { CLIENT } from './local-mesh.ts'
import { largeMesh, largeMeshWorkload, type LargeMesh } from './large-mesh.ts'
import {
  ADDRESS_TYPE,
  startControlPlane,
  type Delivery,
  type TestControlPlane
} from './test-control-plane.ts'
import {
  startProxy,
  twoNodes,
  type Proxy,
  type ProxyOptions,
  type Teardown,
  type TwoNodes
} from './two-nodes.ts'
import { wireMesh } from './wire-mesh.ts'

export interface MeshLoad {
  readonly nodes: TwoNodes
  readonly plane: TestControlPlane
  /** On node a, with everything taken. */
  readonly proxy: Proxy
  readonly figures: LoadFigures
}

export interface LoadFigures {
  /** Bytes of the one response that brings the mesh. */
  readonly bytes: number
  /** From handing that response to gRPC to its acknowledgement. */
  readonly seconds: number
  /** Resident memory in MiB: the most so far, and afterwards. */
  readonly peakMiB: number
  readonly restMiB: number
  /** Median time from a change of one workload to its acknowledgement, in milliseconds. */
  readonly changeMs: number
}

/** Changes that the median is of. */
const CHANGES = 51

/** Starts a ztunnel of this kind on a control plane that holds the mesh, and the two workloads of `wire-mesh.ts`. */
export async function loadMesh(
  t: Teardown,
  { kind, ...mesh }: LargeMesh & Pick<ProxyOptions, 'kind'>
): Promise<MeshLoad> {
  const nodes = await twoNodes(t)
  const { addresses = {} } = wireMesh(nodes)
  const plane = await startControlPlane(t, [nodes.a, nodes.b], {
    addresses: { ...largeMesh(mesh), ...addresses }
  })
  const env = { ...plane.caEnv, ...plane.xdsEnv }
  const proxy = await startProxy(t, nodes.a, { kind, workload: CLIENT, localConfig: '', env })
  await plane.settled()
  const first = deliveryOf(plane, 0)
  const changes: number[] = []
  for (let change = 0; change < CHANGES; change++) {
    const seen = addressDeliveries(plane).length
    const workload = largeMeshWorkload((change * 997) % mesh.workloads, mesh.services, `v${change + 2}`)
    plane.put({ addresses: { [workload.uid]: { workload } } })
    await plane.settled()
    changes.push(deliveryOf(plane, seen).ms)
  }
  await delay(3000) // what is given back is given back by then
  const status = readFileSync(`/proc/${proxy.pid}/status`, 'utf8')
  const mebibytes = (field: string): number =>
    Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024
  const figures = {
    bytes: first.bytes,
    seconds: first.ms / 1000,
    peakMiB: mebibytes('VmHWM'),
    restMiB: mebibytes('VmRSS'),
    changeMs: changes.toSorted((a, b) => a - b)[CHANGES >> 1] ?? NaN
  }
  return { nodes, plane, proxy, figures }
}

function addressDeliveries({ deliveries }: TestControlPlane): readonly Delivery[] {
  return deliveries.filter(({ type }) => type === ADDRESS_TYPE)
}

function deliveryOf(plane: TestControlPlane, index: number): Delivery {
  const found = addressDeliveries(plane)[index]
  if (found === undefined) throw new Error('the mesh was not acknowledged')
  return found
}
