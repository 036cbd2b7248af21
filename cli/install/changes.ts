/** What an apply changed in an object, as paths of its fields. */
import type { KubeObject } from '../../shared/kube/object.ts'

/** Fields that the server keeps, and that say nothing of what was asked for. */
const serverOwned = ['managedFields', 'resourceVersion', 'generation', 'uid', 'creationTimestamp', 'selfLink']

/** Of a DaemonSet: counted by the server, although it is an annotation. */
export const templateGeneration = 'deprecated.daemonset.template.generation'

/** An object without what only the server may set: as it could have been created. */
export function withoutServerFields<T extends KubeObject>(object: T): T {
  const { annotations, ...others } = object.metadata
  const metadata = Object.fromEntries(Object.entries(others).filter(([name]) => !serverOwned.includes(name)))
  const kept = Object.entries(annotations ?? {}).filter(([name]) => name !== templateGeneration)
  if (kept.length > 0) metadata['annotations'] = Object.fromEntries(kept)
  const rest = Object.fromEntries(Object.entries(object).filter(([name]) => name !== 'status'))
  return { ...rest, metadata } as unknown as T
}

/** Paths such as `spec.replicas` or `spec.template.spec.containers[0].image` that differ, in order. */
export function changedFields(before: KubeObject, after: KubeObject): readonly string[] {
  const changed: string[] = []
  compare(withoutServerFields(before), withoutServerFields(after), '', changed)
  return changed
}

function compare(before: unknown, after: unknown, path: string, changed: string[]): void {
  if (Object.is(before, after)) return
  if (isRecord(before) && isRecord(after)) {
    for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
      compare(before[key], after[key], path === '' ? key : `${path}.${key}`, changed)
    }
    return
  }
  if (Array.isArray(before) && Array.isArray(after) && before.length === after.length) {
    for (const [index, value] of before.entries()) compare(value, after[index], `${path}[${index}]`, changed)
    return
  }
  changed.push(path)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
