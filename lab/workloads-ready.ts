/** Waits for the workloads among applied objects to have all their pods ready. */
import type { KubeClient } from '../shared/kube/client.ts'
import { isNotFound } from '../shared/kube/errors.ts'
import type { KubeObject, ResourceType } from '../shared/kube/object.ts'
import { labDaemonSets, labDeployments, labPods, statefulSets, isReady, type LabPod } from './kinds.ts'
import { wait } from './wait.ts'

type Status = { readonly ready: number; readonly wanted: number }

/** Resolves to what is still not ready when the signal ends the wait; empty when all is. */
export async function workloadsReady(
  client: KubeClient,
  objects: readonly KubeObject[],
  signal: AbortSignal
): Promise<readonly string[]> {
  const workloads = objects.filter(({ kind }) => kind in kinds)
  for (;;) {
    const late: string[] = []
    for (const workload of workloads) {
      const { ready, wanted } = await statusOf(client, workload)
      if (ready < wanted) late.push(`${workload.kind} ${workload.metadata.name}: ${ready} of ${wanted}`)
    }
    if (late.length === 0 || !(await wait(200, signal))) return late
  }
}

const kinds: Readonly<Record<string, ResourceType>> = {
  Deployment: labDeployments,
  StatefulSet: statefulSets,
  DaemonSet: labDaemonSets,
  Pod: labPods
}

async function statusOf(client: KubeClient, { kind, metadata }: KubeObject): Promise<Status> {
  const { namespace = 'default', name } = metadata
  try {
    const type = kinds[kind] ?? labPods
    const object = (await client.get(type, { namespace, name })) as KubeObject & Counts
    if (kind === 'Pod') return { ready: isReady(object as LabPod) ? 1 : 0, wanted: 1 }
    const { status = {}, spec = {}, metadata: own } = object
    if ((status.observedGeneration ?? 0) < (own.generation ?? 0)) return { ready: 0, wanted: 1 }
    return kind === 'DaemonSet'
      ? { ready: status.numberReady ?? 0, wanted: status.desiredNumberScheduled ?? 1 }
      : {
          ready: Math.min(status.readyReplicas ?? 0, status.updatedReplicas ?? 0),
          wanted: spec.replicas ?? 1
        }
  } catch (error) {
    // Deleted meanwhile: nobody waits for it.
    if (isNotFound(error)) return { ready: 0, wanted: 0 }
    throw error
  }
}

interface Counts {
  readonly spec?: { readonly replicas?: number }
  readonly status?: {
    readonly observedGeneration?: number
    readonly readyReplicas?: number
    readonly updatedReplicas?: number
    readonly numberReady?: number
    readonly desiredNumberScheduled?: number
  }
}
