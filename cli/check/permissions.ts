/** Whether the user may do what commands need. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { namedType, type KubeObject, type ResourceType } from '../../shared/kube/object.ts'
import { meshNamespace } from '../install/manifest.ts'
import { finding, type Finding } from './findings.ts'

interface SelfSubjectAccessReview extends KubeObject {
  readonly spec: { readonly resourceAttributes: Readonly<Record<string, string>> }
  readonly status?: { readonly allowed: boolean }
}

const reviews: ResourceType<SelfSubjectAccessReview> = {
  ...namedType<SelfSubjectAccessReview>('authorization.k8s.io', 'v1', 'SelfSubjectAccessReview'),
  namespaced: false
}

interface Needed {
  readonly verb: string
  readonly group?: string
  readonly resource: string
  readonly subresource?: string
  readonly namespace?: string
  readonly commands: string
}

const daily: readonly Needed[] = [
  { verb: 'list', resource: 'pods', namespace: meshNamespace, commands: 'status, config, pods' },
  {
    verb: 'create',
    resource: 'pods',
    subresource: 'portforward',
    namespace: meshNamespace,
    commands: 'status, config, pods, explain, tap'
  },
  { verb: 'list', resource: 'namespaces', commands: 'status, pods -A' },
  { verb: 'patch', resource: 'namespaces', commands: 'enroll' }
]

const installing: readonly Needed[] = [
  {
    verb: 'create',
    group: 'apiextensions.k8s.io',
    resource: 'customresourcedefinitions',
    commands: 'install'
  },
  { verb: 'escalate', group: 'rbac.authorization.k8s.io', resource: 'clusterroles', commands: 'install' },
  {
    verb: 'patch',
    group: 'apps',
    resource: 'daemonsets',
    namespace: meshNamespace,
    commands: 'install, upgrade'
  },
  { verb: 'patch', resource: 'namespaces', commands: 'install, enroll' }
]

export async function findMissingPermissions(
  client: KubeClient,
  { pre }: { readonly pre: boolean },
  limit: () => AbortSignal
): Promise<readonly Finding[]> {
  const answers = await Promise.all(
    (pre ? installing : daily).map(async needed => ({ needed, allowed: await may(client, needed, limit()) }))
  )
  return answers.flatMap(({ needed, allowed }) => {
    if (allowed) return []
    const { verb, resource, subresource, namespace, commands } = needed
    const what = `${verb} ${resource}${subresource === undefined ? '' : `/${subresource}`}`
    const where = namespace === undefined ? '' : ` in namespace ${namespace}`
    return [finding('UP0002', 'you', `may not ${what}${where}, which takes: ${commands}`)]
  })
}

async function may(client: KubeClient, needed: Needed, signal: AbortSignal): Promise<boolean> {
  const { commands: _, ...attributes } = needed
  const review = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    metadata: { name: '' },
    spec: { resourceAttributes: attributes }
  }
  const { status } = await client.create(reviews, review, { signal })
  return status?.allowed === true
}
