/** Findings about the cluster itself: what can be known before there is a mesh. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { configMaps, namespaces, nodes } from '../../shared/kube/core-api.ts'
import { namedType, type ResourceType } from '../../shared/kube/object.ts'
import { compareDefinitions, isBefore } from '../install/definitions.ts'
import { meshNamespace, nameOf } from '../install/manifest.ts'
import { readObstacles } from '../install/present.ts'
import { finding, type Finding } from './findings.ts'
import { findCalicoSettings, findCiliumSettings, type FelixConfiguration } from './network-plugins.ts'
import { findClockSkew, findUnfitNodes, type Lease } from './nodes.ts'
import type { Reader } from './read.ts'

const oldestServer = '1.30'
const leases: ResourceType<Lease> = namedType('coordination.k8s.io', 'v1', 'Lease')
const felixConfigurations: ResourceType<FelixConfiguration> = {
  ...namedType<FelixConfiguration>('crd.projectcalico.org', 'v1', 'FelixConfiguration'),
  namespaced: false
}

export interface ClusterChecks {
  readonly client: KubeClient
  readonly reader: Reader
  readonly limit: () => AbortSignal
  readonly now: number
}

export async function checkCluster(checks: ClusterChecks): Promise<readonly Finding[]> {
  const { reader, now } = checks
  const [found, cilium, felix, nodeLeases, ...others] = await Promise.all([
    reader.list(nodes),
    reader.find(configMaps, { namespace: 'kube-system', name: 'cilium-config' }),
    reader.list(felixConfigurations),
    reader.list(leases, { namespace: 'kube-node-lease' }),
    checkServer(checks),
    checkDefinitions(checks),
    checkObstacles(checks),
    checkPodSecurity(checks)
  ])
  return [
    ...others.flat(),
    ...findUnfitNodes(found),
    ...findCiliumSettings(cilium),
    ...findCalicoSettings(felix),
    ...findClockSkew(nodeLeases, found, now)
  ]
}

async function checkServer({ client, reader, limit }: ClusterChecks): Promise<readonly Finding[]> {
  const version = (await reader.read(() => client.raw('GET', '/version', undefined, limit()))) as
    | { readonly gitVersion?: string }
    | undefined
  const text = version?.gitVersion
  return text !== undefined && isBefore(text, oldestServer) ? [finding('UP0001', 'api server', text)] : []
}

async function checkDefinitions({ client, reader, limit }: ClusterChecks): Promise<readonly Finding[]> {
  const compared = (await reader.read(() => compareDefinitions(client, limit()))) ?? []
  const absent = compared.filter(({ state }) => state.kind === 'absent')
  const older = compared.flatMap(({ definition, state }) =>
    state.kind === 'older'
      ? [finding('UP0004', `customresourcedefinition ${definition.metadata.name}`, state.lacks)]
      : []
  )
  if (absent.length === 0) return older
  const [first] = absent
  const more = absent.length > 1 ? ` and ${absent.length - 1} more` : ''
  const name = `customresourcedefinition ${first?.definition.metadata.name}${more}`
  return [...older, finding('UP0004', name, 'missing', 'info')]
}

async function checkObstacles({ client, reader, limit }: ClusterChecks): Promise<readonly Finding[]> {
  const obstacles = (await reader.read(() => readObstacles(client, limit))) ?? []
  return obstacles.map(({ object, why }) => finding('UP0003', nameOf(object), why))
}

async function checkPodSecurity({ reader }: ClusterChecks): Promise<readonly Finding[]> {
  const namespace = await reader.find(namespaces, { name: meshNamespace })
  const level = namespace?.metadata.labels?.['pod-security.kubernetes.io/enforce']
  if (level === undefined || level === 'privileged') return []
  return [finding('UP0022', `namespace ${meshNamespace}`, `enforces the level ${level}`)]
}
