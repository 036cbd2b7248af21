/** Registrations of webhooks, with the fields that the mesh uses. Source: Kubernetes API reference, admissionregistration.k8s.io/v1. */
import { namedType, type KubeObject, type ResourceType } from './object.ts'

export interface ValidatingWebhook {
  readonly name: string
  readonly clientConfig: {
    /** PEM in base64. */
    readonly caBundle?: string
    readonly url?: string
    readonly service?: {
      readonly namespace: string
      readonly name: string
      readonly path?: string
      readonly port?: number
    }
  }
  readonly failurePolicy?: 'Fail' | 'Ignore'
  readonly rules?: readonly object[]
  readonly objectSelector?: object
  readonly sideEffects: string
  readonly admissionReviewVersions: readonly string[]
}

export interface ValidatingWebhookConfiguration extends KubeObject {
  readonly webhooks?: readonly ValidatingWebhook[]
}

export const validatingWebhookConfigurations: ResourceType<ValidatingWebhookConfiguration> = {
  ...namedType<ValidatingWebhookConfiguration>(
    'admissionregistration.k8s.io',
    'v1',
    'ValidatingWebhookConfiguration'
  ),
  namespaced: false
}
