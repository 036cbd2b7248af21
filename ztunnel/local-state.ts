/** LOCAL_XDS and LOCAL_XDS_PATH: workloads, services and policies to start with, read once. */
import { readFileSync } from 'node:fs'
import { ConfigError } from '../shared/runtime/env.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { giveBackMemory } from '../shared/runtime/give-back-memory.ts'
import type { MeshStore } from '../shared/mesh/store.ts'
import type { Policy, Service, Workload } from '../shared/mesh/model.ts'
import type { Config } from './config.ts'

export interface StaticConfig {
  readonly workloads: readonly Workload[]
  readonly services: readonly Service[]
  readonly policies: readonly Policy[]
}

const nothing: StaticConfig = { workloads: [], services: [], policies: [] }

/** Texts from this size on leave enough garbage behind to be worth a collection, in characters. */
const LARGE = 1 << 20

/**
 * Puts what the file says into the mesh. Throws a ConfigError that names the field. Resolves to what reads it
 * again, for dumps: only the text is kept, the mesh has the rest.
 */
export async function loadLocalState(config: Config, mesh: MeshStore): Promise<() => Promise<StaticConfig>> {
  const { localXds } = config
  if (localXds.kind === 'none') return async () => nothing
  try {
    const text = localXds.kind === 'file' ? readFileSync(localXds.text, 'utf8') : localXds.text
    await put(text, mesh)
    if (text.length >= LARGE) giveBackMemory()
    return () => read(text)
  } catch (error) {
    if (error instanceof ConfigError) throw error
    const from = localXds.kind === 'file' ? `LOCAL_XDS_PATH=${localXds.text}` : 'LOCAL_XDS'
    throw new ConfigError([`${from}: ${messageOf(error)}`])
  }
}

async function put(text: string, mesh: MeshStore): Promise<void> {
  const local = await read(text)
  const { rejected } = mesh.apply([
    ...local.policies.map(policy => ({ kind: 'policy', policy }) as const),
    ...local.services.map(service => ({ kind: 'service', service }) as const),
    ...local.workloads.map(workload => ({ kind: 'workload', workload }) as const)
  ])
  if (rejected.length > 0) throw new ConfigError(rejected.map(({ name, reason }) => `${name}: ${reason}`))
}

async function read(text: string): Promise<StaticConfig> {
  const { readLocalConfig } = await import('../shared/mesh/local-config.ts')
  return readLocalConfig(text)
}
