/** Writes an object's status when it differs, with the generation that it is about where the kind has that field. */
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
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
      const fields = Object.entries({ observedGeneration: generation, ...status })
      const written = Object.fromEntries(fields.filter(([, value]) => value !== undefined))
      const next = { ...current.status, ...written }
      return sameFields(current.status, next) ? current : { ...current, status: next }
    },
    { subresource: 'status', fieldManager: 'kube-controller-manager' }
  )
}

function sameFields(a: object | undefined, b: object): boolean {
  const before = new Map(Object.entries(a ?? {}))
  const after = Object.entries(b)
  return (
    after.length === before.size &&
    after.every(([key, value]) => JSON.stringify(before.get(key)) === JSON.stringify(value))
  )
}
