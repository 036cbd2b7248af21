/** Who an xDS client says it is. Source: Istio's published form of node ids, `<type>~<ip>~<pod>.<ns>~<domain>`. */
import type { Caller } from '../access/token.ts'

export interface ClientNode {
  readonly id: string
  /** `ztunnel`, `waypoint`, … */
  readonly type: string
  readonly pod: string
  readonly namespace: string
  /** '' when it does not say. */
  readonly serviceAccount: string
  readonly nodeName: string
  /** '' when it does not say. */
  readonly clusterId: string
  /** Version of the client; '' when it does not say. */
  readonly version: string
}

interface Value {
  readonly stringValue?: string
}

/** Undefined when there is no usable id. */
export function readNode(
  node: { readonly id?: string; readonly metadata?: unknown } | undefined
): ClientNode | undefined {
  const id = node?.id ?? ''
  const parts = id.split('~')
  const [type = '', , name = '', domain = ''] = parts
  if (parts.length !== 4 || type === '') return undefined
  const fields =
    (node?.metadata as { readonly fields?: Readonly<Record<string, Value>> } | undefined)?.fields ?? {}
  const text = (key: string): string => fields[key]?.stringValue ?? ''
  // The name of a pod may hold dots, that of a namespace may not.
  const namespace =
    text('NAMESPACE') || name.slice(name.lastIndexOf('.') + 1) || (domain.split('.', 1)[0] ?? '')
  const pod = name.slice(0, Math.max(0, name.lastIndexOf('.')))
  return {
    id,
    type,
    pod,
    namespace,
    serviceAccount: text('SERVICE_ACCOUNT'),
    nodeName: text('NODE_NAME'),
    clusterId: text('CLUSTER_ID'),
    version: text('ISTIO_VERSION')
  }
}

/** What waypoints and gateways call themselves; which of the two one is, its Gateway says. */
const proxyTypes: ReadonlySet<string> = new Set(['waypoint', 'router'])

export function isProxy(node: ClientNode | undefined): boolean {
  return node !== undefined && proxyTypes.has(node.type)
}

/** `pod.namespace`, as tables show it. */
export function displayName({ pod, namespace }: ClientNode): string {
  return `${pod}.${namespace}`
}

/** Why the node cannot be the one who authenticated; undefined when it can. */
export function nodeProblem(node: ClientNode, caller: Caller | undefined): string | undefined {
  if (caller === undefined) return undefined
  if (node.namespace !== caller.namespace) {
    return `the node id names namespace ${node.namespace}, the credentials namespace ${caller.namespace}`
  }
  if (node.serviceAccount !== '' && node.serviceAccount !== caller.serviceAccount) {
    return `the node names service account ${node.serviceAccount}, the credentials ${caller.serviceAccount}`
  }
  return undefined
}
