/** The Gateway API's own conformance suite on a real cluster: the mesh profiles, with waypoints of ours. */
import t from 'tap'
import { clusterMissing } from '../support/cluster.ts'
import { installMesh, startClusterWithImage } from '../support/mesh-cluster.ts'
import { conforms } from './conformance-suite.ts'

t.setTimeout(560_000)

/** Everything that the mesh profiles know beyond their core, of what we have. */
const features = [
  'HTTPRoute303RedirectStatusCode',
  'HTTPRoute307RedirectStatusCode',
  'HTTPRoute308RedirectStatusCode',
  'HTTPRouteParentRefPort',
  'HTTPRouteResponseHeaderModification',
  'Mesh',
  'HTTPRoute',
  'GRPCRoute',
  'GRPCRouteNamedRouteRule',
  'GRPCRouteRequestHeaderModifier',
  'MeshClusterIPMatching',
  'MeshConsumerRoute',
  'MeshHTTPRouteBackendRequestHeaderModification',
  'MeshHTTPRouteNamedRouteRule',
  'MeshHTTPRouteQueryParamMatching',
  'MeshHTTPRouteRedirectPath',
  'MeshHTTPRouteRedirectPort',
  'MeshHTTPRouteRewritePath',
  'MeshHTTPRouteSchemeRedirect'
]
const namespaces = ['gateway-conformance-mesh', 'gateway-conformance-mesh-consumer']

t.test('the mesh profiles of the Gateway API', { skip: clusterMissing() }, async t => {
  const cluster = await startClusterWithImage(t, 2)
  await installMesh(cluster)
  for (const name of namespaces) await cluster.kubectl(['apply', '-f', '-'], withWaypoint(name))
  for (const name of namespaces) {
    const wait = ['wait', '--for=condition=Programmed', 'gateway/waypoint', '--timeout=60s']
    await cluster.kubectl(['-n', name, ...wait])
  }
  await conforms(t, cluster.kubeconfig, {
    name: 'mesh',
    profiles: ['MESH-HTTP', 'MESH-GRPC'],
    features,
    leftOut: [],
    arguments: [
      ...['--mesh-name=underpass', '--gateway-class=underpass-waypoint'],
      '--namespace-labels=istio.io/dataplane-mode=ambient,istio.io/use-waypoint=waypoint'
    ]
  })
})

function withWaypoint(name: string): string {
  return `apiVersion: v1
kind: Namespace
metadata:
  name: ${name}
  labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint, gateway-conformance: mesh}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: ${name}}
spec:
  gatewayClassName: underpass-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
`
}
