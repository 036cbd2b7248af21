/** Which pod of a service a request or connection goes to, seen from this waypoint: usable and near ones first. */
import { pickEndpoint, type PickContext } from '../shared/mesh/pick.ts'
import type { Service } from '../shared/mesh/model.ts'
import { ip } from '../shared/net/address.ts'
import { ownWorkload, type OwnPlace } from './own-workload.ts'
import type { Target } from './upstream/tunnels.ts'
import type { Waypoint } from './waypoint.ts'

export interface Means extends Pick<Waypoint, 'view' | 'random'> {
  readonly config: OwnPlace
}

/** For requests of the waypoint's own: no client's affinity is theirs. */
const nobody = ip('0.0.0.0')

/** Undefined: the service has no such port, or nobody who is ready behind it. */
export function pickPod(
  { view, config, random }: Means,
  service: Service,
  port: number,
  context: Partial<Pick<PickContext, 'sourceIp' | 'load' | 'exclude'>> = {}
): Target | undefined {
  const mesh = view()
  return pickEndpoint(mesh, service, port, 'standard', {
    source: ownWorkload(mesh, config),
    sourceIp: nobody,
    random,
    ...(context.load === undefined ? {} : { loadBalancing: 'least-request' }),
    ...context
  })
}
