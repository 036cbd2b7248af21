/** What the agent writes to Kubernetes: the annotation of a pod and Events about it. */
import type { KubeClient } from '../shared/kube/client.ts'
import { isNotFound, KubeError } from '../shared/kube/errors.ts'
import { events, pods } from '../shared/kube/core-api.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { PodIdentity, Redirection } from './enrol.ts'
import { redirectionAnnotation } from './watch-pods.ts'

const reporter = 'underpass-node-agent'

/** Needs the permission to patch `pods/status`. A pod that is gone, or another of the same name, is no error. */
export async function annotatePod(
  client: KubeClient,
  pod: PodIdentity,
  value: Redirection | undefined,
  signal: AbortSignal
): Promise<void> {
  // The uid makes the API server refuse when the name belongs to a newer pod.
  const patch = { metadata: { uid: pod.uid, annotations: { [redirectionAnnotation]: value ?? null } } }
  try {
    await client.patch(pods, { namespace: pod.namespace, name: pod.name }, patch, {
      kind: 'merge',
      subresource: 'status',
      signal
    })
  } catch (error) {
    if (isNotFound(error) || isOtherPod(error)) return
    throw error
  }
}

/** The API server takes another uid for the attempt to change it. */
function isOtherPod(error: unknown): boolean {
  if (!(error instanceof KubeError)) return false
  return error.status === 409 || (error.status === 422 && error.message.includes('metadata.uid'))
}

/** A warning that `kubectl describe pod` shows. Failing to say so is logged and nothing more. */
export async function warnAboutPod(
  client: KubeClient,
  nodeName: string,
  pod: PodIdentity,
  { reason, message, now }: { readonly reason: string; readonly message: string; readonly now: number },
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal }
): Promise<void> {
  const time = new Date(now).toISOString().replace(/\.\d+Z$/, 'Z')
  const event = {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: `${pod.name}.${now.toString(16)}`, namespace: pod.namespace },
    involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace: pod.namespace, name: pod.name, uid: pod.uid },
    type: 'Warning' as const,
    reason,
    message: message.slice(0, 1024),
    source: { component: reporter, host: nodeName },
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1
  }
  try {
    await client.create(events, event, { signal })
  } catch (error) {
    log.debug('cannot write an Event', { pod: `${pod.namespace}/${pod.name}`, error: messageOf(error) })
  }
}
