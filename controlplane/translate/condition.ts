/** Conditions that the control plane writes into the status of objects. */

export interface Condition {
  readonly status: string
  readonly reason: string
  readonly message: string
}

/** Source: Istio's published condition types; the last one is ours. */
export const waypointBound = 'istio.io/WaypointBound'
export const waypointMissing = 'istio.io/WaypointMissing'
export const ztunnelAccepted = 'ZtunnelAccepted'
export const waypointAccepted = 'WaypointAccepted'
export const accepted = 'underpass.dev/Accepted'

export const ownConditionTypes: ReadonlySet<string> = new Set([
  waypointBound,
  waypointMissing,
  ztunnelAccepted,
  waypointAccepted,
  accepted
])

/** One text for equal conditions. */
export function conditionText({ status, reason, message }: Condition): string {
  return `${status}\n${reason}\n${message}`
}

export function conditionFrom(text: string): Condition {
  const [status = '', reason = '', ...message] = text.split('\n')
  return { status, reason, message: message.join('\n') }
}
