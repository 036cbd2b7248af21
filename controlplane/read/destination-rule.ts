/** Reads DestinationRules. Waypoints read the rest of them: here is what decides whom a rule is for. */
import type { DestinationRuleObject } from '../cluster/objects.ts'
import type { Fields } from './fields.ts'
import { readMeta } from './meta.ts'

export function readDestinationRule(object: Fields): DestinationRuleObject {
  const spec = object.at('spec')
  const host = spec.text('host')
  if (host === '') spec.fail('host', 'is missing: name the service that the rule is for')
  return {
    kind: 'DestinationRule',
    meta: readMeta(object),
    host,
    exportTo: spec.texts('exportTo'),
    labelKeys: [...new Set(askedLabels(spec))].toSorted(),
    spec: spec.has('workloadSelector') ? undefined : spec.json()
  }
}

function* askedLabels(spec: Fields): Generator<string> {
  yield* ofPolicy(spec.at('trafficPolicy'))
  for (const subset of spec.list('subsets')) {
    yield* Object.keys(subset.labels('labels'))
    yield* ofPolicy(subset.at('trafficPolicy'))
  }
}

/** `failoverPriority` says `key`, or `key=value`. */
function* ofPolicy(policy: Fields): Generator<string> {
  for (const level of [policy, ...policy.list('portLevelSettings')]) {
    const balancing = level.at('loadBalancer')
    for (const locality of ['localityLbSetting', 'zoneAwareLbSetting']) {
      for (const label of balancing.at(locality).texts('failoverPriority')) {
        yield label.replace(/=.*$/s, '')
      }
    }
  }
}
