/** Where this waypoint stands, for choosing near endpoints: its record in the mesh, or what its configuration tells. */
import { noLabels, type Workload } from '../shared/mesh/model.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import type { Config } from './config.ts'

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
    uid: `${clusterId}//Pod/${podNamespace}/${podName}`,
    name: podName,
    namespace: podNamespace,
    addresses: [],
    hostname: '',
    network,
    networkMode: 'Standard',
    protocol: 'HBONE',
    nativeTunnel: false,
    trustDomain,
    serviceAccount: '',
    waypoint: undefined,
    networkGateway: undefined,
    applicationTunnel: undefined,
    node: nodeName,
    canonicalName: '',
    canonicalRevision: '',
    workloadName: '',
    workloadType: 'deployment',
    clusterId,
    locality: { region: '', zone: '', subzone: '' },
    services: new Map(),
    authorizationPolicies: [],
    status: 'Healthy',
    capacity: 1,
    labels: noLabels
  }
}
