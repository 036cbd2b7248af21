/** A pod's state in one word, as `kubectl get pods` puts it. */
import { at, isObject, listOf, numberOf, objectOf, textOf, type JsonObject } from '../json.ts'
import type { ApiObject } from '../object.ts'
import { age } from './duration.ts'

export function podReady(pod: ApiObject): string {
  const ready = containerStates(pod, 'containerStatuses').filter(status => status['ready'] === true)
  const sidecars = listOf(at(pod, 'spec', 'initContainers'))
    .map(objectOf)
    .filter(isSidecar)
  const readySidecars = containerStates(pod, 'initContainerStatuses').filter(
    status => status['ready'] === true && sidecars.some(({ name }) => name === status['name'])
  )
  return `${ready.length + readySidecars.length}/${listOf(at(pod, 'spec', 'containers')).length + sidecars.length}`
}

export function podRestarts(pod: ApiObject, now: number): string {
  const states = containerStates(pod, 'containerStatuses')
  const restarts = states.reduce((sum, status) => sum + (numberOf(status['restartCount']) ?? 0), 0)
  const last = states
    .map(status => textOf(at(status, 'lastState', 'terminated', 'finishedAt')))
    .filter(time => time !== '')
    .toSorted()
    .at(-1)
  return restarts === 0 || last === undefined ? String(restarts) : `${restarts} (${age(last, now)} ago)`
}

export function podStatus(pod: ApiObject): string {
  const reason = textOf(at(pod, 'status', 'reason')) || textOf(at(pod, 'status', 'phase')) || 'Unknown'
  const initial = initReason(pod)
  const state = initial ?? containerReason(pod, reason)
  if (pod.metadata.deletionTimestamp === undefined) return state
  if (reason === 'NodeLost') return 'Unknown'
  return ['Succeeded', 'Failed'].includes(textOf(at(pod, 'status', 'phase'))) ? state : 'Terminating'
}

/** The init container that keeps the pod waiting. */
function initReason(pod: ApiObject): string | undefined {
  const specs = listOf(at(pod, 'spec', 'initContainers')).map(objectOf)
  for (const [index, status] of containerStates(pod, 'initContainerStatuses').entries()) {
    const terminated = objectOf(at(status, 'state', 'terminated'))
    const spec = specs.find(({ name }) => name === status['name'])
    if (terminated['exitCode'] === 0) continue
    if (spec !== undefined && isSidecar(spec) && status['started'] === true) continue
    if (isObject(at(status, 'state', 'terminated'))) return `Init:${terminatedReason(terminated)}`
    const waiting = textOf(at(status, 'state', 'waiting', 'reason'))
    return waiting !== '' && waiting !== 'PodInitializing'
      ? `Init:${waiting}`
      : `Init:${index}/${specs.length}`
  }
  return undefined
}

function containerReason(pod: ApiObject, phase: string): string {
  let state = phase
  let running = false
  for (const status of containerStates(pod, 'containerStatuses').toReversed()) {
    const waiting = textOf(at(status, 'state', 'waiting', 'reason'))
    const terminated = at(status, 'state', 'terminated')
    if (waiting !== '') state = waiting
    else if (isObject(terminated)) state = terminatedReason(terminated)
    else if (status['ready'] === true && isObject(at(status, 'state', 'running'))) running = true
  }
  if (state !== 'Completed' || !running) return state
  const ready = listOf(at(pod, 'status', 'conditions')).some(item => {
    const { type, status } = objectOf(item)
    return type === 'Ready' && status === 'True'
  })
  return ready ? 'Running' : 'NotReady'
}

function terminatedReason(terminated: JsonObject): string {
  const reason = textOf(terminated['reason'])
  if (reason !== '') return reason
  const signal = numberOf(terminated['signal']) ?? 0
  return signal === 0 ? `ExitCode:${String(terminated['exitCode'])}` : `Signal:${signal}`
}

function containerStates(pod: ApiObject, list: string): readonly JsonObject[] {
  return listOf(at(pod, 'status', list)).map(objectOf)
}

/** An init container that keeps running beside the others. */
function isSidecar(container: JsonObject): boolean {
  return container['restartPolicy'] === 'Always'
}
