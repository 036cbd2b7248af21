/** JSON Merge Patch, RFC 7396. */
import { clone, define, isObject, type MutableObject } from '../json.ts'

export function applyMergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return clone(patch)
  const merged: MutableObject = isObject(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else define(merged, key, applyMergePatch(Object.hasOwn(merged, key) ? merged[key] : undefined, value))
  }
  return merged
}
