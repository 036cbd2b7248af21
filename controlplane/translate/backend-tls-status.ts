/** The part of a policy's status that is ours: one entry a Gateway. Source: Gateway API v1, `PolicyAncestorStatus`. */
import type {
  BackendTlsPolicy,
  PolicyAncestorStatus,
  RouteParentStatus
} from '../../shared/kube/gateway-api.ts'
import { mergedParents, ownParents, parentsText, reportedParents, type ParentReport } from './route-status.ts'

/** An API server keeps no more. */
const mostAncestors = 16

/** What we say of a policy for one Gateway: the same as of a route for a parent. */
export type AncestorReport = ParentReport

/** Entries of our name; what others wrote may have any shape. */
export function ownAncestors(ancestors: unknown): readonly PolicyAncestorStatus[] {
  return ownParents(asParents(ancestors)).map(asAncestor)
}

/** One text for entries that say the same, whenever they were written. */
export function ancestorsText(ancestors: readonly PolicyAncestorStatus[]): string {
  return parentsText(asParents(ancestors))
}

/** What the reports look like in a status, without the times. */
export function reportedAncestors(
  reports: readonly AncestorReport[],
  generation: number
): readonly PolicyAncestorStatus[] {
  return reportedParents(reports.slice(0, mostAncestors), generation).map(asAncestor)
}

/** All entries as they should be, others' untouched; undefined when they are. `now` in milliseconds. */
export function mergedAncestors(
  { metadata, status, ...policy }: BackendTlsPolicy,
  reports: readonly AncestorReport[],
  now: number
): readonly PolicyAncestorStatus[] | undefined {
  const parents = asParents(status?.ancestors ?? [])
  const others = parents.length - ownParents(parents).length
  const room = reports.slice(0, Math.max(0, mostAncestors - others))
  return mergedParents({ ...policy, metadata, status: { parents } }, room, now)?.map(asAncestor)
}

function asParents(ancestors: unknown): readonly RouteParentStatus[] {
  if (!Array.isArray(ancestors)) return []
  return (ancestors as readonly (Partial<PolicyAncestorStatus> | null)[]).map(entry => {
    const { ancestorRef = {}, controllerName = '', ...rest } = entry ?? {}
    return { parentRef: ancestorRef, controllerName, ...rest }
  })
}

function asAncestor({ parentRef: ancestorRef, ...rest }: RouteParentStatus): PolicyAncestorStatus {
  return { ancestorRef, ...rest }
}
