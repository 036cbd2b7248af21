/** Metadata of an object, trimmed to what is used. */
import type { Labels, Meta } from '../cluster/objects.ts'
import { conditionText, ownConditionTypes } from '../translate/condition.ts'
import type { Fields } from './fields.ts'

const none: Labels = Object.freeze({})

/** `annotations` names those to keep; the rest is dropped, as it may be large. */
export function readMeta(object: Fields, annotations: readonly string[] = []): Meta {
  const metadata = object.at('metadata')
  const name = metadata.text('name')
  if (name === '') metadata.fail('name', 'is missing')
  return {
    namespace: metadata.text('namespace'),
    name,
    uid: metadata.text('uid'),
    labels: metadata.labels('labels'),
    annotations: annotations.length === 0 ? none : only(metadata.labels('annotations'), annotations),
    createdMs: Date.parse(metadata.text('creationTimestamp')) || 0,
    generation: metadata.whole('generation', { max: Number.MAX_SAFE_INTEGER }),
    conditions: conditionsOf(object)
  }
}

/** Those that the control plane writes, in the form in which it compares them. */
function conditionsOf(object: Fields): Labels {
  let ours: Record<string, string> | undefined
  for (const condition of object.at('status').list('conditions')) {
    const type = condition.text('type')
    if (!ownConditionTypes.has(type)) continue
    ours ??= {}
    ours[type] = conditionText({
      status: condition.text('status'),
      reason: condition.text('reason'),
      message: condition.text('message')
    })
  }
  return ours ?? none
}

function only(labels: Labels, names: readonly string[]): Labels {
  let kept: Record<string, string> | undefined
  for (const name of names) {
    const value = labels[name]
    if (value !== undefined) (kept ??= {})[name] = value
  }
  return kept ?? none
}
