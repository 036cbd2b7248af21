/** The permissions that installing takes, as a ClusterRole to give to whoever may do it. */
import { obstacleKinds } from './in-the-way.ts'
import type { Manifest } from './manifest.ts'

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
}

const write = ['get', 'list', 'create', 'patch', 'update', 'delete']

export function installerRole(objects: readonly Manifest[]): object {
  const kinds = new Map<string, { readonly group: string; readonly plural: string }>()
  for (const { apiVersion, kind } of [...objects, ...obstacleKinds]) {
    const group = apiVersion.includes('/') ? (apiVersion.split('/')[0] ?? '') : ''
    kinds.set(`${group} ${kind}`, { group, plural: pluralOf(kind) })
  }
  const groups = Map.groupBy(kinds.values(), ({ group }) => group)
  const rules: Rule[] = [...groups].map(([group, found]) => ({
    apiGroups: [group],
    resources: found.map(({ plural }) => plural).toSorted(),
    // roles can be given only by those who hold what they allow, or may escalate
    verbs: group === 'rbac.authorization.k8s.io' ? [...write, 'bind', 'escalate'] : write
  }))
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name: 'underpass-installer' },
    rules: [
      ...rules,
      {
        apiGroups: ['apiextensions.k8s.io'],
        resources: ['customresourcedefinitions'],
        verbs: ['get', 'list', 'create', 'patch']
      },
      { apiGroups: [''], resources: ['secrets'], verbs: ['get', 'create', 'delete'] },
      { apiGroups: [''], resources: ['pods'], verbs: ['get', 'list', 'create', 'delete'] },
      { apiGroups: [''], resources: ['pods/portforward'], verbs: ['create'] },
      { apiGroups: [''], resources: ['pods/log', 'nodes', 'events'], verbs: ['get', 'list'] }
    ]
  }
}

/** Of the kinds in the manifest; a new kind with an odd plural belongs here. */
function pluralOf(kind: string): string {
  const name = kind.toLowerCase()
  if (/(s|x|ch|sh)$/.test(name)) return `${name}es`
  return name.endsWith('y') ? `${name.slice(0, -1)}ies` : `${name}s`
}
