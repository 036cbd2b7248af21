/** Manifests: read from files, folders, addresses or standard input, and applied in an order that works. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import type { KubeClient } from '../shared/kube/client.ts'
import { KubeError } from '../shared/kube/errors.ts'
import { parseAllYaml } from '../shared/kube/yaml.ts'
import type { KubeObject } from '../shared/kube/object.ts'
import { Discovery } from './discovery.ts'
import { wait } from './wait.ts'

export interface Manifest {
  readonly object: KubeObject
  /** `file:line`, for messages. */
  readonly where: string
}

export class ManifestError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ManifestError'
  }
}

const manager = 'underpass-lab'
const establishMs = 10_000

/** What the API takes at most in one request, in bytes. */
const maxObjectBytes = 3 << 20

/** `-` is standard input, a folder all its YAML and JSON files. Throws {@link ManifestError}, also when there is nothing. */
export function readManifests(source: string): Manifest[] {
  if (/^https?:/.test(source)) {
    throw new ManifestError(
      `${source}: the lab fetches nothing; download it first, for example: curl -LO ${source}`
    )
  }
  const name = source === '-' ? 'standard input' : source
  const found = filesOf(source).flatMap(([file, text]) => parseManifests(text, file))
  if (found.length === 0) throw new ManifestError(`${name}: there is no Kubernetes object in it`)
  return found
}

function filesOf(source: string): (readonly [name: string, text: string])[] {
  try {
    if (source === '-') return [['standard input', readFileSync(0, 'utf8')]]
    if (!statSync(source).isDirectory()) return [[source, readFileSync(source, 'utf8')]]
    return readdirSync(source)
      .filter(name => /\.(ya?ml|json)$/.test(name))
      .toSorted()
      .map(name => path.join(source, name))
      .map(file => [file, readFileSync(file, 'utf8')])
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
    throw new ManifestError(`${source}: ${error.message}`)
  }
}

/** Objects of kind List give their items. */
export function parseManifests(text: string, name: string): Manifest[] {
  if (text.includes('\0')) throw new ManifestError(`${name}: not YAML or JSON, but a binary file`)
  return parseAllYaml(text, name).flatMap(({ value, line }) => objectsIn(value, `${name}:${line}`))
}

function objectsIn(value: unknown, where: string): Manifest[] {
  const { apiVersion, kind, items, metadata } = (value ?? {}) as Partial<KubeObject> & { items?: unknown }
  if (typeof apiVersion !== 'string' || typeof kind !== 'string') {
    throw new ManifestError(`${where}: not a Kubernetes object: it has no apiVersion or no kind`)
  }
  if (Array.isArray(items)) return items.flatMap(item => objectsIn(item, where))
  if (typeof metadata?.name !== 'string') {
    throw new ManifestError(`${where}: ${kind} without metadata.name`)
  }
  const bytes = Buffer.byteLength(JSON.stringify(value))
  if (bytes > maxObjectBytes) {
    const size = (bytes / (1 << 20)).toFixed(1)
    throw new ManifestError(`${where}: ${kind} ${metadata.name} is ${size} MiB; the API takes 3 MiB at most`)
  }
  return [{ object: value as KubeObject, where }]
}

/** Namespaces and definitions first, then what needs them; else in the order of the files. */
export function applyOrder(manifests: readonly Manifest[]): Manifest[] {
  const rank = ({ object }: Manifest): number => {
    const at = [
      'Namespace',
      'CustomResourceDefinition',
      'ServiceAccount',
      'ConfigMap',
      'Secret',
      'Service'
    ].indexOf(object.kind)
    return at === -1 ? 9 : at
  }
  return manifests.toSorted((a, b) => rank(a) - rank(b))
}

export interface Applied {
  readonly object: KubeObject
  readonly plural: string
  readonly change: 'created' | 'configured' | 'unchanged'
}

export interface ApplyOptions {
  /** For objects that name none. */
  readonly namespace: string
  readonly onApplied?: (applied: Applied) => void
  readonly signal?: AbortSignal
}

/** Server-side apply of each object. Throws {@link ManifestError} at the first that is refused. */
export async function applyManifests(
  client: KubeClient,
  manifests: readonly Manifest[],
  options: ApplyOptions
): Promise<void> {
  let discovery = await Discovery.read(client)
  for (const { object, where } of applyOrder(manifests)) {
    const { apiVersion, kind, metadata } = object
    let type = discovery.ofObject(object)
    // A definition applied just before is served a moment later.
    const deadline = Date.now() + (manifests.some(other => defines(other.object, kind)) ? establishMs : 0)
    while (type === undefined && Date.now() < deadline) {
      await wait(100, options.signal)
      discovery = await Discovery.read(client)
      type = discovery.ofObject(object)
    }
    if (type === undefined)
      throw new ManifestError(
        `${where}: the API has no ${kind} of ${apiVersion}; correct apiVersion and kind, or add its CustomResourceDefinition to the manifests`
      )
    const namespace = type.namespaced ? (metadata.namespace ?? options.namespace) : undefined
    const ref = { namespace, name: metadata.name }
    try {
      const before = await client.find(type, ref)
      const body = namespace === undefined ? object : { ...object, metadata: { ...metadata, namespace } }
      const after = await client.patch(type, ref, body, { kind: 'apply', fieldManager: manager, force: true })
      const change =
        before === undefined ? 'created' : sameVersion(before, after) ? 'unchanged' : 'configured'
      options.onApplied?.({ object: after, plural: type.plural, change })
    } catch (error) {
      if (!(error instanceof KubeError)) throw error
      throw new ManifestError(`${where}: ${error.message}`)
    }
  }
}

function defines(object: KubeObject, kind: string): boolean {
  const { spec } = object as KubeObject & { spec?: { names?: { kind?: string } } }
  return object.kind === 'CustomResourceDefinition' && spec?.names?.kind === kind
}

function sameVersion(a: KubeObject, b: KubeObject): boolean {
  return a.metadata.resourceVersion === b.metadata.resourceVersion
}
