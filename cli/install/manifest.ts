/** What `underpass install` brings: the objects of the plain manifest that is made from the Helm chart. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { parseAllYaml } from '../../shared/kube/yaml.ts'
import { objectKey, type KubeObject, type Labels } from '../../shared/kube/object.ts'

/** What one of Istio's programs can be replaced by; `base` is what all of them share. */
export const parts = ['control-plane', 'node-agent', 'ztunnel'] as const
export type Part = (typeof parts)[number]

/** An object of any kind, with the fields that are read of some. */
export interface Manifest extends KubeObject {
  readonly spec?: { readonly selector?: { readonly matchLabels?: Labels }; readonly [field: string]: unknown }
  readonly [field: string]: unknown
}

export const meshNamespace = 'istio-system'
export const fieldManager = 'underpass'
/** On everything that the command line installed. */
export const ownerLabel = { key: 'app.kubernetes.io/managed-by', value: 'underpass' } as const
export const versionLabel = 'app.kubernetes.io/version'

const folder = path.resolve(import.meta.dirname, '../../daemonset/manifests')

/** Parsed anew at every call, so that callers may not change each other's. */
export function readManifest(): readonly Manifest[] {
  const text = readFileSync(path.join(folder, 'underpass.yaml'), 'utf8')
  return parseAllYaml(text, 'underpass.yaml').map(({ value }) => value as Manifest)
}

/** Marks an object as installed by this program in this version. A namespace is not ours alone. */
export function marked(object: Manifest, version: string): Manifest {
  if (object.kind === 'Namespace') return object
  const labels = { ...object.metadata.labels, [ownerLabel.key]: ownerLabel.value, [versionLabel]: version }
  return { ...object, metadata: { ...object.metadata, labels } }
}

/** The part that an object of the manifest belongs to. */
export function partOf({ metadata }: KubeObject): Part | 'base' {
  return parts.find(part => part === metadata.labels?.['app.kubernetes.io/component']) ?? 'base'
}

/** `deployment.apps istio-system/istiod` */
export function nameOf(object: KubeObject): string {
  const group = object.apiVersion.includes('/') ? `.${object.apiVersion.split('/')[0]}` : ''
  return `${object.kind.toLowerCase()}${group} ${objectKey(object)}`
}

export function isInstalled(labels: Labels | undefined): boolean {
  return labels?.[ownerLabel.key] === ownerLabel.value
}

/** By Helm, from the project's chart. */
export function isCharted(labels: Labels | undefined): boolean {
  return isOurs(labels) && labels?.[ownerLabel.key] === 'Helm'
}

/** However it was brought. */
export function isOurs(labels: Labels | undefined): boolean {
  return labels?.['app.kubernetes.io/part-of'] === 'underpass'
}
