/** What of an installation, ours or another's, a cluster holds. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { configMaps } from '../../shared/kube/core-api.ts'
import type { KubeObject } from '../../shared/kube/object.ts'
import { findObstacles, obstacleKinds, type Obstacle } from './in-the-way.ts'
import { Kinds } from './kinds.ts'
import { isOurs, nameOf, ownerLabel, type Manifest } from './manifest.ts'

export async function readObstacles(
  client: KubeClient,
  limit: () => AbortSignal
): Promise<readonly Obstacle[]> {
  const kinds = new Kinds(client)
  const lists = await Promise.all(obstacleKinds.map(kind => list(client, kinds, kind, undefined, limit)))
  return findObstacles(lists.flat())
}

/** Everything that carries the label of this program, among the kinds of these objects. */
export async function readInstalled(
  client: KubeClient,
  like: readonly Manifest[],
  limit: () => AbortSignal
): Promise<readonly Manifest[]> {
  const kinds = new Kinds(client)
  const wanted = new Map(like.map(object => [`${object.apiVersion} ${object.kind}`, object]))
  const selector = `${ownerLabel.key}=${ownerLabel.value}`
  const lists = await Promise.all(
    [...wanted.values()].map(kind => list(client, kinds, kind, selector, limit))
  )
  return lists.flat()
}

/** Configuration that others wrote under a name of ours, such as the mesh configuration of Istio: it goes on being read. */
export async function withoutOthersConfiguration(
  client: KubeClient,
  objects: readonly Manifest[],
  limit: () => AbortSignal
): Promise<readonly Manifest[]> {
  const keep = await Promise.all(
    objects.map(async ({ kind, metadata: { namespace, name } }) => {
      if (kind !== 'ConfigMap') return true
      const present = await client.find(configMaps, { namespace, name }, limit())
      return present === undefined || isOurs(present.metadata.labels)
    })
  )
  return objects.filter((_, index) => keep[index])
}

/** Those of `installed` that a new manifest has no more. */
export function leftOver(installed: readonly Manifest[], wanted: readonly Manifest[]): readonly Manifest[] {
  const kept = new Set(wanted.map(nameOf))
  return installed.filter(object => !kept.has(nameOf(object)))
}

async function list(
  client: KubeClient,
  kinds: Kinds,
  kind: Pick<KubeObject, 'apiVersion' | 'kind'>,
  labelSelector: string | undefined,
  limit: () => AbortSignal
): Promise<readonly Manifest[]> {
  const type = await kinds.find(kind, limit())
  if (type === undefined) return []
  return (await client.list(type, { labelSelector, signal: limit() })).items.map(item => ({
    ...item,
    apiVersion: kind.apiVersion,
    kind: kind.kind
  }))
}
