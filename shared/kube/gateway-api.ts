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

export const gatewayClasses: ResourceType<GatewayClass> = {
  ...namedType<GatewayClass>('gateway.networking.k8s.io', 'v1', 'GatewayClass'),
  plural: 'gatewayclasses',
  namespaced: false
}
export const gateways: ResourceType<Gateway> = namedType('gateway.networking.k8s.io', 'v1', 'Gateway')
