/** Which certificates a Gateway asks of the clients of a listener. Source: Gateway API v1, `spec.tls.frontend`. */
import type { ClusterView } from '../cluster/cluster.ts'
import {
  keyOf,
  type CertificateReference,
  type ClientValidation,
  type GatewayListener,
  type GatewayObject
} from '../cluster/objects.ts'
import { authoritiesIn } from './authorities.ts'
import type { Problem } from './listener.ts'
import { isGranted } from './reference-grant.ts'

export interface ValidationState {
  readonly mode: ClientValidation['mode']
  /** PEM; undefined: there is no authority, so nobody can be let in. */
  readonly pem: string | undefined
  /** References that lead nowhere. */
  readonly problems: readonly Problem[]
}

/** Undefined where clients are asked for nothing. The listener is one where TLS ends. */
export function clientValidation(
  view: ClusterView,
  { meta, frontend }: GatewayObject,
  { port }: GatewayListener
): ValidationState | undefined {
  const ofPort = frontend?.perPort.find(each => each.port === port)
  const validation = ofPort === undefined ? frontend?.fallback : ofPort.validation
  if (validation === undefined) return undefined
  const found = validation.authorities.map(reference => resolved(view, meta.namespace, reference))
  const pems = found.flatMap(each => (typeof each === 'string' ? [each] : []))
  const problems = found.flatMap(each => (typeof each === 'string' ? [] : [each]))
  if (found.length === 0) {
    const message = `${validation.field}.caCertificateRefs: name a ConfigMap with PEM certificates in ca.crt`
    problems.push({ reason: 'InvalidCACertificateRef', message })
  }
  return { mode: validation.mode, pem: pems.length === 0 ? undefined : pems.join(''), problems }
}

function resolved(view: ClusterView, namespace: string, reference: CertificateReference): string | Problem {
  const { field, group, kind } = reference
  if (group !== '' || kind !== 'ConfigMap') {
    const shown = group === '' ? kind : `${group}/${kind}`
    const message = `${field}: kind ${shown} is not supported; use ConfigMap`
    return { reason: 'InvalidCACertificateKind', message }
  }
  const key = keyOf(reference)
  // Without leave not even its existence is told.
  if (!isGranted(view, { kind: 'Gateway', namespace }, reference)) {
    const message = `${field}: ConfigMap ${key} is of another namespace, where no ReferenceGrant admits Gateways of ${namespace}`
    return { reason: 'RefNotPermitted', message }
  }
  const read = authoritiesIn(view.get('ConfigMap', key))
  if (typeof read !== 'string') return read.join('')
  return { reason: 'InvalidCACertificateRef', message: `${field}: ${read} ConfigMap ${key}` }
}

/** ConfigMaps that a Gateway names for authorities, whether or not it may. */
export function authorityReferences({ frontend }: GatewayObject): readonly CertificateReference[] {
  if (frontend === undefined) return []
  const all = [frontend.fallback, ...frontend.perPort.map(({ validation }) => validation)]
  return all.flatMap(validation => validation?.authorities ?? [])
}

/** Whether some clients are let in that prove nothing. */
export function letsAnybodyIn({ frontend }: GatewayObject): boolean {
  if (frontend === undefined) return false
  const all = [frontend.fallback, ...frontend.perPort.map(({ validation }) => validation)]
  return all.some(validation => validation?.mode === 'AllowInsecureFallback')
}
