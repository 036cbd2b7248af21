/** Brings objects into the cluster by server-side apply, in an order that works, and says what changed. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { isNotFound } from '../../shared/kube/errors.ts'
import type { ResourceType } from '../../shared/kube/object.ts'
import { changedFields } from './changes.ts'
import { Kinds } from './kinds.ts'
import { fieldManager, type Manifest } from './manifest.ts'

export type Applied =
  | { readonly kind: 'created'; readonly object: Manifest }
  | { readonly kind: 'changed'; readonly object: Manifest; readonly fields: readonly string[] }
  | { readonly kind: 'unchanged'; readonly object: Manifest }

export interface ApplyOptions {
  /** Asks the server what would happen; changes nothing. */
  readonly dryRun: boolean
  /** A signal for the next request. */
  readonly limit: () => AbortSignal
}

/** What others depend on comes first; what is not named comes in the order of the manifest, in between. */
const first = ['Namespace', 'PriorityClass', 'ServiceAccount', 'ConfigMap', 'Secret']
const last = ['Deployment', 'DaemonSet', 'ValidatingWebhookConfiguration']

export function inOrder(objects: readonly Manifest[]): readonly Manifest[] {
  const rank = ({ kind }: Manifest): number => {
    if (first.includes(kind)) return first.indexOf(kind) - first.length
    return last.includes(kind) ? last.indexOf(kind) + 1 : 0
  }
  return objects.toSorted((a, b) => rank(a) - rank(b))
}

/** Applies each object, taking over its fields: whoever calls has made sure that they are ours to take. */
export async function* applyAll(
  client: KubeClient,
  objects: readonly Manifest[],
  { dryRun, limit }: ApplyOptions
): AsyncGenerator<Applied> {
  const kinds = new Kinds(client)
  for (const object of inOrder(objects)) {
    const type = await kinds.find(object, limit())
    if (type === undefined) {
      if (!dryRun) throw new Error(`the API server serves no ${object.kind} in ${object.apiVersion}`)
      yield { kind: 'created', object }
      continue
    }
    yield await applyOne(client, type, object, { dryRun, limit })
  }
}

async function applyOne(
  client: KubeClient,
  type: ResourceType<Manifest>,
  object: Manifest,
  { dryRun, limit }: ApplyOptions
): Promise<Applied> {
  const { namespace, name } = object.metadata
  const before = await client.find(type, { namespace, name }, limit())
  try {
    const options = { kind: 'apply', fieldManager, force: true, dryRun, signal: limit() } as const
    const after = await client.patch(type, { namespace, name }, object, options)
    if (before === undefined) return { kind: 'created', object }
    const fields = changedFields(before, after)
    return fields.length === 0 ? { kind: 'unchanged', object } : { kind: 'changed', object, fields }
  } catch (error) {
    // nothing can be tried in a namespace that is not there yet
    if (dryRun && before === undefined && isNotFound(error)) return { kind: 'created', object }
    throw error
  }
}
