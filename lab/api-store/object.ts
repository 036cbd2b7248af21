/** Objects as the store keeps them: frozen, complete, with a revision. */
import type { OwnerReference as NamedOwner } from '../../shared/kube/object.ts'
import type { JsonObject } from './json.ts'

export interface ApiObject extends JsonObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: Metadata
}

export interface Metadata extends JsonObject {
  readonly name: string
  readonly generateName?: string
  readonly namespace?: string
  readonly uid: string
  readonly resourceVersion: string
  readonly generation?: number
  readonly creationTimestamp: string
  readonly deletionTimestamp?: string
  readonly deletionGracePeriodSeconds?: number
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly finalizers?: readonly string[]
  readonly ownerReferences?: readonly OwnerReference[]
  readonly managedFields?: readonly ManagedFields[]
}

export interface OwnerReference extends JsonObject, NamedOwner {}

/** Which fields a writer owns. Source: Kubernetes API reference, `ManagedFieldsEntry`. */
export interface ManagedFields extends JsonObject {
  readonly manager: string
  readonly operation: 'Apply' | 'Update'
  readonly apiVersion: string
  readonly time?: string
  readonly fieldsType: 'FieldsV1'
  readonly fieldsV1: JsonObject
  readonly subresource?: string
}

export interface ObjectKey {
  /** '' for objects of the cluster. */
  readonly namespace: string
  readonly name: string
}

/** The object with these metadata fields replaced; a field that is undefined is removed. */
export function withMetadata(object: ApiObject, fields: Partial<Metadata>): ApiObject {
  const metadata = Object.fromEntries(
    Object.entries({ ...object.metadata, ...fields }).filter(([, value]) => value !== undefined)
  )
  return { ...object, metadata: metadata as unknown as Metadata }
}

/** Seconds since the epoch as Kubernetes writes times. */
export function timestamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}
