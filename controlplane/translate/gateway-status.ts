/** The status of a Gateway that we run: from what is to be said of it to what is written. Source: Gateway API v1. */
import type { Gateway } from '../../shared/kube/gateway-api.ts'
import type { Condition } from '../../shared/kube/object.ts'
import type { GatewayAddress } from '../cluster/objects.ts'

/** What became of the Deployment. */
export type Programmed =
  | { readonly kind: 'available'; readonly hostname: string }
  | { readonly kind: 'unavailable'; readonly reason: string }
  /** A Deployment of its name belongs to somebody else. */
  | { readonly kind: 'foreign' }

export interface Said {
  readonly type: string
  readonly status: 'True' | 'False'
  readonly reason: string
  readonly message: string
}

export interface GatewayReport {
  readonly conditions: readonly Said[]
  readonly listeners: readonly ListenerReport[]
  /** Undefined: those that are there stay. */
  readonly addresses: readonly GatewayAddress[] | undefined
}

export interface ListenerReport {
  readonly name: string
  readonly attachedRoutes: number
  readonly supportedKinds: readonly { readonly group: string; readonly kind: string }[]
  readonly conditions: readonly Said[]
}

/** Of a Gateway, where there is something to say. */
const occasional: ReadonlySet<string> = new Set(['ResolvedRefs', 'InsecureFrontendValidationMode'])

/** The parts to write; undefined when the status is right. `now` in milliseconds. */
export function gatewayStatus(gateway: Gateway, report: GatewayReport, now: number): object | undefined {
  const generation = gateway.metadata.generation ?? 0
  const former = (gateway.status?.listeners ?? []) as readonly {
    readonly name: string
    readonly conditions?: readonly Condition[]
  }[]
  const before = (gateway.status?.conditions ?? []).filter(
    ({ type }) => !occasional.has(type) || report.conditions.some(said => said.type === type)
  )
  const status = {
    conditions: mergedConditions(before, report.conditions, generation, now),
    listeners: report.listeners.map(listener => {
      const before = former.find(({ name }) => name === listener.name)?.conditions ?? []
      return { ...listener, conditions: mergedConditions(before, listener.conditions, generation, now) }
    }),
    ...(report.addresses === undefined ? {} : { addresses: report.addresses })
  }
  const present = { ...gateway.status, ...status }
  return text(present) === text(gateway.status ?? {}) ? undefined : status
}

/** Whether the proxies of a Gateway can be reached as far as their Deployment is concerned. */
export function deploymentCondition(programmed: Programmed): Said {
  const type = 'Programmed'
  switch (programmed.kind) {
    case 'available':
      return { type, status: 'True', reason: 'Programmed', message: `reachable as ${programmed.hostname}` }
    case 'unavailable':
      return {
        type,
        status: 'False',
        reason: 'AddressNotAssigned',
        message: `its Deployment is not available: ${programmed.reason}`
      }
    default:
      return {
        type,
        status: 'False',
        reason: 'Invalid',
        message:
          'a Deployment of its name belongs to somebody else; rename the Gateway or delete the Deployment'
      }
  }
}

/** Others' conditions stay; ours keep the time of their last change. */
export function mergedConditions(
  before: readonly Condition[],
  wanted: readonly Said[],
  generation: number,
  now: number
): readonly Condition[] {
  return [
    ...before.filter(({ type }) => !wanted.some(each => each.type === type)),
    ...wanted.map(each => stamped(each, before, generation, now))
  ]
}

function stamped(said: Said, before: readonly Condition[], generation: number, now: number): Condition {
  const former = before.find(({ type }) => type === said.type)
  const kept = former?.status === said.status ? former.lastTransitionTime : undefined
  return {
    ...said,
    lastTransitionTime: kept ?? new Date(now).toISOString().replace(/\.\d+Z$/, 'Z'),
    observedGeneration: generation
  }
}

/** Equal for equal values, however their fields are ordered. */
export function text(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part
  )
}
