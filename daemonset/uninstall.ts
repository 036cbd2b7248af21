/** Finds everything that the node agent put on a machine and takes it away. Needs no record: it looks at every namespace. */
import { KubeClient } from '../shared/kube/client.ts'
import { type KubeConfigSource, loadKubeConfig } from '../shared/kube/config.ts'
import { pods } from '../shared/kube/core-api.ts'
import { closeNetns, openNetns } from '../shared/net/netns.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { annotatePod } from './cluster.ts'
import type { Config } from './config.ts'
import { allNetns } from './pod-netns.ts'
import { findCapture, removeCapture } from './rules/capture.ts'
import { hasProbeRules, removeProbeRules } from './rules/host-probes.ts'
import { redirectionOf } from './watch-pods.ts'

/**
 * Rules of every pod, the node's rules and the annotations. With `dryRun` it only lists. Returns what could not be
 * done; `say` gets a line for each step.
 */
export async function uninstall(
  config: Config,
  source: KubeConfigSource,
  { dryRun, say }: { readonly dryRun: boolean; readonly say: (line: string) => void }
): Promise<readonly string[]> {
  const problems: string[] = []
  const step = async (name: string, work: () => Promise<void>): Promise<void> => {
    try {
      if (!dryRun) await work()
      say(dryRun ? `would remove: ${name}` : `removed: ${name}`)
    } catch (error) {
      problems.push(`${name}: ${messageOf(error)}`)
    }
  }
  for (const netns of allNetns(config.places)) {
    try {
      const lines = await findCapture(netns.fd)
      if (lines.length > 0)
        await step(`${lines.length} rules in ${netns.path}`, () => removeCapture(netns.fd))
    } finally {
      closeNetns(netns.fd)
    }
  }
  const host = config.hostNetns === undefined ? undefined : openNetns(config.hostNetns)
  if (await hasProbeRules(host)) await step('rules for probes on the node', () => removeProbeRules(host))
  if (host !== undefined) closeNetns(host)
  try {
    const client = new KubeClient(await loadKubeConfig(source), 'underpass-node-agent')
    const signal = AbortSignal.timeout(30_000)
    const list = await client.list(pods, { fieldSelector: `spec.nodeName=${config.nodeName}`, signal })
    for (const pod of list.items.filter(pod => redirectionOf(pod) !== undefined)) {
      const { uid = '', namespace = '', name } = pod.metadata
      await step(`annotation of ${namespace}/${name}`, () =>
        annotatePod(client, { uid, namespace, name }, undefined, signal)
      )
    }
  } catch (error) {
    problems.push(`the annotations of pods: ${messageOf(error)}`)
  }
  return problems
}
