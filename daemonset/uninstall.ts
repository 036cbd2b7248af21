/** Takes away everything that the node agent put on a machine, and the annotations of its pods. */
import net from 'node:net'
import { KubeClient } from '../shared/kube/client.ts'
import { type KubeConfigSource, loadKubeConfig } from '../shared/kube/config.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Config } from './config.ts'
import { describeFound, findInCluster, findOnMachine, type Found, removeFromMachine } from './inventory.ts'

export interface UninstallOptions {
  /** Only lists, with every rule. */
  readonly dryRun: boolean
  /** Gets a line for each step. */
  readonly say: (line: string) => void
}

/** Returns what could not be done. Throws when an agent runs here, which would write everything again. */
export async function uninstall(
  config: Config,
  source: KubeConfigSource,
  { dryRun, say }: UninstallOptions
): Promise<readonly string[]> {
  if (!dryRun && (await answers(config.cniSocket))) {
    throw new Error(
      `a node agent runs here (it answers on ${config.cniSocket}) and would write everything again: ` +
        'stop it first, for example with kubectl -n istio-system delete daemonset istio-cni-node'
    )
  }
  const problems: string[] = []
  const step = async (found: Found, remove: () => Promise<void>): Promise<void> => {
    const name = describeFound(found)
    if (dryRun) {
      for (const line of [`would remove: ${name}`, ...found.lines.map(line => `  ${line}`)]) say(line)
      return
    }
    try {
      await remove()
      say(`removed: ${name}`)
    } catch (error) {
      problems.push(`${name}: ${messageOf(error)}`)
    }
  }
  for await (const found of findOnMachine(config)) {
    await step(found, () => removeFromMachine(config, found))
  }
  try {
    const client = new KubeClient(await loadKubeConfig(source), 'underpass-node-agent')
    const signal = AbortSignal.timeout(30_000)
    for (const found of await findInCluster(config, client, signal)) await step(found, found.remove)
  } catch (error) {
    problems.push(`the annotations of pods: ${messageOf(error)}`)
  }
  return problems
}

/** Whether somebody listens at the path of a socket. */
async function answers(path: string): Promise<boolean> {
  const socket = net.connect(path)
  try {
    return await new Promise<boolean>(resolve => {
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
  } finally {
    socket.destroy()
  }
}
