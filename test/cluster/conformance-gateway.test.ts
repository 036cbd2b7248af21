/** The Gateway API's own conformance suite on a real cluster: the profiles of gateways. */
import t from 'tap'
import path from 'node:path'
import { clusterMissing } from '../support/cluster.ts'
import { installMesh, startClusterWithImage } from '../support/mesh-cluster.ts'
import { suiteApplication } from '../support/suite-application.ts'
import { conforms } from './conformance-suite.ts'

t.setTimeout(900_000)

/** Everything that the profiles know beyond their core, of what we have. */
const features = `
  Gateway HTTPRoute GRPCRoute TLSRoute ReferenceGrant BackendTLSPolicy BackendTLSPolicySANValidation
  GatewayAddressEmpty GatewayBackendClientCertificate GatewayFrontendClientCertificateValidation
  GatewayFrontendClientCertificateValidationInsecureFallback GatewayHTTPListenerIsolation
  GatewayHTTPSListenerDetectMisdirectedRequests GatewayInfrastructurePropagation GatewayPort8080
  HTTPRoute303RedirectStatusCode HTTPRoute307RedirectStatusCode HTTPRoute308RedirectStatusCode
  HTTPRouteBackendProtocolH2C HTTPRouteBackendProtocolWebSocket HTTPRouteBackendRequestHeaderModification
  HTTPRouteBackendRequestRedirect HTTPRouteBackendTimeout HTTPRouteBackendURLRewrite HTTPRouteCORS
  HTTPRouteDestinationPortMatching HTTPRouteHostRewrite HTTPRouteMethodMatching HTTPRouteNamedRouteRule
  HTTPRouteParentRefPort HTTPRoutePathRedirect HTTPRoutePathRewrite HTTPRoutePortRedirect
  HTTPRouteQueryParamMatching HTTPRouteRequestMirror HTTPRouteRequestMultipleMirrors
  HTTPRouteRequestPercentageMirror HTTPRouteRequestTimeout HTTPRouteResponseHeaderModification HTTPRouteRetry
  HTTPRouteRetryBackendTimeout HTTPRouteRetryConnectionError HTTPRouteSchemeRedirect
  GRPCRouteNamedRouteRule GRPCRouteRequestHeaderModifier TLSRouteModeMixed TLSRouteModeTerminate
`
  .trim()
  .split(/\s+/)

/** What we do not have; the report names it too. */
const leftOut = ['GatewayStaticAddresses', 'ListenerSet']

t.test('the gateway profiles of the Gateway API', { skip: clusterMissing() }, async t => {
  const cluster = await startClusterWithImage(t, 2)
  const peers = process.env['UNDERPASS_PEERS'] ?? ''
  // The suite waits for all of its applications, whatever they are for.
  await cluster.importProgram(path.join(peers, 'coredns'), 'registry.k8s.io/coredns/coredns:v1.14.6')
  const echo = 'registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0'
  await cluster.importProgram(suiteApplication(), echo)
  await installMesh(cluster)
  await cluster.giveLoadBalancers()
  await conforms(t, cluster.kubeconfig, {
    name: 'gateway',
    profiles: ['GATEWAY-HTTP', 'GATEWAY-GRPC', 'GATEWAY-TLS'],
    features,
    leftOut,
    arguments: ['--gateway-class=underpass']
  })
})
