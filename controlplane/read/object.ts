/** From what the API server sends to what the control plane keeps, or the field that is wrong. */
import type { Kind, MeshObject } from '../cluster/objects.ts'
import { readBackendTlsPolicy, readConfigMap } from './backend-tls.ts'
import { readEndpointSlice, readNamespace, readNode, readPod, readSecret, readService } from './core.ts'
import { readDestinationRule } from './destination-rule.ts'
import { readVirtualService } from './virtual-service.ts'
import { FieldError, Fields } from './fields.ts'
import { readGateway, readGatewayClass } from './gateway.ts'
import { readGrpcRoute, readHttpRoute, readReferenceGrant, readTlsRoute } from './route.ts'
import {
  readAuthorizationPolicy,
  readPeerAuthentication,
  readRateLimitPolicy,
  readRequestAuthentication,
  readServiceEntry,
  readTelemetry,
  readWorkloadEntry
} from './istio.ts'

export type ReadResult =
  | { readonly kind: 'object'; readonly object: MeshObject }
  | { readonly kind: 'problem'; readonly field: string; readonly message: string }

const readers: { readonly [K in Kind]: (object: Fields) => MeshObject } = {
  Namespace: readNamespace,
  Node: readNode,
  Pod: readPod,
  Service: readService,
  EndpointSlice: readEndpointSlice,
  ServiceEntry: readServiceEntry,
  WorkloadEntry: readWorkloadEntry,
  Gateway: readGateway,
  GatewayClass: readGatewayClass,
  AuthorizationPolicy: readAuthorizationPolicy,
  PeerAuthentication: readPeerAuthentication,
  RequestAuthentication: readRequestAuthentication,
  RateLimitPolicy: readRateLimitPolicy,
  Telemetry: readTelemetry,
  DestinationRule: readDestinationRule,
  VirtualService: readVirtualService,
  HTTPRoute: readHttpRoute,
  GRPCRoute: readGrpcRoute,
  TLSRoute: readTlsRoute,
  ReferenceGrant: readReferenceGrant,
  Secret: readSecret,
  BackendTLSPolicy: readBackendTlsPolicy,
  ConfigMap: readConfigMap
}

export function readObject(kind: Kind, raw: unknown): ReadResult {
  try {
    return { kind: 'object', object: readers[kind](new Fields(raw, '')) }
  } catch (error) {
    if (!(error instanceof FieldError)) throw error
    return { kind: 'problem', field: error.field, message: error.message }
  }
}
