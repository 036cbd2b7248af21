/**
 * Why the agent is told to stop: an upgrade or a reboot, after which another one comes, or its removal. Only after a
 * removal may nothing be left; after anything else everything has to stay, as new pods must not start in the clear.
 *
 * Source: the decision of istio-cni at its end, with what it misses (a namespace that is deleted as a whole).
 */
import type { DaemonSet } from '../../shared/kube/apps-api.ts'
import { daemonSets } from '../../shared/kube/apps-api.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { namespaces, nodes } from '../../shared/kube/core-api.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import type { Labels } from '../../shared/kube/object.ts'
import { sleep } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'

/** What the API server said of the agent's own DaemonSet. */
export type OwnDaemonSet =
  | {
      readonly kind: 'found'
      /** It, or its namespace, is being deleted. */
      readonly going: boolean
      readonly nodeSelector: Labels
      readonly nodeLabels: Labels
    }
  | { readonly kind: 'missing' }
  /** 401: the account is gone; 403: its permission is, or never was. */
  | { readonly kind: 'refused'; readonly status: number }
  | { readonly kind: 'unknown'; readonly problem: string }

export interface Ending {
  readonly kind: 'comes back' | 'is removed'
  readonly why: string
}

/** `before` is what was said when the agent started. */
export function decideEnding(now: OwnDaemonSet, before: OwnDaemonSet | undefined): Ending {
  const comesBack = (why: string): Ending => ({ kind: 'comes back', why })
  const isRemoved = (why: string): Ending => ({ kind: 'is removed', why })
  switch (now.kind) {
    case 'found': {
      if (now.going) return isRemoved('its DaemonSet is being deleted')
      const unmet = Object.entries(now.nodeSelector).find(([key, value]) => now.nodeLabels[key] !== value)
      if (unmet === undefined) return comesBack('its DaemonSet wants it on this node')
      return isRemoved(`its DaemonSet is for nodes with ${unmet.join('=')} only`)
    }
    case 'missing':
      // A name that was never right would make every upgrade an uninstall.
      if (before?.kind === 'missing') return comesBack('its DaemonSet was not found at its start either')
      return isRemoved('its DaemonSet is gone')
    case 'refused':
      if (now.status === 401) return isRemoved('its account is gone')
      if (before?.kind === 'found') return isRemoved('its permissions are gone')
      return comesBack('it may not read its own DaemonSet (get daemonsets)')
    case 'unknown':
      return comesBack(`the API server does not say: ${now.problem}`)
    default:
      return now satisfies never
  }
}

export interface Place {
  readonly namespace: string
  readonly daemonSet: string
  readonly nodeName: string
}

/** Asks, and asks again where there is no answer: at the end of a node everything ends at once. */
export async function lookAtOwnDaemonSet(
  client: KubeClient,
  place: Place,
  { attemptMs, attempts = 1 }: { readonly attemptMs: number; readonly attempts?: number }
): Promise<OwnDaemonSet> {
  let found = await ask(client, place, AbortSignal.timeout(attemptMs))
  for (let attempt = 1; attempt < attempts && found.kind === 'unknown'; attempt++) {
    await sleep(1000)
    found = await ask(client, place, AbortSignal.timeout(attemptMs))
  }
  return found
}

/** The part of a pod template that chooses nodes. */
interface Scheduled {
  readonly nodeSelector?: Labels
}

async function ask(
  client: KubeClient,
  { namespace, daemonSet, nodeName }: Place,
  signal: AbortSignal
): Promise<OwnDaemonSet> {
  try {
    const found = await client.find<DaemonSet>(daemonSets, { namespace, name: daemonSet }, signal)
    if (found === undefined) return { kind: 'missing' }
    const [parent, node] = await Promise.all([
      client.find(namespaces, { name: namespace }, signal),
      client.find(nodes, { name: nodeName }, signal)
    ])
    const going = [found, parent].some(object => object?.metadata.deletionTimestamp !== undefined)
    const { nodeSelector = {} } = (found.spec?.template?.spec ?? {}) as Scheduled
    // A node that is gone takes the agent with it: nothing is left to clean for anybody.
    return { kind: 'found', going, nodeSelector, nodeLabels: node?.metadata.labels ?? nodeSelector }
  } catch (error) {
    if (error instanceof KubeError && (error.status === 401 || error.status === 403)) {
      return { kind: 'refused', status: error.status }
    }
    return { kind: 'unknown', problem: messageOf(error) }
  }
}
