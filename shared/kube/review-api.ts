/** Reviews: created to ask the API server, never stored. Source: Kubernetes API reference. */
import { type KubeObject, namedType, type ResourceType } from './object.ts'

export interface TokenReview extends KubeObject {
  readonly spec: { readonly token: string; readonly audiences?: readonly string[] }
  readonly status?: {
    readonly authenticated?: boolean
    readonly audiences?: readonly string[]
    readonly error?: string
    readonly user?: {
      readonly username?: string
      readonly uid?: string
      readonly groups?: readonly string[]
      readonly extra?: Readonly<Record<string, readonly string[]>>
    }
  }
}

export interface TokenRequest extends KubeObject {
  readonly spec: {
    readonly audiences: readonly string[]
    readonly expirationSeconds?: number
    readonly boundObjectRef?: {
      readonly kind: string
      readonly apiVersion: string
      readonly name: string
      readonly uid?: string
    }
  }
  readonly status?: { readonly token: string; readonly expirationTimestamp: string }
}

export interface SubjectAccessReview extends KubeObject {
  readonly spec: {
    readonly user?: string
    readonly groups?: readonly string[]
    readonly resourceAttributes?: Readonly<Record<string, string>>
  }
  readonly status?: { readonly allowed: boolean; readonly reason?: string }
}

export const tokenReviews: ResourceType<TokenReview> = {
  ...namedType<TokenReview>('authentication.k8s.io', 'v1', 'TokenReview'),
  namespaced: false
}
export const subjectAccessReviews: ResourceType<SubjectAccessReview> = {
  ...namedType<SubjectAccessReview>('authorization.k8s.io', 'v1', 'SubjectAccessReview'),
  namespaced: false
}
