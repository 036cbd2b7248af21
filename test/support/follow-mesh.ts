/** A mesh that follows a control plane, as a ztunnel's does. */
import type { Test } from 'tap'
import { MeshStore, type MeshChange } from '../../shared/mesh/store.ts'
import { DeltaClient, type DeltaResponse, type SubscriptionMode } from '../../shared/xds/delta-client.ts'
import type { ControlPlaneTarget } from '../../shared/xds/grpc-client.ts'

export const ADDRESS = 'type.googleapis.com/istio.workload.Address'
const AUTHORIZATION = 'type.googleapis.com/istio.security.Authorization'

/** Ends with the test. */
export function followMesh(
  t: Test,
  target: ControlPlaneTarget,
  pod: { readonly name: string; readonly node: string },
  mode: SubscriptionMode
): { client: DeltaClient; store: MeshStore; responses: readonly DeltaResponse[] } {
  const store = new MeshStore()
  const responses: DeltaResponse[] = []
  const client = new DeltaClient({
    target,
    node: {
      id: `ztunnel~1.1.1.1~${pod.name}.istio-system~istio-system.svc.cluster.local`,
      metadata: { NAME: pod.name, NAMESPACE: 'istio-system', NODE_NAME: pod.node, INSTANCE_IPS: '1.1.1.1' }
    },
    types: [
      { typeUrl: AUTHORIZATION, mode: 'wildcard' },
      { typeUrl: ADDRESS, mode }
    ],
    onResponse: response => {
      responses.push(response)
      return store.apply(changesOf(response)).rejected
    }
  })
  const stopping = new AbortController()
  const running = client.run(stopping.signal)
  t.teardown(async () => {
    stopping.abort()
    await running
  })
  return { client, store, responses }
}

function changesOf({ typeUrl, resources, removed }: DeltaResponse): MeshChange[] {
  const kind = typeUrl === ADDRESS ? 'address' : 'authorization'
  return [
    ...resources.map(resource => ({ kind, ...resource }) as const),
    ...removed.map(name => ({ kind: `${kind}-removed`, name }) as const)
  ]
}
