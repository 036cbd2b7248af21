/** What the status of a Gateway that we run should say. Source: Gateway API's published conditions. */
import type { Gateway } from '../../shared/kube/gateway-api.ts'
import type { Condition } from '../../shared/kube/object.ts'

export type Programmed =
  | { readonly kind: 'available'; readonly hostname: string }
  | { readonly kind: 'unavailable'; readonly reason: string }
  /** A Deployment of its name belongs to somebody else. */
  | { readonly kind: 'foreign' }

interface Said {
  readonly type: string
  readonly status: 'True' | 'False'
  readonly reason: string
  readonly message: string
}

/** The parts to write; undefined when the status is right. `now` in milliseconds. */
export function gatewayStatus(gateway: Gateway, programmed: Programmed, now: number): object | undefined {
  const generation = gateway.metadata.generation ?? 0
  const before = gateway.status?.conditions ?? []
  const said: readonly Said[] = [
    { type: 'Accepted', status: 'True', reason: 'Accepted', message: 'the control plane runs this waypoint' },
    programmedCondition(programmed)
  ]
  const merge = (existing: readonly Condition[], wanted: readonly Said[]): readonly Condition[] => [
    ...existing.filter(({ type }) => !wanted.some(each => each.type === type)),
    ...wanted.map(each => stamped(each, existing, generation, now))
  ]
  const conditions = merge(before, said)
  const formerListeners = (gateway.status?.listeners ?? []) as readonly {
    readonly name: string
    readonly attachedRoutes?: number
    readonly conditions?: readonly Condition[]
  }[]
  const listeners = (gateway.spec?.listeners ?? []).map(({ name }) => {
    const former = formerListeners.find(each => each.name === name)
    const resolved: Said = {
      type: 'ResolvedRefs',
      status: 'True',
      reason: 'ResolvedRefs',
      message: 'nothing is missing'
    }
    return {
      name,
      attachedRoutes: former?.attachedRoutes ?? 0,
      supportedKinds: [],
      conditions: merge(former?.conditions ?? [], [...said, resolved])
    }
  })
  const status = {
    conditions,
    listeners,
    // Once given it stays: traffic is refused rather than sent past a waypoint that is away.
    ...(programmed.kind === 'available'
      ? { addresses: [{ type: 'Hostname', value: programmed.hostname }] }
      : {})
  }
  const present = { ...gateway.status, ...status }
  return text(present) === text(gateway.status ?? {}) ? undefined : status
}

function programmedCondition(programmed: Programmed): Said {
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

/** With the time of its last change. */
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
function text(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part
  )
}
