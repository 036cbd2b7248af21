/** Who a waypoint is in its traces. Source: Istio's names of services in traces, `<canonical name>.<namespace>`. */
import type { Workload } from '../../../shared/mesh/model.ts'
import { packageVersion } from '../../../shared/runtime/package-version.ts'
import type { Config } from '../../config.ts'
import { nodeId } from '../../xds.ts'
import type { Origin } from './otlp.ts'
import type { Self } from './request-span.ts'

export function originOf({ gateway, podNamespace }: Config, { canonicalName }: Workload): Origin {
  const name = canonicalName === '' ? gateway.name : canonicalName
  return { attributes: [['service.name', `${name}.${podNamespace}`]], version: packageVersion() }
}

export function selfInTraces(config: Config, { canonicalName, canonicalRevision }: Workload): Self {
  return {
    nodeId: nodeId(config),
    clusterId: config.clusterId,
    meshId: config.trustDomain,
    namespace: config.podNamespace,
    canonicalName: canonicalName === '' ? config.gateway.name : canonicalName,
    canonicalRevision: canonicalRevision === '' ? 'latest' : canonicalRevision
  }
}
