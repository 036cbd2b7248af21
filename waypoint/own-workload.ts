/** Where this waypoint stands, for choosing near endpoints: its record in the mesh, or what its configuration tells. */
import type { Workload } from '../shared/mesh/model.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import type { Config } from './config.ts'
import { unknownWorkload } from './unknown-workload.ts'

export type OwnPlace = Pick<
  Config,
  'podName' | 'podNamespace' | 'self' | 'network' | 'nodeName' | 'clusterId' | 'trustDomain'
>

const standIns = new WeakMap<OwnPlace, Workload>()

export function ownWorkload(view: MeshView, config: OwnPlace): Workload {
  const { clusterId, podNamespace, podName } = config
  const found = view.workloadByUid(`${clusterId}//Pod/${podNamespace}/${podName}`)
  if (found !== undefined) return found
  let standIn = standIns.get(config)
  if (standIn === undefined) standIns.set(config, (standIn = standInOf(config)))
  return standIn
}

function standInOf({ podName, podNamespace, network, nodeName, clusterId, trustDomain }: OwnPlace): Workload {
  return {
    ...unknownWorkload,
    uid: `${clusterId}//Pod/${podNamespace}/${podName}`,
    name: podName,
    namespace: podNamespace,
    network,
    protocol: 'HBONE',
    trustDomain,
    node: nodeName,
    workloadType: 'deployment',
    clusterId
  }
}
