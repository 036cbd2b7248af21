/**
 * Whose parts of a mesh are in a cluster already. Source: names, labels and annotations of Istio's charts, which
 * its operators use too.
 */
import type { KubeObject, Labels } from '../../shared/kube/object.ts'
import {
  isCharted,
  isInstalled,
  isOurs,
  meshNamespace,
  nameOf,
  type Manifest,
  type Part
} from './manifest.ts'

export interface Obstacle {
  readonly part: Part
  readonly object: Manifest
  /** How it was recognised, and whose it is. */
  readonly why: string
}

interface Mark {
  readonly part: Part
  readonly kinds: readonly string[]
  readonly is: (object: KubeObject, labels: Labels) => boolean
  readonly why: string
}

const marks: readonly Mark[] = [
  {
    part: 'control-plane',
    kinds: ['Deployment'],
    is: (_, labels) => labels['app'] === 'istiod' || labels['istio'] === 'pilot',
    why: "another mesh's control plane"
  },
  {
    part: 'control-plane',
    kinds: ['Service'],
    is: ({ metadata }) => metadata.namespace === meshNamespace && metadata.name === 'istiod',
    why: 'the agents are told to find their control plane there'
  },
  {
    part: 'control-plane',
    kinds: ['EndpointSlice'],
    is: ({ metadata }, labels) =>
      metadata.namespace === meshNamespace &&
      labels['kubernetes.io/service-name'] === 'istiod' &&
      labels['endpointslice.kubernetes.io/managed-by'] === undefined,
    why: 'a control plane outside of the cluster, written by hand'
  },
  {
    part: 'control-plane',
    kinds: ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'],
    is: (object, labels) =>
      ['sidecar-injector', 'istiod'].includes(labels['app'] ?? '') || callsIstiod(object as Manifest),
    why: 'sends objects to a control plane that is being replaced'
  },
  {
    part: 'node-agent',
    kinds: ['DaemonSet'],
    is: ({ metadata }, labels) =>
      labels['k8s-app'] === 'istio-cni-node' || metadata.name === 'istio-cni-node',
    why: "another mesh's node agent, which would write capture rules too"
  },
  {
    part: 'ztunnel',
    kinds: ['DaemonSet'],
    is: ({ metadata }, labels) =>
      labels['app'] === 'ztunnel' || (metadata.namespace === meshNamespace && metadata.name === 'ztunnel'),
    why: "another mesh's ztunnel"
  }
]

/** Kinds among which obstacles are looked for. */
export const obstacleKinds: readonly Pick<KubeObject, 'apiVersion' | 'kind'>[] = [
  { apiVersion: 'apps/v1', kind: 'Deployment' },
  { apiVersion: 'apps/v1', kind: 'DaemonSet' },
  { apiVersion: 'v1', kind: 'Service' },
  { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice' },
  { apiVersion: 'admissionregistration.k8s.io/v1', kind: 'MutatingWebhookConfiguration' },
  { apiVersion: 'admissionregistration.k8s.io/v1', kind: 'ValidatingWebhookConfiguration' }
]

/** What another installation owns of the parts that this one would bring. */
export function findObstacles(objects: readonly Manifest[]): readonly Obstacle[] {
  return objects.flatMap(object => {
    const labels = object.metadata.labels ?? {}
    // what kubectl brought of ours is taken over; a Helm release would put its own back
    if (isInstalled(labels) || (isOurs(labels) && !isCharted(labels))) return []
    const mark = marks.find(({ kinds, is }) => kinds.includes(object.kind) && is(object, labels))
    return mark === undefined ? [] : [{ part: mark.part, object, why: `${mark.why}${ownerText(object)}` }]
  })
}

/** Where to go with a wish to change it. */
function ownerText({ metadata }: KubeObject): string {
  const release = metadata.annotations?.['meta.helm.sh/release-name']
  if (isCharted(metadata.labels)) return `: installed with Underpass's chart, release ${release ?? 'unknown'}`
  if (release !== undefined) return ` (Helm release ${release})`
  const operator = metadata.labels?.['install.operator.istio.io/owning-resource']
  return operator === undefined ? '' : ` (installed by istioctl or an operator: ${operator})`
}

/** Whether some webhook of a configuration goes to the Service istiod. */
function callsIstiod(object: Manifest): boolean {
  const webhooks = object['webhooks']
  if (!Array.isArray(webhooks)) return false
  return webhooks.some((webhook: { clientConfig?: { service?: { name?: string } } }) =>
    webhook.clientConfig?.service?.name?.startsWith('istiod')
  )
}

/** What a user reads who may not install over it. */
export function obstacleText(obstacles: readonly Obstacle[]): string {
  const lines = obstacles.map(({ object, why, part }) => `  ${nameOf(object)} (${part}): ${why}`)
  const charted = obstacles.some(({ object }) => isCharted(object.metadata.labels))
  const wanted = [...new Set(obstacles.map(({ part }) => part))].join('|')
  const remedy = charted
    ? 'It was installed with Helm: use helm upgrade.'
    : `To take over one part, keeping its certificates: underpass install --replace ${wanted} (undo: --restore).`
  return `another installation is in the way:\n${lines.join('\n')}\n${remedy}`
}
