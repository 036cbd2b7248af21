/**
 * What policies of a waypoint are for, and whether that is one of its destinations.
 * Source: Istio's published PolicyTargetReference (istio.type.v1beta1).
 */
import type { Service } from '../shared/mesh/model.ts'
import { Fields, type Problems } from '../shared/mesh/yaml-fields.ts'
import { limitedList } from './limited-list.ts'

export type PolicyTarget =
  | {
      readonly kind: 'Gateway' | 'Service' | 'ServiceEntry'
      readonly namespace: string
      readonly name: string
    }
  | { readonly kind: 'GatewayClass'; readonly name: string }
  /** Of a policy whose targets cannot be read. */
  | { readonly kind: 'everything' }

export interface OwnGateway {
  readonly namespace: string
  /** Of the Gateway that this waypoint runs for. */
  readonly name: string
  /** Undefined where it is not known; then policies for any class are taken to be for it. */
  readonly className?: string | undefined
  /** The cluster's DNS domain: services with a hostname of it are Kubernetes'. */
  readonly clusterDomain: string
}

export type PolicyService = Pick<Service, 'namespace' | 'name' | 'hostname'>

/** `service`: undefined for a pod that is addressed itself. */
export function isTarget(target: PolicyTarget, service: PolicyService | undefined, own: OwnGateway): boolean {
  switch (target.kind) {
    case 'everything':
      return true
    case 'GatewayClass':
      return own.className === undefined || own.className === target.name
    case 'Gateway':
      return target.namespace === own.namespace && target.name === own.name
    default: {
      if (service?.namespace !== target.namespace || service.name !== target.name) return false
      const ofKubernetes =
        service.hostname === `${service.name}.${service.namespace}.svc.${own.clusterDomain}`
      return ofKubernetes === (target.kind === 'Service')
    }
  }
}

export interface TargetContext {
  /** Of the policy. */
  readonly namespace: string
  /** Where policies for all waypoints of a class stand. */
  readonly rootNamespace: string
  /** Takes what is for nobody; that does not touch the other targets. */
  readonly ignored: Problems
}

const mostTargets = 16
const groups = {
  Gateway: ['gateway.networking.k8s.io'],
  GatewayClass: ['gateway.networking.k8s.io'],
  Service: ['', 'core'],
  ServiceEntry: ['networking.istio.io']
} as const satisfies Record<string, readonly string[]>

/** Of `targetRef` and `targetRefs`. */
export function readTargets(fields: Fields, context: TargetContext): readonly PolicyTarget[] {
  const single = fields.inner('targetRef')
  const first = single && readTarget(single, context)
  const targets = limitedList(fields, ['targetRefs', mostTargets], (value, path) =>
    readTarget(new Fields(value, path, fields.problems), context)
  )
  return first === undefined ? targets : [first, ...targets]
}

function readTarget(
  fields: Fields,
  { namespace, rootNamespace, ignored }: TargetContext
): PolicyTarget | undefined {
  const group = fields.text('group', '')
  const kind = fields.text('kind')
  const name = fields.text('name')
  const targetNamespace = fields.text('namespace', '')
  fields.end()
  const complain = (problem: string): undefined => {
    ignored.add(fields.path, problem)
  }
  if (!isTargetKind(kind) || !(groups[kind] as readonly string[]).includes(group)) {
    return complain(`a policy cannot target ${kind} of ${group === '' ? 'the core group' : group}`)
  }
  if (kind === 'GatewayClass') {
    return namespace === rootNamespace
      ? { kind, name }
      : complain(`a policy for GatewayClass ${name} has to be in ${rootNamespace}`)
  }
  if (targetNamespace !== '' && targetNamespace !== namespace) {
    return complain(`${kind} ${name} of ${targetNamespace} needs a policy of its own namespace`)
  }
  return { kind, namespace, name }
}

function isTargetKind(kind: string): kind is keyof typeof groups {
  return Object.hasOwn(groups, kind)
}
