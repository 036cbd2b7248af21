/** The mesh's own programs in the lab: the manifests of a cluster, with what a laptop needs differently. */
import path from 'node:path'
import type { KubeClient } from '../shared/kube/client.ts'
import { deployments } from '../shared/kube/apps-api.ts'
import type { KubeObject } from '../shared/kube/object.ts'
import { labDaemonSets, labPods, type LabContainer, type LabPodTemplate } from './kinds.ts'
import { meshNamespace } from './container-program.ts'
import { readManifests, type Manifest } from './manifests.ts'
import { wait } from './wait.ts'

/** By DaemonSet. */
const variables: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  // One data thread a node: many nodes share this machine.
  ztunnel: { ZTUNNEL_WORKER_THREADS: '1' },
  // No runtime reads a CNI configuration here: the lab calls the agent itself.
  'istio-cni-node': { UNDERPASS_CNI_INSTALL: 'false' }
}

export function meshManifests(projectRoot: string): Manifest[] {
  return readManifests(path.join(projectRoot, 'daemonset', 'manifests')).map(({ object, where }) => ({
    object: forLab(object),
    where
  }))
}

function forLab(object: KubeObject): KubeObject {
  const added = object.kind === 'DaemonSet' ? variables[object.metadata.name] : undefined
  if (added === undefined) return object
  const set = object as KubeObject & { readonly spec?: { readonly template?: LabPodTemplate } }
  const { template } = set.spec ?? {}
  const containers = (template?.spec?.containers ?? []).map((container): LabContainer => ({
    ...container,
    env: [...(container.env ?? []), ...Object.entries(added).map(([name, value]) => ({ name, value }))]
  }))
  const spec = { ...set.spec, template: { ...template, spec: { ...template?.spec, containers } } }
  return { ...object, spec } as KubeObject
}

/** Resolves when control plane, node agents and ztunnels are ready; rejects with what is not, and why. */
export async function meshReady(client: KubeClient, nodes: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    const missing = await missingPrograms(client, nodes)
    if (missing.length === 0) return
    if (!(await wait(200, signal))) {
      throw new Error(`not ready: ${missing.join(', ')}${await reasons(client)}`)
    }
  }
}

async function missingPrograms(client: KubeClient, nodes: number): Promise<string[]> {
  const [istiod, sets] = await Promise.all([
    client.find(deployments, { namespace: meshNamespace, name: 'istiod' }),
    client.list(labDaemonSets, { namespace: meshNamespace })
  ])
  const ready = (name: string): boolean =>
    (sets.items.find(({ metadata }) => metadata.name === name)?.status?.numberReady ?? 0) >= nodes
  return [
    ...((istiod?.status?.readyReplicas ?? 0) > 0 ? [] : ['istiod']),
    ...['istio-cni-node', 'ztunnel'].filter(name => !ready(name))
  ]
}

/** What the containers that are not ready say themselves. */
async function reasons(client: KubeClient): Promise<string> {
  const pods = await client.list(labPods, { namespace: meshNamespace })
  const lines = await Promise.all(
    pods.items.map(async ({ metadata, status }) => {
      const waiting = (status?.containerStatuses ?? []).find(({ ready }) => !ready)
      if (waiting === undefined) return ''
      const { state } = waiting
      const why = state.waiting?.message ?? state.waiting?.reason ?? 'runs, but is not ready'
      const path = `/api/v1/namespaces/${meshNamespace}/pods/${metadata.name}/log?tailLines=2`
      const log = await client.raw('GET', path).catch(() => '' /* It has none yet. */)
      return `\n  ${metadata.name}: ${why}${String(log).trimEnd().replaceAll(/^/gm, '\n    ')}`
    })
  )
  return lines.join('')
}
