/** Rows of the matrix of parts: ours and Istio's in each other's places, the same traffic and policies in each. */
import type { Test } from 'tap'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import type { Cluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { applyDefinitions, startClusterWithImage } from '../support/mesh-cluster.ts'
import { Caller, settled, tryCase, type World } from './matrix-callers.ts'
import { cases, type CallerName, type PodName } from './matrix-cases.ts'
import { askIstioctl } from './matrix-istioctl.ts'
import { Parts, type Row } from './matrix-parts.ts'
import { catalog, lastingObjects, namespaces, places, podNames, podObjects } from './matrix-world.ts'

const chosen = process.env['UNDERPASS_MATRIX']?.split(',').map(Number)

export interface NumberedRow extends Row {
  /** As in the documentation. */
  readonly number: number
}

/** Each row in its turn; what stays the same from one to the next stays in place. */
export async function testRows(t: Test, rows: readonly NumberedRow[]): Promise<void> {
  const cluster = await startClusterWithImage(t, 2)
  const client = new KubeClient(await loadKubeConfig({ kubeconfig: cluster.kubeconfig }))
  t.teardown(() => client.close())
  const parts = new Parts(cluster)
  t.teardown(async () => parts.end())
  await applyDefinitions(cluster)
  await applyAll(cluster, [...lastingObjects(), catalog()])

  for (const row of rows) {
    if (chosen !== undefined && !chosen.includes(row.number)) continue
    const { number, controlPlane, nodeAgent, ztunnel } = row
    const title = `row ${number}: control plane ${controlPlane}, node agent ${nodeAgent}, ztunnel ${ztunnel.node1} and ${ztunnel.node2}`
    await t.test(title, async t => {
      let world: World | undefined
      t.teardown(async () => (t.passing() ? undefined : tell(t, cluster, `row ${number}`)))
      try {
        await removePods(cluster, client)
        await parts.arrange(row)
        world = await startWorld(cluster, client)
        await transfer(world, 'client-1', 'client-2')
        await transfer(world, 'client-2', 'client-1')
        for (const each of cases) t.strictSame(await tryCase(world, each), [], each.name)
        if (ztunnel.node1 === 'ours' && ztunnel.node2 === 'ours')
          t.strictSame(await askIstioctl(client, cluster.kubeconfig, row), [], 'istioctl shows what is ours')
        t.strictSame(await transferred(world), [], 'transfers outlive the certificates they began with')
      } finally {
        for (const caller of Object.values(world?.callers ?? {})) caller.end()
      }
    })
  }
}

async function startWorld(cluster: Cluster, client: KubeClient): Promise<World> {
  await applyAll(cluster, podObjects())
  const addresses = new Map<string, string>()
  await eventually('all pods run, those of the mesh enrolled', async () => {
    const all = await Promise.all(namespaces.map(async namespace => client.list(coreApi.pods, { namespace })))
    const ready = all
      .flatMap(({ items }) => items)
      .filter(pod => {
        const enrolled = pod.metadata.annotations?.['ambient.istio.io/redirection'] === 'enabled'
        const running = pod.status?.conditions?.some(
          ({ type, status }) => type === 'Ready' && status === 'True'
        )
        return running === true && (enrolled || pod.metadata.namespace === 'outside')
      })
    for (const pod of ready) addresses.set(pod.metadata.name, pod.status?.podIP ?? '')
    return ready.length === podNames.length
  })
  const names = podNames.filter(name => places[name].caller) as CallerName[]
  const callers = names.map(name => [name, new Caller(name, cluster.kubeconfig)] as const)
  return {
    client,
    callers: Object.fromEntries(callers) as Record<CallerName, Caller>,
    addressOf: (pod: PodName) => addresses.get(pod) ?? ''
  }
}

async function transfer({ callers, addressOf }: World, from: CallerName, to: CallerName): Promise<void> {
  const problems = await settled(async () => {
    const answer = await callers[from].ask({ do: 'transfer', name: 'long', host: addressOf(to), port: 7000 })
    return answer.kind === 'carried' ? [] : [JSON.stringify(answer)]
  })
  if (problems.length > 0) throw new Error(`${from} can not send to ${to}: ${problems.join()}`)
}

/** What is wrong with the transfers, once they have lasted as long as certificates do. */
async function transferred({ callers }: World): Promise<readonly string[]> {
  const atLeastSeconds = 40
  const outcomes = async (): Promise<readonly string[]> =>
    Promise.all(
      (['client-1', 'client-2'] as const).map(async name => {
        const answer = await callers[name].ask({ do: 'transferred', name: 'long' })
        if (answer.kind !== 'carried' || answer.broken !== '') return `${name}: ${JSON.stringify(answer)}`
        return answer.seconds >= atLeastSeconds && answer.bytes > 0
          ? ''
          : `${name}: ${answer.seconds} seconds only`
      })
    )
  return settled(outcomes, { withinMs: 2 * atLeastSeconds * 1000 })
}

async function removePods(cluster: Cluster, client: KubeClient): Promise<void> {
  for (const namespace of namespaces)
    for (const { metadata } of (await client.list(coreApi.pods, { namespace })).items)
      await client.delete(coreApi.pods, metadata, { gracePeriodSeconds: 0 })
  for (const namespace of namespaces)
    await cluster.kubectl(['-n', namespace, 'wait', '--for=delete', 'pod', '--all', '--timeout=60s'])
}

async function applyAll(cluster: Cluster, items: readonly object[]): Promise<void> {
  await cluster.kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }))
}

/** What the agents said last, where a row fails. */
async function tell(t: Test, cluster: Cluster, title: string): Promise<void> {
  for (const label of ['app=ztunnel', 'k8s-app=istio-cni-node', 'app=istiod']) {
    const args = ['-n', 'istio-system', 'logs', '-l', label, '--tail=60', '--prefix']
    const text = await cluster.kubectl(args).catch(String)
    t.comment(`${title}, ${label}:\n${text}`)
  }
  const pods = await cluster.kubectl(['get', 'pods', '-A', '-o', 'wide']).catch(String)
  const events = await cluster
    .kubectl(['get', 'events', '-A', '--field-selector', 'type=Warning'])
    .catch(String)
  t.comment(`${title}:\n${pods}\n${events}`)
}
