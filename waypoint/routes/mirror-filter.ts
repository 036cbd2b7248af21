/** Source: Gateway API v1, HTTPRequestMirrorFilter. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { readBackendReference, type Place } from './backend-reference.ts'
import type { Mirror } from './route.ts'

export function readMirror(fields: Fields, place: Place): Mirror {
  const reference = fields.inner('backendRef')
  const fraction = fields.inner('fraction')
  const percent = fields.integer('percent', unsaid, 100)
  fields.end()
  if (fraction !== undefined && percent !== unsaid) {
    fields.problems.add(fields.path, 'has percent and fraction; keep one of them')
  }
  const share = fraction === undefined ? (percent === unsaid ? 1 : percent / 100) : readFraction(fraction)
  if (reference === undefined) {
    fields.problems.add(`${fields.path}.backendRef`, 'is required')
    return { backend: { kind: 'unresolved', reason: 'no backend is named' }, share }
  }
  reference.integer('weight', 1, 1_000_000) // a mirror has no others to share with
  const backend = readBackendReference(reference, place)
  reference.end()
  return { backend, share }
}

/** No percentage. */
const unsaid = -1
const maxInteger = 2 ** 31 - 1

function readFraction(fields: Fields): number {
  const numerator = fields.integer('numerator', 0, maxInteger)
  const denominator = fields.integer('denominator', 100, maxInteger)
  fields.end()
  if (numerator <= denominator && denominator > 0) return numerator / denominator
  fields.problems.add(fields.path, `${numerator}/${denominator} is no share of a whole`)
  return 0
}
