/** A disposable Kubernetes with our image on its nodes, and all of our programs on it. */
import type { Test } from 'tap'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { publishedDefinitions } from '../../shared/kube/definitions.ts'
import { startCluster, type Cluster } from './cluster.ts'
import { buildImage } from './image.ts'
import { rolledOut } from './rollout.ts'

const file = path.resolve(import.meta.dirname, '../../daemonset/manifests/underpass.yaml')

/** Ends with the test. Nothing of the mesh runs yet. */
export async function startClusterWithImage(t: Test, nodes: number): Promise<Cluster> {
  const archive = await buildImage()
  const cluster = await startCluster(nodes)
  t.teardown(() => cluster.down())
  await cluster.importImage(archive)
  return cluster
}

/** From the plain manifest, or from what `change` makes of it. */
export async function installMesh(
  cluster: Cluster,
  change = (manifest: string): string => manifest
): Promise<void> {
  await applyDefinitions(cluster)
  await cluster.kubectl(['apply', '--server-side', '-f', '-'], change(readFileSync(file, 'utf8')))
  await rolledOut(cluster, 'istio-system', { workloads: ['deployment/istiod', 'daemonset'] })
}

export async function applyDefinitions({ kubectl }: Pick<Cluster, 'kubectl'>): Promise<void> {
  await kubectl(['apply', '--server-side', '-f', '-'], definitionList())
}

/** The definitions of Istio's and the Gateway API's kinds, for kubectl. */
export function definitionList(): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items: publishedDefinitions() })
}
