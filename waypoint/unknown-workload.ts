/** Somebody of whom the mesh says nothing, for those who have to tell of a workload all the same. */
import { noLabels, type Workload } from '../shared/mesh/model.ts'

export const unknownWorkload: Workload = {
  uid: '',
  name: '',
  namespace: '',
  addresses: [],
  hostname: '',
  network: '',
  networkMode: 'Standard',
  protocol: 'TCP',
  nativeTunnel: false,
  trustDomain: '',
  serviceAccount: '',
  waypoint: undefined,
  networkGateway: undefined,
  applicationTunnel: undefined,
  node: '',
  canonicalName: '',
  canonicalRevision: '',
  workloadName: '',
  workloadType: 'pod',
  clusterId: '',
  locality: { region: '', zone: '', subzone: '' },
  services: new Map(),
  authorizationPolicies: [],
  status: 'Healthy',
  capacity: 1,
  labels: noLabels
}
