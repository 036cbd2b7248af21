/**
 * ServiceEntries whose endpoints are names: what waypoints are told of them, and when they need one. Source: Istio's
 * published `resolution` and annotation istio.io/connect-strategy.
 */
import type { TrafficExtension } from '../../shared/mesh/model.ts'
import type { ServiceEntryObject } from '../cluster/objects.ts'
import { connectStrategyAnnotation } from '../read/core.ts'
import type { Condition } from './condition.ts'

/** Undefined: its endpoints are addresses, or whatever was addressed. */
export function outsideTraffic(entry: ServiceEntryObject): TrafficExtension | undefined {
  const { resolution } = entry
  if (resolution === 'NONE' || resolution === 'STATIC') return undefined
  return { clientIpAffinitySeconds: 0, resolution, ...(isRacing(entry) ? { racing: true } : {}) }
}

/** For an entry that uses no waypoint: what does not work without one. */
export function missingWaypoint(entry: ServiceEntryObject): Condition | undefined {
  if (entry.resolution === 'DYNAMIC_DNS') {
    return {
      status: 'True',
      reason: 'NoWaypointForWildcardService',
      message:
        'only a waypoint can tell the names under a wildcard apart; name one by the label istio.io/use-waypoint'
    }
  }
  if (!isRacing(entry) || outsideTraffic(entry) === undefined) return undefined
  return {
    status: 'True',
    reason: 'NoWaypointForRacingConnectStrategy',
    message: `only a waypoint carries out the annotation ${connectStrategyAnnotation}; name one by the label istio.io/use-waypoint`
  }
}

function isRacing({ meta: { annotations } }: ServiceEntryObject): boolean {
  return annotations[connectStrategyAnnotation] === 'RACE_FIRST_TCP_CONNECT'
}
