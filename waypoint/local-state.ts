/** What a waypoint is told by files instead of a control plane: for trying things, and for measuring. */
import { readFile } from 'node:fs/promises'
import type { MeshStore } from '../shared/mesh/store.ts'
import type { Config } from './config.ts'
import type { RouteStore } from './routes/route-store.ts'

/** Throws with the file and the field that is wrong. */
export async function loadLocalState(config: Config, mesh: MeshStore, routes: RouteStore): Promise<void> {
  const { localXdsPath, localRoutesPath, clusterDomain } = config
  if (localXdsPath !== undefined) {
    const { readLocalConfig } = await import('../shared/mesh/local-config.ts')
    const { workloads, services } = readLocalConfig(await readFile(localXdsPath, 'utf8'))
    mesh.apply([
      ...workloads.map(workload => ({ kind: 'workload', workload }) as const),
      ...services.map(service => ({ kind: 'service', service }) as const)
    ])
  }
  if (localRoutesPath === undefined) return
  const { parseAllYaml } = await import('../shared/kube/yaml.ts')
  const { readHttpRoute } = await import('./routes/http-route.ts')
  const { readGrpcRoute } = await import('./routes/grpc-route.ts')
  for (const { value } of parseAllYaml(await readFile(localRoutesPath, 'utf8'), localRoutesPath)) {
    const {
      kind = 'HTTPRoute',
      metadata,
      spec = {}
    } = (value ?? {}) as {
      readonly kind?: string
      readonly metadata?: { readonly namespace?: string; readonly name?: string }
      readonly spec?: Readonly<Record<string, unknown>>
    }
    const { namespace = 'default', name = '' } = metadata ?? {}
    const read = kind === 'GRPCRoute' ? readGrpcRoute : readHttpRoute
    try {
      routes.put(`${kind} ${namespace}/${name}`, read({ namespace, name, createdMs: 0, spec }, clusterDomain))
    } catch (cause) {
      throw new Error(`UNDERPASS_LOCAL_ROUTES: ${kind} ${namespace}/${name}`, { cause })
    }
  }
}
