/** Waits until what was installed has come up, and says meanwhile which pod has not, and why. */
import { daemonSets, deployments } from '../../shared/kube/apps-api.ts'
import { formatSelector, type KubeClient } from '../../shared/kube/client.ts'
import { events, pods, type Pod } from '../../shared/kube/core-api.ts'
import type { LabelSelector } from '../../shared/kube/object.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import { waiting } from '../watch.ts'
import { nameOf, type Manifest } from './manifest.ts'
import { daemonSetRollout, deploymentRollout, podTrouble, type Rollout } from './readiness.ts'

export interface WaitOptions {
  /** Gets a line when something changed. */
  readonly say: (line: string) => void
  /** A signal for the next request. */
  readonly limit: () => AbortSignal
  readonly patienceMs: number
}

/** How often the cluster is asked. */
const pauseMs = 500

/** The lines that say why it is not up; none once everything is ready. */
export async function waitUntilReady(
  client: KubeClient,
  workloads: readonly Manifest[],
  { say, limit, patienceMs }: WaitOptions
): Promise<readonly string[]> {
  const late = AbortSignal.timeout(patienceMs)
  const said = new Set<string>()
  const ready = new Set<string>()
  for (;;) {
    const reports = await Promise.all(
      workloads
        .filter(workload => !ready.has(nameOf(workload)))
        .map(workload => reportOn(client, workload, limit()))
    )
    for (const { workload, rollout, lines } of reports) {
      const progress = `${nameOf(workload)}: ${rollout.ready} of ${rollout.wanted} ready`
      if (rollout.done) ready.add(nameOf(workload))
      for (const line of [progress, ...lines]) {
        if (said.has(line)) continue
        said.add(line)
        say(line)
      }
    }
    const waitingFor = reports.filter(({ rollout }) => !rollout.done)
    if (waitingFor.length === 0) return []
    if (late.aborted) {
      return waitingFor.flatMap(({ workload, rollout, lines }) => [
        `${nameOf(workload)}: ${rollout.ready} of ${rollout.wanted} ready`,
        ...lines
      ])
    }
    await waiting(pauseMs, limit())
  }
}

interface Report {
  readonly workload: Manifest
  readonly rollout: Rollout
  readonly lines: readonly string[]
}

async function reportOn(client: KubeClient, workload: Manifest, signal: AbortSignal): Promise<Report> {
  const { namespace, name } = workload.metadata
  const ref = { namespace, name }
  const found =
    workload.kind === 'Deployment'
      ? await client.get(deployments, ref, signal)
      : await client.get(daemonSets, ref, signal)
  const rollout = found.kind === 'Deployment' ? deploymentRollout(found) : daemonSetRollout(found)
  if (rollout.done) return { workload, rollout, lines: [] }
  return {
    workload,
    rollout,
    lines: await reasons(client, namespace, name, found.spec?.selector ?? {}, signal)
  }
}

async function reasons(
  client: KubeClient,
  namespace: string | undefined,
  name: string,
  selector: LabelSelector,
  signal: AbortSignal
): Promise<readonly string[]> {
  const { items } = await client.list(pods, { namespace, labelSelector: formatSelector(selector), signal })
  if (items.length === 0) return await warningsAbout(client, namespace, name, signal)
  const lines = await Promise.all(items.map(pod => reasonOf(client, pod, signal)))
  return lines.filter(line => line !== undefined)
}

async function reasonOf(client: KubeClient, pod: Pod, signal: AbortSignal): Promise<string | undefined> {
  const trouble = podTrouble(pod)
  if (trouble === undefined) return undefined
  const where = pod.spec?.nodeName === undefined ? '' : ` on ${pod.spec.nodeName}`
  const line = `  pod ${pod.metadata.name}${where} ${trouble.text}`
  if (trouble.kind !== 'crashing') return line
  const words = await lastWords(client, pod, trouble.container, signal)
  return words === undefined ? line : `${line}; its last words: ${words}`
}

/** The last line that a container wrote, this time or before. */
async function lastWords(
  client: KubeClient,
  { metadata }: Pod,
  container: string,
  signal: AbortSignal
): Promise<string | undefined> {
  const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/log`
  for (const previous of ['true', 'false']) {
    const query = new URLSearchParams({ container, previous, tailLines: '1' })
    try {
      const text = String(await client.raw('GET', `${path}?${query.toString()}`, undefined, signal)).trim()
      if (text !== '') return text
    } catch (error) {
      // its log is a help, not what was asked for: it may be gone, or not for this user to read
      if (!(error instanceof KubeError)) return `unreadable (${messageOf(error)})`
    }
  }
  return undefined
}

/** Why a controller makes no pods: admission, quotas. */
async function warningsAbout(
  client: KubeClient,
  namespace: string | undefined,
  name: string,
  signal: AbortSignal
): Promise<readonly string[]> {
  const fieldSelector = `involvedObject.name=${name},type=Warning`
  const { items } = await client.list(events, { namespace, fieldSelector, signal })
  return [...new Set(items.map(({ reason, message }) => `  ${reason}: ${message?.trim()}`))].slice(-3)
}
