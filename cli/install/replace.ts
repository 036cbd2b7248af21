/**
 * Takes over one part of another mesh, and gives it back. What was there is recorded first, whole, in a Secret of the
 * mesh's namespace; a takeover that was interrupted goes on where it stopped. Secrets are never touched, so
 * the root of trust stays.
 */
import { gunzipSync, gzipSync } from 'node:zlib'
import type { KubeClient } from '../../shared/kube/client.ts'
import { secrets, type Secret } from '../../shared/kube/core-api.ts'
import { templateGeneration, withoutServerFields } from './changes.ts'
import type { Obstacle } from './in-the-way.ts'
import { Kinds } from './kinds.ts'
import { fieldManager, isInstalled, meshNamespace, nameOf, type Manifest, type Part } from './manifest.ts'
import { remove } from './remove.ts'

/** What a takeover changed. */
interface Replaced {
  /** As they were before. */
  readonly replaced: readonly Manifest[]
  /** Brought by the takeover; only what names them. */
  readonly brought: readonly Pick<Manifest, 'apiVersion' | 'kind' | 'metadata'>[]
}

export interface TakeoverOptions {
  readonly say: (line: string) => void
  readonly limit: () => AbortSignal
}

const recordOf = (part: Part) => ({ namespace: meshNamespace, name: `underpass-replaced-${part}` })
const field = 'objects.json.gz'

/** Makes way for `objects`, which the caller applies afterwards. */
export async function makeWay(
  client: KubeClient,
  part: Part,
  objects: readonly Manifest[],
  obstacles: readonly Obstacle[],
  { say, limit }: TakeoverOptions
): Promise<void> {
  const known = await readRecord(client, part, limit())
  const record = known ?? (await currentState(client, objects, obstacles, limit))
  if (known === undefined) await writeRecord(client, part, record, limit())
  const wanted = new Map(objects.map(object => [nameOf(object), object]))
  for (const old of record.replaced) {
    const now = await current(client, old, limit())
    if (now === undefined || isInstalled(now.metadata.labels)) continue // an earlier try came this far
    const successor = wanted.get(nameOf(old))
    say(`replacing ${nameOf(old)}`)
    if (successor === undefined) await remove(client, old, { limit })
    else await succeed(client, now, successor, limit, apply)
  }
}

/** Undoes a takeover: what it brought goes, what was there is back as it was. False when there was none. */
export async function giveBack(
  client: KubeClient,
  part: Part,
  { say, limit }: TakeoverOptions
): Promise<boolean> {
  const record = await readRecord(client, part, limit())
  if (record === undefined) return false
  for (const old of record.replaced) {
    say(`restoring ${nameOf(old)}`)
    const now = await current(client, old, limit())
    if (now === undefined) await create(client, old, limit())
    else await succeed(client, now, old, limit, create)
  }
  for (const object of record.brought) {
    if (await remove(client, object, { limit })) say(`removing ${nameOf(object)}`)
  }
  await client.delete(secrets, recordOf(part), { signal: limit() })
  return true
}

async function currentState(
  client: KubeClient,
  objects: readonly Manifest[],
  obstacles: readonly Obstacle[],
  limit: () => AbortSignal
): Promise<Replaced> {
  const replaced = new Map(obstacles.map(({ object }) => [nameOf(object), withoutServerFields(object)]))
  const brought: Pick<Manifest, 'apiVersion' | 'kind' | 'metadata'>[] = []
  for (const object of objects) {
    const now = await current(client, object, limit())
    const { apiVersion, kind } = object
    const { namespace, name } = object.metadata
    const metadata = namespace === undefined ? { name } : { namespace, name }
    if (now === undefined) brought.push({ apiVersion, kind, metadata })
    else if (!isInstalled(now.metadata.labels)) replaced.set(nameOf(object), withoutServerFields(now))
  }
  return { replaced: [...replaced.values()], brought }
}

/**
 * Puts `next` in the place of `now`. A controller is deleted without its pods where the next one selects the same:
 * that adopts them and replaces them one by one, by its own strategy.
 */
async function succeed(
  client: KubeClient,
  now: Manifest,
  next: Manifest,
  limit: () => AbortSignal,
  bring: typeof create
): Promise<void> {
  if (now.kind === 'Deployment' || now.kind === 'DaemonSet') {
    const adopts = selectsSame(now, next)
    await remove(client, now, { propagation: adopts ? 'Orphan' : 'Background', limit })
    return bring(client, adopts ? ofNextGeneration(next, now) : next, limit())
  }
  const type = await typeOf(client, next, limit())
  const { resourceVersion } = now.metadata
  const metadata = { ...next.metadata, ...(resourceVersion === undefined ? {} : { resourceVersion }) }
  // replaced, not applied: fields of the predecessor must not stay beside ours, for example in a selector
  await client.replace(type, { ...next, metadata }, { fieldManager, signal: limit() })
}

/** A DaemonSet takes adopted pods that bear the number of its own generation for its own, and never replaces them. */
export function ofNextGeneration(next: Manifest, now: Manifest): Manifest {
  if (next.kind !== 'DaemonSet') return next
  const generation = Number(now.metadata.annotations?.[templateGeneration] ?? now.metadata.generation ?? 1)
  const annotations = { ...next.metadata.annotations, [templateGeneration]: String(generation + 1) }
  return { ...next, metadata: { ...next.metadata, annotations } }
}

export function selectsSame(a: Manifest, b: Manifest): boolean {
  const labels = ({ spec }: Manifest): string =>
    JSON.stringify(Object.entries(spec?.selector?.matchLabels ?? {}).toSorted(([x], [y]) => (x < y ? -1 : 1)))
  return labels(a) === labels(b)
}

async function apply(client: KubeClient, object: Manifest, signal: AbortSignal): Promise<void> {
  const { namespace, name } = object.metadata
  const options = { kind: 'apply', fieldManager, force: true, signal } as const
  await client.patch(await typeOf(client, object, signal), { namespace, name }, object, options)
}

async function create(client: KubeClient, object: Manifest, signal: AbortSignal): Promise<void> {
  await client.create(await typeOf(client, object, signal), object, { fieldManager, signal })
}

async function current(
  client: KubeClient,
  object: Pick<Manifest, 'apiVersion' | 'kind' | 'metadata'>,
  signal: AbortSignal
): Promise<Manifest | undefined> {
  const type = await new Kinds(client).find(object, signal)
  const { namespace, name } = object.metadata
  return type === undefined ? undefined : client.find(type, { namespace, name }, signal)
}

async function typeOf(client: KubeClient, object: Manifest, signal: AbortSignal) {
  const type = await new Kinds(client).find(object, signal)
  if (type === undefined) throw new Error(`the API server serves no ${object.kind} in ${object.apiVersion}`)
  return type
}

async function readRecord(
  client: KubeClient,
  part: Part,
  signal: AbortSignal
): Promise<Replaced | undefined> {
  const packed = (await client.find(secrets, recordOf(part), signal))?.data?.[field]
  if (packed === undefined) return undefined
  return JSON.parse(gunzipSync(Buffer.from(packed, 'base64')).toString()) as Replaced
}

async function writeRecord(
  client: KubeClient,
  part: Part,
  record: Replaced,
  signal: AbortSignal
): Promise<void> {
  const packed = gzipSync(JSON.stringify(record)).toString('base64')
  const secret: Secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: recordOf(part),
    type: 'underpass.dev/replaced',
    data: { [field]: packed }
  }
  await client.create(secrets, secret, { fieldManager, signal })
}
