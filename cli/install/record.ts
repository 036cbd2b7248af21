/** What the installation remembers of itself in the cluster, so that an upgrade keeps what was chosen. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { configMaps } from '../../shared/kube/core-api.ts'
import { fieldManager, marked, meshNamespace, parts, type Part } from './manifest.ts'
import type { Settings } from './settings.ts'

export interface Installation {
  readonly version: string
  readonly settings: Settings
  /** The parts that are of this installation; another mesh may have the others. */
  readonly parts: readonly Part[]
}

const ref = { namespace: meshNamespace, name: 'underpass-installation' }

export async function readInstallation(
  client: KubeClient,
  signal: AbortSignal
): Promise<Installation | undefined> {
  const data = (await client.find(configMaps, ref, signal))?.data
  if (data === undefined) return undefined
  const named = (data['parts'] ?? '').split(',')
  return {
    version: data['version'] ?? '',
    settings: JSON.parse(data['settings'] ?? '{}') as Settings,
    parts: parts.filter(part => named.includes(part))
  }
}

export async function writeInstallation(
  client: KubeClient,
  { version, settings, parts }: Installation,
  signal: AbortSignal
): Promise<void> {
  const data = { version, settings: JSON.stringify(settings), parts: parts.join(',') }
  const object = marked({ apiVersion: 'v1', kind: 'ConfigMap', metadata: ref, data }, version)
  await client.patch(configMaps, ref, object, { kind: 'apply', fieldManager, force: true, signal })
}

export async function forgetInstallation(client: KubeClient, signal: AbortSignal): Promise<void> {
  if ((await client.find(configMaps, ref, signal)) !== undefined)
    await client.delete(configMaps, ref, { signal })
}
