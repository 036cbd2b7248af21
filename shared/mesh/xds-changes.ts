/** Pushes of a control plane as changes of the mesh. */
import type { MeshChange } from './store.ts'

export const ADDRESS_TYPE = 'type.googleapis.com/istio.workload.Address'
export const AUTHORIZATION_TYPE = 'type.googleapis.com/istio.security.Authorization'

interface Push {
  readonly typeUrl: string
  readonly resources: readonly { readonly name: string; readonly bytes: Uint8Array }[]
  readonly removed: readonly string[]
}

/** What comes goes in before what goes is taken out, so that a replaced endpoint leaves no gap. */
export function changesOf({ typeUrl, resources, removed }: Push): readonly MeshChange[] {
  switch (typeUrl) {
    case ADDRESS_TYPE:
      return [
        ...resources.map(({ name, bytes }) => ({ kind: 'address', name, bytes }) as const),
        ...removed.map(name => ({ kind: 'address-removed', name }) as const)
      ]
    case AUTHORIZATION_TYPE:
      return [
        ...resources.map(({ name, bytes }) => ({ kind: 'authorization', name, bytes }) as const),
        ...removed.map(name => ({ kind: 'authorization-removed', name }) as const)
      ]
    default:
      return []
  }
}
