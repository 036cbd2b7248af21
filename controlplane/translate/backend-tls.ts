/**
 * BackendTLSPolicies for waypoints and gateways: the services that they are for, and the certificates that they name, in
 * place of references. Source: Gateway API v1, BackendTLSPolicy, with its rules for conflicts.
 */
import { hostsOf, type ClusterView, type HostOwner } from '../cluster/cluster.ts'
import {
  byAge,
  keyOf,
  type BackendTlsPolicyObject,
  type JsonObject,
  type PolicyTargetReference
} from '../cluster/objects.ts'
import { authoritiesIn } from './authorities.ts'
import { hostOwner } from './hostname.ts'
import type { ConfigMessage, Recipient } from './messages.ts'
import { furtherRecipients } from './service-recipients.ts'
import { waypointsOf } from './waypoint.ts'

/** What became of one target. */
export type TargetState =
  | { readonly kind: 'applies'; readonly owner: HostOwner; readonly port: number | undefined }
  | {
      readonly kind: 'refused'
      readonly reason: 'TargetNotFound' | 'Conflicted'
      /** With the field. */
      readonly message: string
    }

/** The certificate authorities that a policy trusts. */
export interface AuthoritiesState {
  /** PEM; '' = those of the system; undefined: there is none, so nobody can be trusted. */
  readonly pem: string | undefined
  /** References that lead nowhere, or what else is wrong. */
  readonly problems: readonly {
    readonly reason: 'InvalidCACertificateRef' | 'InvalidKind' | 'Invalid'
    readonly message: string
  }[]
}

/** Undefined when no waypoint or gateway carries it out. */
export function translateBackendTls(
  view: ClusterView,
  policy: BackendTlsPolicyObject
): ConfigMessage | undefined {
  const targetRefs: JsonObject[] = []
  const waypoints: Recipient[] = []
  for (const target of policy.targets) {
    const state = targetState(view, policy, target)
    if (state.kind === 'refused') continue
    const { owner, port } = state
    const { namespace } = owner.meta
    for (const hostname of hostsOf(owner, view.settings.domain)) {
      if (hostOwner(view, namespace, hostname) !== owner) continue
      targetRefs.push({ hostname, namespace, ...(port === undefined ? {} : { port }) })
      waypoints.push(...waypointsOf(view, owner.meta), ...furtherRecipients(view, owner, hostname))
    }
  }
  if (targetRefs.length === 0 || waypoints.length === 0) return undefined
  const { namespace, name, createdMs } = policy.meta
  const { hostname, subjectAltNames } = policy
  const { pem, problems } = authoritiesState(view, policy)
  const spec =
    pem === undefined
      ? { targetRefs, unresolved: problems.map(({ message }) => message).join('; ') }
      : { targetRefs, validation: { hostname, subjectAltNames, caCertificates: pem } }
  return { kind: 'BackendTLSPolicy', message: { namespace, name, createdMs, spec }, waypoints }
}

export function targetState(
  view: ClusterView,
  policy: BackendTlsPolicyObject,
  target: PolicyTargetReference
): TargetState {
  const { field, group, kind, name, sectionName } = target
  const { namespace } = policy.meta
  const isKnown =
    (group === '' && kind === 'Service') || (group === 'networking.istio.io' && kind === 'ServiceEntry')
  if (!isKnown) {
    return notFound(`${field}: kind ${kind} of group "${group}" is not supported; use Service`)
  }
  const owner = view.get(kind, `${namespace}/${name}`)
  if (owner === undefined) return notFound(`${field}: there is no ${kind} ${namespace}/${name}`)
  const port = owner.ports.find(each => each.name === sectionName)?.port
  if (sectionName !== '' && port === undefined) {
    return notFound(`${field}.sectionName: ${kind} ${namespace}/${name} has no port ${sectionName}`)
  }
  const winner = [...view.inNamespace('BackendTLSPolicy', namespace)]
    .filter(({ targets }) => targets.some(each => isSame(each, target)))
    .toSorted(byAge)[0]
  if (winner !== undefined && keyOf(winner.meta) !== keyOf(policy.meta)) {
    const place = sectionName === '' ? '' : ` port ${sectionName}`
    const message = `${field}: BackendTLSPolicy ${winner.meta.name} is for ${kind} ${name}${place} already`
    return { kind: 'refused', reason: 'Conflicted', message }
  }
  return { kind: 'applies', owner, port }
}

function isSame(a: PolicyTargetReference, b: PolicyTargetReference): boolean {
  return a.group === b.group && a.kind === b.kind && a.name === b.name && a.sectionName === b.sectionName
}

function notFound(message: string): TargetState {
  return { kind: 'refused', reason: 'TargetNotFound', message }
}

export function authoritiesState(view: ClusterView, policy: BackendTlsPolicyObject): AuthoritiesState {
  const { authorities, wellKnown, meta } = policy
  if (authorities.length === 0) {
    if (wellKnown === 'System') return { pem: '', problems: [] }
    const message = `wellKnownCACertificates: ${JSON.stringify(wellKnown)} is not known; use System or caCertificateRefs`
    return { pem: undefined, problems: [{ reason: 'Invalid', message }] }
  }
  const found: string[] = []
  const problems: AuthoritiesState['problems'][number][] = []
  for (const { field, group, kind, name } of authorities) {
    if (group !== '' || kind !== 'ConfigMap') {
      const shown = group === '' ? kind : `${group}/${kind}`
      problems.push({
        reason: 'InvalidKind',
        message: `${field}: kind ${shown} is not supported; use ConfigMap`
      })
      continue
    }
    const key = `${meta.namespace}/${name}`
    const read = authoritiesIn(view.get('ConfigMap', key))
    if (typeof read === 'string') {
      problems.push({ reason: 'InvalidCACertificateRef', message: `${field}: ${read} ConfigMap ${key}` })
    } else found.push(...read)
  }
  return { pem: found.length === 0 ? undefined : found.join(''), problems }
}
