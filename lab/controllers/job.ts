/** Job: pods until as many have succeeded as it wants, or too many have failed. */
import type { Condition } from '../../shared/kube/object.ts'
import type { ObjectAccess } from '../api-store/object-access.ts'
import { isReady, jobs, kubeTime, labPods, refOf, type Job } from '../kinds.ts'
import { createPod, livePods, podsOf } from './pods-of.ts'
import { itself, ownerOf, refOfKey, type Controller } from './reconciler.ts'
import { writeStatus } from './write-status.ts'

export const jobController: Controller = {
  name: 'job',
  watches: [itself(jobs), ownerOf(labPods, 'Job')],
  reconcile
}

function reconcile(objects: ObjectAccess, key: string): void {
  const job = objects.get(jobs, refOfKey(key))
  if (job === undefined || job.metadata.deletionTimestamp !== undefined) return
  const { parallelism = 1, completions = 1, backoffLimit = 6, suspend = false, template } = job.spec ?? {}
  const pods = podsOf(objects, job)
  const succeeded = pods.filter(pod => pod.status?.phase === 'Succeeded').length
  const failed = pods.filter(pod => pod.status?.phase === 'Failed').length
  const finished = endOf(job, succeeded >= completions, failed > backoffLimit)
  const running = livePods(pods)
  const wanted = finished || suspend ? 0 : Math.min(parallelism, completions - succeeded)
  for (let missing = wanted - running.length; missing > 0; missing -= 1) createPod(objects, job, template)
  for (const pod of running.slice(wanted)) objects.delete(labPods, refOf(pod))
  const now = livePods(podsOf(objects, job))
  const condition = conditionOf(job, succeeded >= completions, failed > backoffLimit)
  writeStatus(objects, jobs, job, {
    observedGeneration: undefined,
    active: now.length,
    ready: now.filter(isReady).length,
    succeeded,
    failed,
    startTime: job.status?.startTime ?? kubeTime(Date.now()),
    ...(condition === undefined ? {} : { conditions: [condition] }),
    ...(succeeded >= completions
      ? { completionTime: job.status?.completionTime ?? kubeTime(Date.now()) }
      : {})
  })
}

/** A job that has ended stays so. */
function endOf(job: Job, complete: boolean, failed: boolean): boolean {
  return (
    complete ||
    failed ||
    (job.status?.conditions ?? []).some(
      ({ type, status }) => (type === 'Complete' || type === 'Failed') && status === 'True'
    )
  )
}

function conditionOf(job: Job, complete: boolean, failed: boolean): Condition | undefined {
  const [known] = job.status?.conditions ?? []
  if (known !== undefined) return known
  if (!complete && !failed) return undefined
  return {
    type: complete ? 'Complete' : 'Failed',
    status: 'True',
    ...(complete ? {} : { reason: 'BackoffLimitExceeded' }),
    lastTransitionTime: kubeTime(Date.now())
  }
}
