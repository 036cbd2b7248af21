/** The definitions of Istio's and the Gateway API's kinds: brought where they are absent, else left alone. */
import type { KubeClient } from '../../shared/kube/client.ts'
import {
  customResourceDefinitions,
  publishedDefinitions,
  type CustomResourceDefinition
} from '../../shared/kube/definitions.ts'
import { waiting } from '../watch.ts'
import { fieldManager } from './manifest.ts'

export type DefinitionState =
  /** The cluster has none: ours is created. */
  | { readonly kind: 'absent' }
  /** The cluster's serves all that ours does. */
  | { readonly kind: 'present' }
  /** The cluster's is older than ours; `lacks` says in what. It stays, as others may depend on it. */
  | { readonly kind: 'older'; readonly lacks: string }

export interface ComparedDefinition {
  readonly definition: CustomResourceDefinition
  readonly state: DefinitionState
}

const bundleVersion = 'gateway.networking.k8s.io/bundle-version'

export function compareDefinition(
  published: CustomResourceDefinition,
  present: CustomResourceDefinition | undefined
): DefinitionState {
  if (present === undefined) return { kind: 'absent' }
  const served = servedVersions(present)
  const lacking = servedVersions(published).filter(version => !served.includes(version))
  if (lacking.length > 0) return { kind: 'older', lacks: `does not serve ${lacking.join(', ')}` }
  const ours = published.metadata.annotations?.[bundleVersion]
  const theirs = present.metadata.annotations?.[bundleVersion]
  if (ours !== undefined && theirs !== undefined && isBefore(theirs, ours)) {
    return { kind: 'older', lacks: `is of version ${theirs}, not ${ours}` }
  }
  return { kind: 'present' }
}

/** Whether version `a` (`v1.2.3`) comes before `b`. */
export function isBefore(a: string, b: string): boolean {
  const [left, right] = [numbersOf(a), numbersOf(b)]
  for (const [index, number] of left.entries()) {
    const other = right[index] ?? 0
    if (number !== other) return number < other
  }
  return left.length < right.length
}

export async function compareDefinitions(
  client: KubeClient,
  signal: AbortSignal
): Promise<readonly ComparedDefinition[]> {
  const { items } = await client.list(customResourceDefinitions, { signal })
  const present = new Map(items.map(item => [item.metadata.name, item]))
  return publishedDefinitions().map(definition => ({
    definition,
    state: compareDefinition(definition, present.get(definition.metadata.name))
  }))
}

/** Creates the definitions given; resolves when the server serves them all. */
export async function createDefinitions(
  client: KubeClient,
  definitions: readonly CustomResourceDefinition[],
  { dryRun, limit }: { readonly dryRun: boolean; readonly limit: () => AbortSignal }
): Promise<void> {
  await Promise.all(
    definitions.map(async definition => {
      const { name } = definition.metadata
      await client.patch(customResourceDefinitions, { name }, definition, {
        kind: 'apply',
        fieldManager,
        dryRun,
        signal: limit()
      })
    })
  )
  if (!dryRun) await established(client, new Set(definitions.map(({ metadata }) => metadata.name)), limit)
}

/** A server takes at most a few seconds; a minute means that it refuses the definition. */
const patienceMs = 60_000

async function established(
  client: KubeClient,
  wanted: ReadonlySet<string>,
  limit: () => AbortSignal
): Promise<void> {
  const signal = AbortSignal.timeout(patienceMs)
  while (wanted.size > 0) {
    const { items } = await client.list(customResourceDefinitions, { signal: limit() })
    const late = items.filter(item => wanted.has(item.metadata.name) && !isEstablished(item))
    if (late.length === 0) return
    if (signal.aborted) {
      throw new Error(`the API server does not serve ${late.map(({ metadata }) => metadata.name).join(', ')}`)
    }
    await waiting(100, limit())
  }
}

function isEstablished({ status }: CustomResourceDefinition): boolean {
  return status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True') === true
}

function servedVersions({ spec }: CustomResourceDefinition): readonly string[] {
  return spec.versions.filter(({ served }) => served).map(({ name }) => name)
}

function numbersOf(version: string): readonly number[] {
  return (/\d+(?:\.\d+)*/.exec(version)?.[0] ?? '').split('.').map(Number)
}
