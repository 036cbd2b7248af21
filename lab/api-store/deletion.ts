/** What a request to delete does to an object: remove it, mark it, or nothing because it goes already. */
import { conflict } from './api-error.ts'
import { at, numberOf, textOf } from './json.ts'
import { timestamp, withMetadata, type ApiObject } from './object.ts'
import type { Resource } from './resources.ts'

export interface DeletionRequest {
  readonly gracePeriodSeconds?: number | undefined
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan' | undefined
  readonly uid?: string | undefined
  readonly resourceVersion?: string | undefined
}

export type Decision =
  | { readonly kind: 'remove' }
  | { readonly kind: 'mark'; readonly object: ApiObject }
  | { readonly kind: 'wait' }

export const foregroundFinalizer = 'foregroundDeletion'
export const orphanFinalizer = 'orphan'

export function decideDeletion(
  resource: Resource,
  current: ApiObject,
  request: DeletionRequest,
  now: number,
  hasDependents: () => boolean
): Decision {
  checkPreconditions(resource, current, request)
  const finalizers = finalizersAfter(current, request, hasDependents)
  const grace = graceSeconds(resource, current, request)
  const { deletionTimestamp, deletionGracePeriodSeconds = 0 } = current.metadata
  const namespace = resource.collection === '/namespaces'
  if (deletionTimestamp !== undefined) {
    if (grace === 0 && finalizers.length === 0 && !namespace) return { kind: 'remove' }
    if (grace >= deletionGracePeriodSeconds) return { kind: 'wait' }
    return {
      kind: 'mark',
      object: marked(
        current,
        finalizers,
        grace,
        Date.parse(deletionTimestamp) - (deletionGracePeriodSeconds - grace) * 1000
      )
    }
  }
  if (namespace) {
    const terminating = { ...current, status: { phase: 'Terminating' } }
    return { kind: 'mark', object: withMetadata(terminating, { deletionTimestamp: timestamp(now) }) }
  }
  if (grace === 0 && finalizers.length === 0) return { kind: 'remove' }
  return { kind: 'mark', object: marked(current, finalizers, grace, now + grace * 1000) }
}

function marked(current: ApiObject, finalizers: readonly string[], grace: number, at: number): ApiObject {
  const { generation } = current.metadata
  return withMetadata(current, {
    deletionTimestamp: timestamp(at),
    deletionGracePeriodSeconds: grace,
    ...(finalizers.length === 0 ? {} : { finalizers }),
    ...(generation === undefined || current.metadata.deletionTimestamp !== undefined
      ? {}
      : { generation: generation + 1 })
  })
}

function checkPreconditions(
  resource: Resource,
  current: ApiObject,
  { uid, resourceVersion }: DeletionRequest
): void {
  const { metadata } = current
  const failed = (what: string, wanted: string, found: string): Error =>
    conflict(
      resource,
      metadata.name,
      `Precondition failed: ${what} in precondition: ${wanted}, ${what} in object meta: ${found}`
    )
  if (uid !== undefined && uid !== metadata.uid) throw failed('UID', uid, metadata.uid)
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion) {
    throw failed('ResourceVersion', resourceVersion, metadata.resourceVersion)
  }
}

function finalizersAfter(
  current: ApiObject,
  request: DeletionRequest,
  hasDependents: () => boolean
): readonly string[] {
  const { finalizers = [] } = current.metadata
  const { propagationPolicy } = request
  if (propagationPolicy === undefined) return finalizers
  const others = finalizers.filter(name => name !== foregroundFinalizer && name !== orphanFinalizer)
  if (propagationPolicy === 'Background' || !hasDependents()) return others
  return [...others, propagationPolicy === 'Foreground' ? foregroundFinalizer : orphanFinalizer]
}

/** Only pods on a node have containers to end; all else goes at once. */
function graceSeconds(resource: Resource, current: ApiObject, request: DeletionRequest): number {
  if (resource.collection !== '/pods') return 0
  const phase = textOf(at(current, 'status', 'phase'))
  if (textOf(at(current, 'spec', 'nodeName')) === '' || phase === 'Succeeded' || phase === 'Failed') return 0
  const { deletionGracePeriodSeconds } = current.metadata
  const wanted = request.gracePeriodSeconds
  if (wanted !== undefined) return Math.max(0, wanted)
  return deletionGracePeriodSeconds ?? numberOf(at(current, 'spec', 'terminationGracePeriodSeconds')) ?? 30
}

/** The last finalizer of an object that is being deleted is gone, and no container runs any more. */
export function mayGo(object: ApiObject): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds = 0, finalizers = [] } = object.metadata
  if (deletionTimestamp === undefined || finalizers.length > 0 || deletionGracePeriodSeconds > 0) return false
  return object.kind !== 'Namespace' || object.apiVersion !== 'v1'
}
