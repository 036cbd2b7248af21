/** The part of a route's status that is ours: one entry a parent. Source: Gateway API v1, `RouteParentStatus`. */
import type { Route, RouteParentStatus } from '../../shared/kube/gateway-api.ts'
import type { Condition } from '../../shared/kube/object.ts'
import type { JsonObject } from '../cluster/objects.ts'
import { conditionText, type Condition as Said } from './condition.ts'
import { gatewayController, waypointController } from './gateway-class.ts'

/** What we say of a route for one parent; conditions by type. */
export interface ParentReport {
  readonly parentRef: JsonObject
  /** In whose name: of waypoints or of gateways. */
  readonly controller: string
  readonly conditions: Readonly<Record<string, Said>>
}

/** An API server keeps no more. */
const mostParents = 32

/** Entries of our name; what others wrote may have any shape. */
export function ownParents(parents: unknown): readonly RouteParentStatus[] {
  if (!Array.isArray(parents)) return []
  return (parents as readonly (Partial<RouteParentStatus> | null)[]).filter(isOurs)
}

function isOurs(entry: Partial<RouteParentStatus> | null): entry is RouteParentStatus {
  return entry?.controllerName === waypointController || entry?.controllerName === gatewayController
}

/** One text for entries that say the same, whenever they were written. */
export function parentsText(parents: readonly RouteParentStatus[]): string {
  return parents
    .map(({ parentRef, controllerName, conditions = [] }) => {
      const lines = conditions.map(({ type, status, reason = '', message = '', observedGeneration = 0 }) =>
        [type, observedGeneration, conditionText({ status, reason, message })].join('\n')
      )
      return [referenceText(parentRef), controllerName, ...lines.toSorted()].join('\n')
    })
    .toSorted()
    .join('\n\n')
}

/** What the reports look like in a status, without the times. */
export function reportedParents(
  reports: readonly ParentReport[],
  generation: number
): readonly RouteParentStatus[] {
  return reports.map(({ parentRef, controller, conditions }) => ({
    parentRef,
    controllerName: controller,
    conditions: Object.entries(conditions).map(([type, { status, reason, message }]) => ({
      type,
      status: status as Condition['status'],
      reason,
      message,
      observedGeneration: generation
    }))
  }))
}

/** All entries as they should be, others' untouched; undefined when they are. `now` in milliseconds. */
export function mergedParents(
  { metadata, status }: Route,
  reports: readonly ParentReport[],
  now: number
): readonly RouteParentStatus[] | undefined {
  const all = status?.parents ?? []
  const before = ownParents(all)
  const others = all.filter(entry => !isOurs(entry))
  const wanted = reportedParents(reports, metadata.generation ?? 0).slice(0, mostParents - others.length)
  if (parentsText(wanted) === parentsText(before)) return undefined
  const time = new Date(now).toISOString().replace(/\.\d+Z$/, 'Z')
  const ours = wanted.map(entry => {
    const text = referenceText(entry.parentRef)
    const former = before.find(each => referenceText(each.parentRef) === text)?.conditions ?? []
    return {
      ...entry,
      conditions: (entry.conditions ?? []).map(condition => {
        const same = former.find(({ type, status }) => type === condition.type && status === condition.status)
        return { ...condition, lastTransitionTime: same?.lastTransitionTime ?? time }
      })
    }
  })
  return [...others, ...ours]
}

/** Equal for references that mean the same, whether or not the API's defaults are spelled out. */
function referenceText(reference: JsonObject): string {
  const whole: JsonObject = { group: 'gateway.networking.k8s.io', kind: 'Gateway', ...reference }
  return JSON.stringify(Object.entries(whole).toSorted(([a], [b]) => (a < b ? -1 : 1)))
}
