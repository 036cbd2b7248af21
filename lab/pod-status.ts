/** The status of a pod from the states of its containers, as the kubelet reports it. Pure. */
import type { Condition } from '../shared/kube/object.ts'
import {
  kubeTime,
  type ContainerState,
  type LabContainerStatus,
  type LabPod,
  type LabPodStatus
} from './kinds.ts'

export interface ContainerReport {
  readonly name: string
  readonly image: string
  readonly says: string
  readonly pid: number | undefined
  readonly state: ContainerState
  readonly lastState: ContainerState
  readonly started: boolean
  readonly ready: boolean
  readonly restarts: number
  /** Init containers that stay (`restartPolicy: Always`) count as running, not as finished, when they run. */
  readonly sidecar: boolean
}

export interface PodReport {
  readonly ips: readonly string[]
  readonly hostIp: string
  readonly startedAt: number
  readonly sandbox: boolean
  readonly init: readonly ContainerReport[]
  readonly main: readonly ContainerReport[]
  /** Why the pod cannot start yet. */
  readonly problem?: { readonly reason: string; readonly message: string }
}

export function podStatus(pod: LabPod, report: PodReport, now: number): LabPodStatus {
  const { init, main, ips, hostIp, sandbox } = report
  const initialized = init.every(({ state, sidecar, started }) =>
    sidecar ? started : state.terminated?.exitCode === 0
  )
  const phase = phaseOf(pod, report, initialized)
  const ended = phase === 'Succeeded' || phase === 'Failed'
  const containersReady =
    !ended && [...main, ...init.filter(({ sidecar }) => sidecar)].every(({ ready }) => ready)
  const gates = (pod.spec?.readinessGates ?? []).every(({ conditionType }) =>
    pod.status?.conditions?.some(({ type, status }) => type === conditionType && status === 'True')
  )
  const wanted: [type: string, ok: boolean, reason: string][] = [
    ['PodReadyToStartContainers', sandbox, ''],
    ['Initialized', initialized, 'ContainersNotInitialized'],
    ['Ready', containersReady && gates, ended ? 'PodCompleted' : 'ContainersNotReady'],
    ['ContainersReady', containersReady, ended ? 'PodCompleted' : 'ContainersNotReady'],
    ['PodScheduled', true, '']
  ]
  return {
    phase,
    ...(report.problem === undefined
      ? {}
      : { reason: report.problem.reason, message: report.problem.message }),
    hostIP: hostIp,
    hostIPs: [{ ip: hostIp }],
    ...(ips[0] === undefined ? {} : { podIP: ips[0], podIPs: ips.map(ip => ({ ip })) }),
    startTime: kubeTime(report.startedAt),
    conditions: [
      ...wanted.map(([type, ok, reason]) => condition(pod, type, ok, reason, now)),
      ...foreignConditions(pod, new Set(wanted.map(([type]) => type)))
    ],
    ...(init.length === 0 ? {} : { initContainerStatuses: init.map(containerStatus) }),
    containerStatuses: main.map(containerStatus),
    qosClass: pod.status?.qosClass ?? 'BestEffort'
  }
}

function phaseOf(
  pod: LabPod,
  { init, main }: PodReport,
  initialized: boolean
): NonNullable<LabPodStatus['phase']> {
  const policy = pod.spec?.restartPolicy ?? 'Always'
  const failedInit = init.some(
    ({ state, sidecar }) => !sidecar && policy === 'Never' && (state.terminated?.exitCode ?? 0) !== 0
  )
  if (failedInit) return 'Failed'
  if (!initialized) return 'Pending'
  const ended = main.every(({ state }) => state.terminated !== undefined)
  if (ended && main.length > 0 && policy !== 'Always') {
    const failed = main.some(({ state }) => state.terminated?.exitCode !== 0)
    if (!failed) return 'Succeeded'
    if (policy === 'Never') return 'Failed'
  }
  const begun = main.some(
    ({ state, lastState }) =>
      state.running !== undefined || state.terminated !== undefined || lastState.terminated !== undefined
  )
  return begun ? 'Running' : 'Pending'
}

/** Keeps the time of the last change when the condition is as it was. */
function condition(pod: LabPod, type: string, ok: boolean, reason: string, now: number): Condition {
  const status = ok ? 'True' : 'False'
  const known = pod.status?.conditions?.find(candidate => candidate.type === type)
  return {
    type,
    status,
    ...(ok || reason === '' ? {} : { reason }),
    lastTransitionTime: known?.status === status ? (known.lastTransitionTime ?? kubeTime(now)) : kubeTime(now)
  }
}

/** Conditions that others set, such as readiness gates. */
function foreignConditions(pod: LabPod, own: ReadonlySet<string>): readonly Condition[] {
  return (pod.status?.conditions ?? []).filter(({ type }) => !own.has(type))
}

function containerStatus(report: ContainerReport): LabContainerStatus {
  const { name, image, says, pid, state, lastState, started, ready, restarts } = report
  return {
    name,
    image,
    imageID: `lab://${says}`,
    ...(pid === undefined ? {} : { containerID: `lab://${pid}` }),
    ready,
    started,
    restartCount: restarts,
    state,
    lastState
  }
}
