/** Waits for workloads to roll out; one that does not explains itself: pods, events and logs are in the error. */
import type { Cluster } from './cluster.ts'

export interface RolloutOptions {
  /** Such as `deployment/istiod`; `daemonset` means all of the namespace. */
  readonly workloads: readonly string[]
  /** Seconds for each. */
  readonly patience?: number
}

export async function rolledOut(
  { kubectl }: Pick<Cluster, 'kubectl'>,
  namespace: string,
  { workloads, patience = 110 }: RolloutOptions
): Promise<void> {
  const inNamespace = async (...words: string[]): Promise<string> => kubectl(['-n', namespace, ...words])
  for (const workload of workloads) {
    try {
      await inNamespace('rollout', 'status', workload, `--timeout=${patience}s`)
    } catch (cause) {
      throw new Error(`${workload} did not roll out\n${await explanation(inNamespace)}`, { cause })
    }
  }
}

async function explanation(kubectl: (...words: string[]) => Promise<string>): Promise<string> {
  const orWhyNot = async (...words: string[]): Promise<string> =>
    kubectl(...words).catch((error: unknown) => `kubectl ${words.join(' ')}: ${String(error)}\n`)
  const names = (await orWhyNot('get', 'pods', '-o', 'name')).split('\n').filter(Boolean)
  const parts = [await orWhyNot('get', 'pods', '-o', 'wide'), await orWhyNot('describe', 'pods')]
  for (const name of names) {
    for (const previous of [[], ['--previous']]) {
      const log = await orWhyNot('logs', name, '--all-containers', '--tail=60', ...previous)
      parts.push(`--- logs of ${name} ${previous.join('')}\n${log}`)
    }
  }
  return parts.join('\n')
}
