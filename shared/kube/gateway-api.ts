/** Gateways, with the fields that the mesh uses. Source: Gateway API v1. */
import { type Condition, type KubeObject, namedType, type ResourceType } from './object.ts'

export interface GatewayClass extends KubeObject {
  readonly spec?: { readonly controllerName?: string; readonly description?: string }
  readonly status?: { readonly conditions?: readonly Condition[] }
}

export interface GatewayListener {
  readonly name: string
  readonly port: number
  readonly protocol: string
  readonly hostname?: string
  readonly tls?: unknown
  readonly allowedRoutes?: unknown
}

export interface Gateway extends KubeObject {
  readonly spec?: {
    readonly gatewayClassName?: string
    readonly listeners?: readonly GatewayListener[]
    readonly addresses?: readonly { readonly type?: string; readonly value?: string }[]
  }
  readonly status?: {
    readonly addresses?: readonly { readonly type?: string; readonly value: string }[]
    readonly conditions?: readonly Condition[]
    readonly listeners?: readonly unknown[]
  }
}

/** What one controller says of a route for one parent. */
export interface RouteParentStatus {
  readonly parentRef: Readonly<Record<string, unknown>>
  readonly controllerName: string
  readonly conditions?: readonly Condition[]
}

export interface Route extends KubeObject {
  readonly spec?: unknown
  readonly status?: { readonly parents?: readonly RouteParentStatus[] }
}

/** What one controller says of a policy for one Gateway. */
export interface PolicyAncestorStatus {
  readonly ancestorRef: Readonly<Record<string, unknown>>
  readonly controllerName: string
  readonly conditions?: readonly Condition[]
}

export interface BackendTlsPolicy extends KubeObject {
  readonly spec?: unknown
  readonly status?: { readonly ancestors?: readonly PolicyAncestorStatus[] }
}

export const gatewayClasses: ResourceType<GatewayClass> = {
  ...namedType<GatewayClass>('gateway.networking.k8s.io', 'v1', 'GatewayClass'),
  plural: 'gatewayclasses',
  namespaced: false
}
export const gateways: ResourceType<Gateway> = namedType('gateway.networking.k8s.io', 'v1', 'Gateway')
export const httpRoutes: ResourceType<Route> = namedType('gateway.networking.k8s.io', 'v1', 'HTTPRoute')
export const grpcRoutes: ResourceType<Route> = namedType('gateway.networking.k8s.io', 'v1', 'GRPCRoute')
export const tlsRoutes: ResourceType<Route> = namedType('gateway.networking.k8s.io', 'v1', 'TLSRoute')
export const backendTlsPolicies: ResourceType<BackendTlsPolicy> = {
  ...namedType<BackendTlsPolicy>('gateway.networking.k8s.io', 'v1', 'BackendTLSPolicy'),
  plural: 'backendtlspolicies'
}
/** Of the version that every release of the API serves. */
export const referenceGrants: ResourceType = namedType(
  'gateway.networking.k8s.io',
  'v1beta1',
  'ReferenceGrant'
)
