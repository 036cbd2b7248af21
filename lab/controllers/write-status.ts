/** Writes an object's status when it differs, with the generation that it is about. */
import type { KubeObject, ResourceType } from '../../shared/kube/resources.ts'
import type { ObjectAccess } from '../api-store/object-access.ts'
import { refOf } from '../kinds.ts'

export function writeStatus<T extends KubeObject & { readonly status?: object }>(
  objects: ObjectAccess,
  type: ResourceType<T>,
  object: T,
  status: object
): void {
  objects.edit(
    type,
    refOf(object),
    current => {
      const { generation } = object.metadata
      const next = {
        ...current.status,
        ...(generation === undefined ? {} : { observedGeneration: generation }),
        ...status
      }
      return sameFields(current.status, next) ? current : { ...current, status: next }
    },
    { subresource: 'status', fieldManager: 'kube-controller-manager' }
  )
}

function sameFields(a: object | undefined, b: object): boolean {
  const before = new Map(Object.entries(a ?? {}))
  const after = Object.entries(b).filter(([, value]) => value !== undefined)
  return (
    after.length === before.size &&
    after.every(([key, value]) => JSON.stringify(before.get(key)) === JSON.stringify(value))
  )
}
