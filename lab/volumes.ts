/** The volumes of a pod as folders of the lab: made before its containers, kept up to date while it runs. */
import { chmodSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Mount } from './container-root.ts'
import { MissingReference, podField, type EnvironmentSources } from './environment.ts'
import {
  namespaceOf,
  type DownwardFile,
  type KeyToPath,
  type LabContainer,
  type LabPod,
  type NameReference,
  type ProjectedSource,
  type Volume
} from './kinds.ts'

export interface VolumeSources extends EnvironmentSources {
  /** A token for the pod's service account. */
  token(pod: LabPod, audience: string | undefined, expirationSeconds: number): string
  /** The folder of the pod's node that plays this path of the host. */
  hostPath(node: string, path: string, type?: string): string
}

/** Files relative to the volume's folder. */
type Files = ReadonlyMap<string, string | Buffer>

export class PodVolumes {
  readonly #folder: string
  readonly #sources: VolumeSources

  constructor(folder: string, sources: VolumeSources) {
    this.#folder = folder
    this.#sources = sources
  }

  /** Makes or refreshes what every volume holds. Throws {@link MissingReference}. */
  write(pod: LabPod): void {
    for (const volume of pod.spec?.volumes ?? []) {
      const folder = this.#folderOf(pod, volume)
      if (volume.hostPath !== undefined) continue
      mkdirSync(folder, { recursive: true })
      if (volume.emptyDir !== undefined) chmodSync(folder, 0o777)
      else replaceFiles(folder, filesOf(pod, volume, this.#sources))
    }
  }

  mounts(pod: LabPod, container: LabContainer): Mount[] {
    return (container.volumeMounts ?? []).flatMap(mount => {
      const volume = pod.spec?.volumes?.find(({ name }) => name === mount.name)
      // Volumes from claims have no place here: the container gets an empty folder of its own.
      const folder = volume === undefined ? path.join(this.#folder, mount.name) : this.#folderOf(pod, volume)
      const source = path.join(folder, mount.subPath ?? '')
      if (volume?.hostPath === undefined && mount.subPath !== undefined && volume?.emptyDir !== undefined) {
        mkdirSync(source, { recursive: true })
        chmodSync(source, 0o777)
      }
      if (volume === undefined) mkdirSync(folder, { recursive: true, mode: 0o777 })
      const writable =
        volume?.emptyDir !== undefined || volume?.hostPath !== undefined || volume === undefined
      return [{ source, target: mount.mountPath, readOnly: mount.readOnly === true || !writable }]
    })
  }

  #folderOf(pod: LabPod, volume: Volume): string {
    return volume.hostPath === undefined
      ? path.join(this.#folder, volume.name)
      : this.#sources.hostPath(pod.spec?.nodeName ?? '', volume.hostPath.path, volume.hostPath.type)
  }
}

/** What a volume that is made of objects contains. */
export function filesOf(pod: LabPod, volume: Volume, sources: VolumeSources): Files {
  const { configMap, secret, downwardAPI, projected } = volume
  if (configMap !== undefined) return configMapFiles(pod, configMap, sources)
  if (secret !== undefined) return secretFiles(pod, { ...secret, name: secret.secretName }, sources)
  if (downwardAPI !== undefined) return downwardFiles(pod, downwardAPI.items, sources)
  const files = new Map<string, string | Buffer>()
  for (const source of projected?.sources ?? []) {
    for (const [name, content] of projectedFiles(pod, source, sources)) files.set(name, content)
  }
  return files
}

function projectedFiles(pod: LabPod, source: ProjectedSource, sources: VolumeSources): Files {
  const { serviceAccountToken, configMap, secret, downwardAPI } = source
  if (configMap !== undefined) return configMapFiles(pod, configMap, sources)
  if (secret !== undefined) return secretFiles(pod, secret, sources)
  if (downwardAPI !== undefined) return downwardFiles(pod, downwardAPI.items, sources)
  if (serviceAccountToken === undefined) return new Map()
  const { path: file, audience, expirationSeconds = 3600 } = serviceAccountToken
  return new Map([[file, sources.token(pod, audience, expirationSeconds)]])
}

type Reference = NameReference & { readonly items?: readonly KeyToPath[] }

function configMapFiles(pod: LabPod, reference: Reference, sources: VolumeSources): Files {
  const found = sources.configMap(namespaceOf(pod), reference.name)
  if (found === undefined && reference.optional !== true) {
    throw new MissingReference(`there is no ConfigMap ${reference.name}`)
  }
  const content = new Map<string, string | Buffer>(Object.entries(found?.data ?? {}))
  for (const [key, value] of Object.entries(found?.binaryData ?? {})) {
    content.set(key, Buffer.from(value, 'base64'))
  }
  return chosen(content, reference, `ConfigMap ${reference.name}`)
}

function secretFiles(pod: LabPod, reference: Reference, sources: VolumeSources): Files {
  const found = sources.secret(namespaceOf(pod), reference.name)
  if (found === undefined && reference.optional !== true) {
    throw new MissingReference(`there is no Secret ${reference.name}`)
  }
  const content = new Map(
    Object.entries(found?.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')] as const)
  )
  return chosen(content, reference, `Secret ${reference.name}`)
}

function chosen(content: Files, { items, optional }: Reference, owner: string): Files {
  if (items === undefined) return content
  const files = new Map<string, string | Buffer>()
  for (const { key, path: file } of items) {
    const value = content.get(key)
    if (value !== undefined) files.set(file, value)
    else if (optional !== true) throw new MissingReference(`${owner} has no key ${key}`)
  }
  return files
}

function downwardFiles(
  pod: LabPod,
  items: readonly DownwardFile[] | undefined,
  sources: VolumeSources
): Files {
  return new Map(
    (items ?? []).map(({ path: file, fieldRef }) => [
      file,
      podField(pod, fieldRef?.fieldPath ?? '', sources) ?? ''
    ])
  )
}

/** Replaces each file in one step, so that a reader never sees half of one; removes what is no more. */
function replaceFiles(folder: string, files: Files): void {
  for (const [name, content] of files) {
    const file = path.join(folder, name)
    // Keys of ConfigMaps hold no slash; paths of items may, but the API server refuses `..`.
    if (!file.startsWith(`${folder}${path.sep}`)) continue
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(`${file}.new`, content, { mode: 0o644 })
    renameSync(`${file}.new`, file)
  }
  const wanted = new Set([...files.keys()].map(name => name.split('/')[0]))
  for (const name of readdirSync(folder)) {
    if (!wanted.has(name)) rmSync(path.join(folder, name), { recursive: true, force: true })
  }
}
