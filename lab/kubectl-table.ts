/** Tables of objects as kubectl prints them: the columns that a tour needs. Pure. */
import type { Service } from '../shared/kube/core-api.ts'
import type { Condition, KubeObject, ResourceType } from '../shared/kube/object.ts'
import type { LabPod, LabPodStatus } from './kinds.ts'

type Columns = Readonly<Record<string, (object: KubeObject) => string>>

const columnsByKind: Readonly<Record<string, Columns>> = {
  Pod: {
    READY: object => {
      const { containerStatuses = [] } = (object as LabPod).status ?? {}
      const total = (object as LabPod).spec?.containers?.length ?? 0
      return `${containerStatuses.filter(({ ready }) => ready).length}/${total}`
    },
    STATUS: object => podState(object),
    RESTARTS: object =>
      String(
        ((object as LabPod).status?.containerStatuses ?? []).reduce(
          (sum, { restartCount }) => sum + restartCount,
          0
        )
      ),
    IP: object => (object as LabPod).status?.podIP ?? '',
    NODE: object => (object as LabPod).spec?.nodeName ?? ''
  },
  Service: {
    TYPE: object => (object as Service).spec?.type ?? '',
    'CLUSTER-IP': object => (object as Service).spec?.clusterIP ?? '',
    'PORT(S)': object =>
      ((object as Service).spec?.ports ?? [])
        .map(({ port, protocol = 'TCP' }) => `${port}/${protocol}`)
        .join(',')
  },
  Deployment: {
    READY: object => {
      const { status = {}, spec = {} } = object as Counted
      return `${status.readyReplicas ?? 0}/${spec.replicas ?? 0}`
    },
    'UP-TO-DATE': object => String((object as Counted).status?.updatedReplicas ?? 0),
    AVAILABLE: object => String((object as Counted).status?.availableReplicas ?? 0)
  },
  Namespace: { STATUS: object => (object as Counted).status?.phase ?? '' },
  Node: {
    STATUS: object =>
      (object as Counted).status?.conditions?.some(
        ({ type, status }) => type === 'Ready' && status === 'True'
      )
        ? 'Ready'
        : 'NotReady'
  }
}

interface Counted extends KubeObject {
  readonly spec?: { readonly replicas?: number }
  readonly status?: {
    readonly phase?: string
    readonly readyReplicas?: number
    readonly updatedReplicas?: number
    readonly availableReplicas?: number
    readonly conditions?: readonly Condition[]
  }
}

export function formatObjects(
  type: ResourceType,
  objects: readonly KubeObject[],
  withNamespace: boolean,
  now: number
): string {
  const columns = columnsByKind[type.kind] ?? {}
  const rows = [
    [...(withNamespace ? ['NAMESPACE'] : []), 'NAME', ...Object.keys(columns), 'AGE'],
    ...objects.map(object => [
      ...(withNamespace ? [object.metadata.namespace ?? ''] : []),
      object.metadata.name,
      ...Object.values(columns).map(column => column(object)),
      age(object, now)
    ])
  ]
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => (row[column] ?? '').length)))
  return rows
    .map(
      row =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('   ')
          .trimEnd()}\n`
    )
    .join('')
}

function podState(pod: LabPod): string {
  const { metadata, status = {} } = pod
  if (metadata.deletionTimestamp !== undefined) return 'Terminating'
  const waiting = waitingReason(status)
  return waiting ?? status.phase ?? 'Pending'
}

function waitingReason({ containerStatuses = [] }: LabPodStatus): string | undefined {
  return containerStatuses.map(({ state }) => state.waiting?.reason).find(reason => reason !== undefined)
}

function age({ metadata }: KubeObject, now: number): string {
  const seconds = Math.max(0, Math.round((now - Date.parse(metadata.creationTimestamp ?? '')) / 1000))
  if (Number.isNaN(seconds)) return ''
  if (seconds < 120) return `${seconds}s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`
}
