/** `trafficPolicy.outlierDetection`. Source: Istio's published OutlierDetection. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import type { OutlierPolicy } from '../traffic-policy.ts'
import { readDuration, type Unsupported } from './read-part.ts'

const mostCount = 2 ** 32 - 1
/** Of whichever kind, where they are looked at. */
const usualErrors = 5
const usualIntervalMs = 10_000
const usualEjectionMs = 30_000
const usualEjectionPercent = 10

export function readOutlierDetection(
  fields: Fields,
  unsupported: Unsupported
): { readonly outliers: OutlierPolicy } {
  fields.integer('consecutiveErrors', 0, mostCount) // deprecated, and without an effect in Istio too
  const codes = fields.list('outlierDetectionHttpErrorCodes', (value, path) => {
    const isStatus = Number.isInteger(value) && (value as number) >= 100 && (value as number) <= 599
    if (!isStatus) fields.problems.add(path, 'expected a status from 100 to 599')
    return value
  })
  if (codes.length > 0) {
    unsupported.add(
      `${fields.path}.outlierDetectionHttpErrorCodes`,
      'is not carried out by waypoints; use consecutive5xxErrors or consecutiveGatewayErrors'
    )
  }
  const split = fields.flag('splitExternalLocalOriginErrors', false)
  const localFailures = fields.integer('consecutiveLocalOriginFailures', 0, mostCount) || usualErrors
  return {
    outliers: {
      consecutive5xx: fields.integer('consecutive5xxErrors', usualErrors, mostCount),
      consecutiveGatewayErrors: fields.integer('consecutiveGatewayErrors', 0, mostCount),
      consecutiveLocalFailures: split ? localFailures : undefined,
      intervalMs: readDuration(fields, 'interval') ?? usualIntervalMs,
      baseEjectionMs: readDuration(fields, 'baseEjectionTime') ?? usualEjectionMs,
      // 0 is what the field says when nobody set it.
      maxEjectionPercent: fields.integer('maxEjectionPercent', 0, 100) || usualEjectionPercent,
      minHealthPercent: fields.integer('minHealthPercent', 0, 100)
    }
  }
}
