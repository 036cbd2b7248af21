/** What is served, for clients that ask before they act. Source: Kubernetes, "The Kubernetes API", discovery. */
import type { JsonObject } from '../json.ts'
import { apiVersionOf, type Resource, type ResourceRegistry } from '../resources.ts'
import { compareVersions } from './versions.ts'

const storedVerbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']
/** Kinds of the sub-resources that are not the resource itself, and what can be done with each. */
const subresourceKinds: Readonly<
  Record<string, { kind: string; group?: string; version?: string; verbs: readonly string[] }>
> = {
  scale: { kind: 'Scale', group: 'autoscaling', version: 'v1', verbs: ['get', 'patch', 'update'] },
  token: { kind: 'TokenRequest', group: 'authentication.k8s.io', version: 'v1', verbs: ['create'] },
  eviction: { kind: 'Eviction', group: 'policy', version: 'v1', verbs: ['create'] },
  binding: { kind: 'Binding', verbs: ['create'] },
  exec: { kind: 'PodExecOptions', verbs: ['create', 'get'] },
  portforward: { kind: 'PodPortForwardOptions', verbs: ['create', 'get'] },
  log: { kind: 'Pod', verbs: ['get'] },
  finalize: { kind: 'Namespace', verbs: ['update'] }
}

/** `/api`: the versions of the core group. */
export function coreVersions(): JsonObject {
  return {
    kind: 'APIVersions',
    versions: ['v1'],
    serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: '' }]
  }
}

/** `/apis`: the other groups. */
export function groupList(registry: ResourceRegistry): JsonObject {
  return {
    kind: 'APIGroupList',
    apiVersion: 'v1',
    groups: groups(registry)
      .filter(group => group !== '')
      .map(group => groupOf(registry, group))
  }
}

/** `/apis/GROUP`; undefined when nothing of it is served. */
export function groupDocument(registry: ResourceRegistry, group: string): JsonObject | undefined {
  if (versionsOf(registry, group).length === 0) return undefined
  return { kind: 'APIGroup', apiVersion: 'v1', ...groupOf(registry, group) }
}

function groupOf(registry: ResourceRegistry, group: string): JsonObject {
  const versions = versionsOf(registry, group).map(version => ({
    groupVersion: apiVersionOf({ group, version }),
    version
  }))
  return { name: group, versions, preferredVersion: versions[0] }
}

/** `/api/v1`, `/apis/GROUP/VERSION`; undefined when it is not served. */
export function resourceList(
  registry: ResourceRegistry,
  group: string,
  version: string
): JsonObject | undefined {
  const served = servedIn(registry, group, version)
  if (served.length === 0) return undefined
  const resources = served.flatMap(resource => [
    {
      name: resource.plural,
      singularName: resource.singular,
      namespaced: resource.namespaced,
      kind: resource.kind,
      verbs: verbsOf(resource),
      ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
      ...(resource.categories.length === 0 ? {} : { categories: resource.categories })
    },
    ...[...resource.subresources].map(name => ({
      name: `${resource.plural}/${name}`,
      singularName: '',
      namespaced: resource.namespaced,
      ...subresourceKind(resource, name)
    }))
  ])
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: apiVersionOf({ group, version }),
    resources
  }
}

/** All groups and their resources in one document; `core` = only the group without a name. */
export function aggregated(registry: ResourceRegistry, core: boolean): JsonObject {
  const items = groups(registry)
    .filter(group => (group === '') === core)
    .map(group => ({
      metadata: group === '' ? {} : { name: group },
      versions: versionsOf(registry, group).map(version => ({
        version,
        resources: servedIn(registry, group, version).map(aggregatedResource),
        freshness: 'Current'
      }))
    }))
  return { kind: 'APIGroupDiscoveryList', apiVersion: 'apidiscovery.k8s.io/v2', metadata: {}, items }
}

function aggregatedResource(resource: Resource): JsonObject {
  const { group, version, kind } = resource
  return {
    resource: resource.plural,
    responseKind: { group, version, kind },
    scope: resource.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: resource.singular,
    verbs: verbsOf(resource),
    ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
    ...(resource.categories.length === 0 ? {} : { categories: resource.categories }),
    ...(resource.subresources.size === 0
      ? {}
      : {
          subresources: [...resource.subresources].map(name => {
            const { kind, group = '', version = '', verbs } = subresourceKind(resource, name)
            return { subresource: name, responseKind: { group, version, kind }, verbs }
          })
        })
  }
}

function subresourceKind(
  resource: Resource,
  name: string
): { kind: string; group?: string; version?: string; verbs: readonly string[] } {
  return subresourceKinds[name] ?? { kind: resource.kind, verbs: ['get', 'patch', 'update'] }
}

export function verbsOf(resource: Resource): readonly string[] {
  if (!resource.stored) return ['create']
  return resource.collection === '/namespaces'
    ? storedVerbs.filter(verb => verb !== 'deletecollection')
    : storedVerbs
}

/** Builtin groups in their order, then the others by name: clients prefer what comes first. */
function groups(registry: ResourceRegistry): readonly string[] {
  const of = (origin: Resource['origin']): string[] =>
    registry
      .all()
      .filter(resource => resource.origin === origin)
      .map(({ group }) => group)
  return [...new Set([...of('builtin'), ...of('custom').toSorted()])]
}

/** Versions of a group, the preferred one first. */
export function versionsOf(registry: ResourceRegistry, group: string): readonly string[] {
  const served = registry.all().filter(resource => resource.group === group)
  return [...new Set(served.map(({ version }) => version))].toSorted(compareVersions)
}

function servedIn(registry: ResourceRegistry, group: string, version: string): readonly Resource[] {
  return registry.all().filter(resource => resource.group === group && resource.version === version)
}
