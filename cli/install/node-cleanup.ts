/** Takes capture rules, the CNI entry and sockets off every node, by a pod of the node agent's own image. */
import type { KubeClient } from '../../shared/kube/client.ts'
import type { DaemonSet } from '../../shared/kube/apps-api.ts'
import { pods, type Pod } from '../../shared/kube/core-api.ts'
import { waiting } from '../watch.ts'
import { meshNamespace } from './manifest.ts'

export interface CleanedNode {
  readonly node: string
  /** What the pod wrote, a line for each thing that it removed. */
  readonly lines: readonly string[]
  /** Why the node is not clean; undefined when it is. */
  readonly problem: string | undefined
}

/** A node that takes longer is not there, or cannot have the image. */
const patienceMs = 120_000

export async function cleanNode(
  client: KubeClient,
  agent: DaemonSet,
  node: string,
  limit: () => AbortSignal
): Promise<CleanedNode> {
  const pod = cleanupPod(agent, node)
  const ref = { namespace: meshNamespace, name: pod.metadata.name }
  await deleteIfThere(client, ref.name, limit)
  await client.create(pods, pod, { signal: limit() })
  try {
    const ended = await untilEnded(client, ref.name, limit)
    const removed = await logOf(client, ref.name, 'uninstall', limit()).catch(() => '') // it may never have started
    const left = await logOf(client, ref.name, 'inventory', limit()).catch(() => '')
    const lines = removed.split('\n').filter(line => line.startsWith('removed: '))
    return { node, lines, problem: problemOf(ended, `${removed}\n${left}`) }
  } finally {
    await deleteIfThere(client, ref.name, limit)
  }
}

/** Fields of a container that make sense only for one that goes on running. */
const ofServers = ['readinessProbe', 'livenessProbe', 'startupProbe', 'lifecycle', 'ports']

/** One container removes, the next looks whether something is left. */
export function cleanupPod(agent: DaemonSet, node: string): Pod {
  const { containers = [], ...spec } = agent.spec?.template?.spec ?? {}
  const [container] = containers
  if (container === undefined) throw new Error('the node agent has no container')
  const main = container.args?.find(word => word.endsWith('main.js')) ?? '/app/daemonset/main.js'
  const kept = Object.fromEntries(Object.entries(container).filter(([field]) => !ofServers.includes(field)))
  // folders that are mounts of the pod are then refused as busy, which is no failure, and not as read-only
  const securityContext = {
    ...(kept['securityContext'] as object | undefined),
    readOnlyRootFilesystem: false
  }
  const runs = (command: string) => ({ ...kept, securityContext, name: command, args: [main, command] })
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: meshNamespace,
      name: `underpass-uninstall-${node}`.slice(0, 253),
      labels: {
        app: 'underpass-uninstall',
        'istio.io/dataplane-mode': 'none',
        'sidecar.istio.io/inject': 'false'
      }
    },
    spec: {
      ...spec,
      nodeName: node,
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 0,
      initContainers: [runs('uninstall')],
      containers: [runs('inventory')]
    } as NonNullable<Pod['spec']>
  }
}

/** What keeps a node from being clean. A folder in use for mounts of the pod itself is nobody's harm. */
export function problemOf(ended: Pod | undefined, log: string): string | undefined {
  if (ended === undefined) return `its pod did not end within ${patienceMs / 1000} s`
  const left = log.split('\n').filter(line => /^would remove: (?!folder )/.test(line))
  if (left.length > 0)
    return `still there: ${left.map(line => line.replace('would remove: ', '')).join('; ')}`
  if (ended.status?.phase === 'Succeeded') return undefined
  const words = log.split('\n').filter(line => line !== '' && !/^(removed|would remove): /.test(line))
  return `its pod failed: ${words.map(line => line.trim()).join(' ') || 'it said nothing'}`
}

async function untilEnded(
  client: KubeClient,
  name: string,
  limit: () => AbortSignal
): Promise<Pod | undefined> {
  const late = AbortSignal.timeout(patienceMs)
  while (!late.aborted) {
    const pod = await client.get(pods, { namespace: meshNamespace, name }, limit())
    if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return pod
    await waiting(300, limit())
  }
  return undefined
}

async function logOf(
  client: KubeClient,
  pod: string,
  container: string,
  signal: AbortSignal
): Promise<string> {
  const path = `/api/v1/namespaces/${meshNamespace}/pods/${pod}/log?container=${container}`
  return String(await client.raw('GET', path, undefined, signal))
}

async function deleteIfThere(client: KubeClient, name: string, limit: () => AbortSignal): Promise<void> {
  const ref = { namespace: meshNamespace, name }
  const options = { gracePeriodSeconds: 0, signal: limit() }
  if ((await client.find(pods, ref, limit())) === undefined) return
  await client.delete(pods, ref, options)
  while ((await client.find(pods, ref, limit())) !== undefined) await waiting(100, limit())
}
