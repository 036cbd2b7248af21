/** What a waypoint is told by files instead of a control plane: for trying things, and for measuring. */
import { readFile } from 'node:fs/promises'
import type { MeshStore } from '../shared/mesh/store.ts'
import type { Config } from './config.ts'
import type { ConfigType } from './config-types.ts'

/** Throws with the file and the field that is wrong. */
export async function loadLocalState(
  { localXdsPath, localConfigPath }: Config,
  mesh: MeshStore,
  types: ReadonlyMap<string, ConfigType>
): Promise<void> {
  if (localXdsPath !== undefined) {
    const { readLocalConfig } = await import('../shared/mesh/local-config.ts')
    const { workloads, services } = readLocalConfig(await readFile(localXdsPath, 'utf8'))
    mesh.apply([
      ...workloads.map(workload => ({ kind: 'workload', workload }) as const),
      ...services.map(service => ({ kind: 'service', service }) as const)
    ])
  }
  if (localConfigPath === undefined) return
  const { parseAllYaml } = await import('../shared/kube/yaml.ts')
  for (const { value } of parseAllYaml(await readFile(localConfigPath, 'utf8'), localConfigPath)) {
    const {
      kind = 'HTTPRoute',
      metadata,
      spec = {}
    } = (value ?? {}) as {
      readonly kind?: string
      readonly metadata?: {
        readonly namespace?: string
        readonly name?: string
        readonly annotations?: Readonly<Record<string, string>>
      }
      readonly spec?: Readonly<Record<string, unknown>>
    }
    const { namespace = 'default', name = '', annotations = {} } = metadata ?? {}
    const type = [...types].find(([url]) => url.endsWith(`/${kind}`))?.[1]
    if (type === undefined)
      throw new Error(`${localConfigPath}: objects of kind ${kind} are not for a waypoint`)
    try {
      type.put(`${namespace}/${name}`, { namespace, name, createdMs: 0, annotations, spec })
    } catch (cause) {
      throw new Error(`UNDERPASS_LOCAL_CONFIG: ${kind} ${namespace}/${name}`, { cause })
    }
  }
}
