/** Events: two groups show the same objects under different names of fields; they are kept as the core group has them. */
import type { ApiObject } from '../object.ts'
import { fill, type Strategy } from './strategy.ts'

/** Fields by their name in `events.k8s.io/v1` and in the core group. */
const names: readonly (readonly [group: string, core: string])[] = [
  ['regarding', 'involvedObject'],
  ['note', 'message'],
  ['reportingController', 'reportingComponent'],
  ['deprecatedSource', 'source'],
  ['deprecatedFirstTimestamp', 'firstTimestamp'],
  ['deprecatedLastTimestamp', 'lastTimestamp'],
  ['deprecatedCount', 'count']
]
const toCore = new Map(names)
const fromCore = new Map(names.map(([group, core]) => [core, group]))

export function toCoreEvent(event: ApiObject): ApiObject {
  return { ...renamed(event, toCore), apiVersion: 'v1' }
}

export function fromCoreEvent(event: ApiObject): ApiObject {
  return { ...renamed(event, fromCore), apiVersion: 'events.k8s.io/v1' }
}

function renamed(event: ApiObject, fields: ReadonlyMap<string, string>): ApiObject {
  const entries = Object.entries(event).map(([field, value]) => [fields.get(field) ?? field, value] as const)
  return Object.fromEntries(entries) as unknown as ApiObject
}

/** The core group's events are from before optional fields were left out. */
export const coreEventStrategy: Strategy = {
  setDefaults: event =>
    fill(event, {
      eventTime: null,
      firstTimestamp: null,
      lastTimestamp: null,
      reportingComponent: '',
      reportingInstance: ''
    })
}

export const eventStrategy: Strategy = {
  setDefaults: event => fill(event, { eventTime: null })
}
