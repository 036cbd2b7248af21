/**
 * `POST /v1/explain`: what would happen to a connection by the desired state. The same decisions as the
 * agents', on a mesh filled from the snapshot that is sent to them.
 */
import type { ExplainAnswer } from '../../shared/mesh/explain-endpoint.ts'
import { readExplainRequest } from '../../shared/mesh/explain-endpoint.ts'
import { explainPath } from '../../shared/mesh/explain.ts'
import { MeshStore, type MeshChange } from '../../shared/mesh/store.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import type { MeshTable, Snapshot } from '../desired/snapshot.ts'

/** A function that answers a request's JSON body with JSON; a refusal is an HttpProblem. */
export type Explain = (desired: DesiredState, request: unknown) => unknown

/** The mesh is built when somebody asks for the first time, and follows the snapshot from then on. */
export function explainDesired(): Explain {
  let mesh: FollowedMesh | undefined
  return (desired, body): ExplainAnswer => {
    const request = readExplainRequest(body)
    mesh ??= new FollowedMesh()
    mesh.follow(desired.snapshot)
    const result = explainPath(mesh.store.view(), request, {})
    return { apiVersion: 'underpass.dev/v1', state: 'desired', result }
  }
}

/** A mesh that holds what a snapshot holds; catching up costs one comparison of versions a resource. */
class FollowedMesh {
  readonly store = new MeshStore()
  readonly #held: Readonly<Record<MeshTable, Map<string, string>>> = {
    address: new Map(),
    authorization: new Map()
  }

  follow(snapshot: Snapshot): void {
    this.store.apply([...this.#changes(snapshot, 'authorization'), ...this.#changes(snapshot, 'address')])
  }

  #changes(snapshot: Snapshot, table: MeshTable): MeshChange[] {
    const held = this.#held[table]
    const wanted = snapshot.table(table)
    const removed = table === 'address' ? ('address-removed' as const) : ('authorization-removed' as const)
    const changes: MeshChange[] = []
    for (const name of held.keys()) {
      if (wanted.has(name)) continue
      held.delete(name)
      changes.push({ kind: removed, name })
    }
    for (const { name, version, value } of wanted.values()) {
      if (held.get(name) === version) continue
      held.set(name, version)
      changes.push({ kind: table, name, bytes: value })
    }
    return changes
  }
}
