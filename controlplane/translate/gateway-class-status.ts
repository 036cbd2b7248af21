/** What the status of a class of ours says. Source: Gateway API v1, `GatewayClassStatus`. */
import type { GatewayClass } from '../../shared/kube/gateway-api.ts'
import { gatewayController } from './gateway-class.ts'
import { mergedConditions, text, type Said } from './gateway-status.ts'

/** What gateways carry out beyond their core, by the names that the API gives its features; sorted. */
const gatewayFeatures: readonly string[] = [
  'BackendTLSPolicy',
  'BackendTLSPolicySANValidation',
  'GRPCRoute',
  'GRPCRouteNamedRouteRule',
  'GRPCRouteRequestHeaderModifier',
  'Gateway',
  'GatewayAddressEmpty',
  'GatewayBackendClientCertificate',
  'GatewayFrontendClientCertificateValidation',
  'GatewayFrontendClientCertificateValidationInsecureFallback',
  'GatewayHTTPListenerIsolation',
  'GatewayHTTPSListenerDetectMisdirectedRequests',
  'GatewayInfrastructurePropagation',
  'GatewayPort8080',
  'HTTPRoute',
  'HTTPRoute303RedirectStatusCode',
  'HTTPRoute307RedirectStatusCode',
  'HTTPRoute308RedirectStatusCode',
  'HTTPRouteBackendProtocolH2C',
  'HTTPRouteBackendProtocolWebSocket',
  'HTTPRouteBackendRequestHeaderModification',
  'HTTPRouteBackendRequestRedirect',
  'HTTPRouteBackendTimeout',
  'HTTPRouteBackendURLRewrite',
  'HTTPRouteCORS',
  'HTTPRouteDestinationPortMatching',
  'HTTPRouteHostRewrite',
  'HTTPRouteMethodMatching',
  'HTTPRouteNamedRouteRule',
  'HTTPRouteParentRefPort',
  'HTTPRoutePathRedirect',
  'HTTPRoutePathRewrite',
  'HTTPRoutePortRedirect',
  'HTTPRouteQueryParamMatching',
  'HTTPRouteRequestMirror',
  'HTTPRouteRequestMultipleMirrors',
  'HTTPRouteRequestPercentageMirror',
  'HTTPRouteRequestTimeout',
  'HTTPRouteResponseHeaderModification',
  'HTTPRouteRetry',
  'HTTPRouteRetryBackendTimeout',
  'HTTPRouteRetryConnectionError',
  'HTTPRouteSchemeRedirect',
  'ReferenceGrant',
  'TLSRoute',
  'TLSRouteModeMixed',
  'TLSRouteModeTerminate'
].toSorted()

/** The parts to write for a class of ours; undefined when the status is right. `now` in milliseconds. */
export function gatewayClassStatus(found: GatewayClass, now: number): object | undefined {
  const accepted: Said = {
    type: 'Accepted',
    status: 'True',
    reason: 'Accepted',
    message: 'the control plane runs Gateways of this class'
  }
  const before = found.status?.conditions ?? []
  const conditions = mergedConditions(before, [accepted], found.metadata.generation ?? 0, now)
  const features = found.spec?.controllerName === gatewayController ? gatewayFeatures : []
  const status = {
    conditions,
    ...(features.length === 0 ? {} : { supportedFeatures: features.map(name => ({ name })) })
  }
  return text({ ...found.status, ...status }) === text(found.status ?? {}) ? undefined : status
}
