/** Commands for a lab that runs: status, exec, kubectl's connection, down. */
import { spawn } from 'node:child_process'
import { KubeClient } from '../shared/kube/client.ts'
import { loadKubeConfig } from '../shared/kube/config.ts'
import { nodes } from '../shared/kube/core-api.ts'
import type { LabCommand } from './arguments.ts'
import { isFinished, isOwnedBy, isReady, labDeployments, labPods, replicaSets, type LabPod } from './kinds.ts'
import { enterWords } from './isolate.ts'
import { kubeconfigPath, readState, removeState, startTimeOf, type LabState } from './state.ts'
import type { LabContext } from './up.ts'
import { wait } from './wait.ts'

const downDeadlineMs = 25_000

export class NoLabError extends Error {
  constructor() {
    super('no lab runs; start one with "underpass lab up"')
    this.name = 'NoLabError'
  }
}

/** Throws {@link NoLabError}. */
export function runningState({ stateFolder }: LabContext): LabState {
  const state = readState(stateFolder)
  if (state === undefined) throw new NoLabError()
  return state
}

export async function connect(context: LabContext): Promise<KubeClient> {
  runningState(context)
  return new KubeClient(
    await loadKubeConfig({ kubeconfig: kubeconfigPath(context.stateFolder) }),
    'underpass-lab'
  )
}

/** Ends the lab; what does not end in time is killed, and the kernel removes the rest. */
export async function down(context: LabContext): Promise<number> {
  const { stateFolder, print } = context
  const state = readState(stateFolder)
  if (state === undefined) {
    removeState(stateFolder)
    print('no lab runs')
    return 0
  }
  process.kill(state.pid, 'SIGTERM')
  const deadline = Date.now() + downDeadlineMs
  while (startTimeOf(state.pid) === state.startedAt) {
    if (Date.now() > deadline) {
      process.kill(state.pid, 'SIGKILL')
      print('the lab did not end in time and was killed')
    }
    await wait(50)
  }
  while (startTimeOf(state.inside) !== undefined && Date.now() < deadline) await wait(50)
  removeState(stateFolder)
  print('the lab is gone')
  return 0
}

/** Runs the command with this terminal; resolves to its exit status. */
export async function exec(
  options: Extract<LabCommand, { verb: 'exec' }>,
  context: LabContext
): Promise<number> {
  const { inside } = runningState(context)
  const client = await connect(context)
  try {
    const { pod, container } = await findContainer(client, options)
    const script = `/run/lab/enter/${options.namespace}/${pod}/${container}`
    const [command = '', ...args] = [...enterWords(context.isRoot, inside), 'sh', script, ...options.command]
    const child = spawn(command, args, { stdio: 'inherit', env: context.environment })
    // Ctrl-C is for the command; this program ends with it.
    const ignore = (): void => undefined
    process.on('SIGINT', ignore)
    try {
      return await new Promise((resolve, reject) => {
        child.once('error', reject)
        child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 143)))
      })
    } finally {
      process.off('SIGINT', ignore)
    }
  } finally {
    client.close()
  }
}

async function findContainer(
  client: KubeClient,
  { namespace, target, container }: Extract<LabCommand, { verb: 'exec' }>
): Promise<{ pod: string; container: string }> {
  const [kind, name = ''] = target.includes('/') ? target.split('/') : ['', target]
  const exact =
    kind === '' || kind === 'pod' || kind === 'pods'
      ? await client.find(labPods, { namespace, name })
      : undefined
  const pod = exact ?? (await podOfDeployment(client, namespace, name))
  if (pod === undefined) {
    const known = (await client.list(labPods, { namespace })).items.map(({ metadata }) => metadata.name)
    throw new Error(
      `namespace ${namespace} has no pod or deployment ${name}; it has ${known.length === 0 ? 'no pods' : known.join(', ')}`
    )
  }
  const names = (pod.spec?.containers ?? []).map(({ name }) => name)
  const chosen =
    container ?? pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'] ?? names[0] ?? ''
  if (!names.includes(chosen)) {
    throw new Error(`pod ${pod.metadata.name} has no container ${chosen}; it has ${names.join(', ')}`)
  }
  const state = pod.status?.containerStatuses?.find(status => status.name === chosen)?.state
  if (state?.running === undefined) {
    const why = state?.waiting?.message ?? state?.waiting?.reason ?? 'it has ended'
    throw new Error(`container ${chosen} of pod ${pod.metadata.name} does not run: ${why}`)
  }
  return { pod: pod.metadata.name, container: chosen }
}

/** A ready pod if there is one. */
async function podOfDeployment(
  client: KubeClient,
  namespace: string,
  name: string
): Promise<LabPod | undefined> {
  const deployment = await client.find(labDeployments, { namespace, name })
  if (deployment === undefined) return undefined
  const sets = (await client.list(replicaSets, { namespace })).items.filter(set => isOwnedBy(set, deployment))
  const pods = (await client.list(labPods, { namespace })).items.filter(
    pod =>
      sets.some(set => isOwnedBy(pod, set)) &&
      pod.metadata.deletionTimestamp === undefined &&
      !isFinished(pod)
  )
  return pods.find(isReady) ?? pods[0]
}

/** One row a container. */
export interface StatusRow {
  readonly node: string
  readonly namespace: string
  readonly pod: string
  readonly container: string
  readonly ready: boolean
  readonly restarts: number
  readonly mesh: boolean
  readonly runs: string
}

export async function status(options: { readonly json: boolean }, context: LabContext): Promise<number> {
  const { ready } = runningState(context)
  const client = await connect(context)
  try {
    const [allNodes, pods] = await Promise.all([client.list(nodes), client.list(labPods)])
    const rows = pods.items.flatMap(statusRows)
    if (options.json) {
      const names = allNodes.items.map(({ metadata }) => metadata.name)
      const kubeconfig = kubeconfigPath(context.stateFolder)
      context.print(JSON.stringify({ ready, kubeconfig, nodes: names, containers: rows }, undefined, 2))
    } else {
      context.print(`${allNodes.items.length} nodes; kubeconfig ${kubeconfigPath(context.stateFolder)}\n`)
      context.print(formatStatus(rows))
    }
    return 0
  } finally {
    client.close()
  }
}

export function statusRows(pod: LabPod): StatusRow[] {
  const { metadata, spec, status } = pod
  return (status?.containerStatuses ?? []).map(({ name, ready, restartCount, imageID, state }) => ({
    node: spec?.nodeName ?? '',
    namespace: metadata.namespace ?? '',
    pod: metadata.name,
    container: name,
    ready,
    restarts: restartCount,
    mesh: metadata.annotations?.['ambient.istio.io/redirection'] === 'enabled',
    runs:
      state.waiting === undefined
        ? imageID.replace(/^lab:\/\//, '')
        : (state.waiting.message ?? state.waiting.reason)
  }))
}

export function formatStatus(rows: readonly StatusRow[]): string {
  const table = [
    ['NODE', 'NAMESPACE', 'POD', 'CONTAINER', 'READY', 'RESTARTS', 'MESH', 'RUNS'],
    ...rows.map(({ node, namespace, pod, container, ready, restarts, mesh, runs }) => [
      node,
      namespace,
      pod,
      container,
      ready ? 'yes' : 'no',
      String(restarts),
      mesh ? 'yes' : '-',
      runs
    ])
  ]
  const widths = (table[0] ?? []).map((_, column) =>
    Math.max(...table.map(row => (row[column] ?? '').length))
  )
  return table
    .map(row =>
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join('  ')
    )
    .join('\n')
}
