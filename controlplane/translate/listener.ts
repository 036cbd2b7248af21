/**
 * What becomes of the listeners of a Gateway, by themselves: whether they are taken, what they show, which routes
 * they may take. Source: Gateway API v1, "Distinct Listeners" and the conditions of a listener.
 */
import type { ClusterView } from '../cluster/cluster.ts'
import {
  keyOf,
  routeKinds,
  type GatewayListener,
  type GatewayObject,
  type RouteKind
} from '../cluster/objects.ts'
import { gatewayGroup } from '../read/gateway.ts'
import { clientValidation, type ValidationState } from './client-validation.ts'
import { resolveCertificate } from './server-certificate.ts'

export interface Problem {
  readonly reason: string
  readonly message: string
}

export interface ListenerState {
  readonly listener: GatewayListener
  /** Why it is not taken. */
  readonly refused: (Problem & { readonly conflict: boolean }) | undefined
  /** What it names in vain; it may work without. */
  readonly unresolved: readonly Problem[]
  /** Kinds of routes that it takes. */
  readonly kinds: readonly RouteKind[]
  /** `namespace/name` of the Secrets whose certificates it shows. */
  readonly certificates: readonly string[]
  /** What clients have to show; undefined: nothing. */
  readonly validation: ValidationState | undefined
  /** Whether there is anything to listen with. */
  readonly served: boolean
}

/** Ports of the proxy itself: administration, tunnels, metrics, readiness. */
const ownPorts: ReadonlySet<number> = new Set([15000, 15008, 15020, 15021])

const kindsOf: ReadonlyMap<string, readonly RouteKind[]> = new Map([
  ['HTTP', ['HTTPRoute', 'GRPCRoute']],
  ['HTTPS', ['HTTPRoute', 'GRPCRoute']],
  ['TLS', ['TLSRoute']]
])

export function listenerStates(view: ClusterView, gateway: GatewayObject): readonly ListenerState[] {
  return gateway.listeners.map(listener => {
    const validation = isTerminated(listener) ? clientValidation(view, gateway, listener) : undefined
    const refused = refusal(gateway, listener) ?? withoutAuthorities(validation)
    const { certificates, problems } = certificatesOf(view, gateway, listener)
    return {
      listener,
      refused,
      unresolved: [...kindProblems(listener), ...problems, ...(validation?.problems ?? [])],
      kinds: routeKinds.filter(kind => takesRoutes(listener, kind)),
      certificates,
      validation,
      served: refused === undefined && (!isTerminated(listener) || certificates.length > 0)
    }
  })
}

/** Whether the Gateway itself ends the TLS of its clients. */
function isTerminated({ protocol, tls }: GatewayListener): boolean {
  return protocol === 'HTTPS' || (protocol === 'TLS' && tls?.mode !== 'Passthrough')
}

function refusal(gateway: GatewayObject, listener: GatewayListener): ListenerState['refused'] {
  const { port, protocol, tls } = listener
  const refused = (reason: string, message: string): ListenerState['refused'] => ({
    conflict: false,
    reason,
    message
  })
  if (!kindsOf.has(protocol)) {
    return refused('UnsupportedProtocol', `protocol ${protocol} is not supported; use HTTP, HTTPS or TLS`)
  }
  if (ownPorts.has(port)) {
    return refused('PortUnavailable', `port ${port} is one of the proxy itself; choose another one`)
  }
  if (protocol === 'HTTPS' && tls?.mode === 'Passthrough') {
    return refused('UnsupportedValue', 'tls.mode Passthrough is for protocol TLS; with HTTPS use Terminate')
  }
  return conflict(gateway.listeners, listener)
}

/** It would let in nobody, or everybody. */
function withoutAuthorities(validation: ValidationState | undefined): ListenerState['refused'] {
  if (validation === undefined || validation.pem !== undefined) return undefined
  const message = validation.problems.map(problem => problem.message).join('; ')
  return { conflict: false, reason: 'NoValidCACertificate', message }
}

/** With listeners of its port that cannot be told from it. All sides of a conflict lose. */
function conflict(
  listeners: readonly GatewayListener[],
  listener: GatewayListener
): ListenerState['refused'] {
  const { port, protocol, hostname } = listener
  const onPort = listeners.filter(
    each => each !== listener && each.port === port && kindsOf.has(each.protocol)
  )
  // TLS names its server before anything else: some of it may end here and some be passed on, at one port.
  const unlike = onPort.find(each => (each.protocol === 'HTTP') !== (protocol === 'HTTP'))
  if (unlike !== undefined) {
    const message = `port ${port} is also that of listener ${unlike.name} of protocol ${unlike.protocol}`
    return { conflict: true, reason: 'ProtocolConflict', message }
  }
  const same = onPort.find(each => each.hostname === hostname)
  if (same === undefined) return undefined
  const reason = same.protocol === protocol ? 'HostnameConflict' : 'ProtocolConflict'
  const message = `listener ${same.name} has the same port ${port} and the same hostname`
  return { conflict: true, reason, message }
}

/** Whether a listener takes routes of a kind: its protocol does, and so do its `allowedRoutes`. */
export function takesRoutes({ protocol, kinds }: GatewayListener, kind: RouteKind): boolean {
  if (kindsOf.get(protocol)?.includes(kind) !== true) return false
  return kinds.length === 0 || kinds.some(each => each.group === gatewayGroup && each.kind === kind)
}

/** What `allowedRoutes` names in vain. */
function kindProblems({ protocol, kinds }: GatewayListener): readonly Problem[] {
  const all: readonly string[] = kindsOf.get(protocol) ?? []
  const wrong = kinds.filter(({ group, kind }) => group !== gatewayGroup || !all.includes(kind))
  if (wrong.length === 0) return []
  const names = wrong
    .map(({ group, kind }) => (group === gatewayGroup ? kind : `${group}/${kind}`))
    .join(', ')
  const message = `allowedRoutes.kinds: ${names} cannot attach to protocol ${protocol}`
  return [{ reason: 'InvalidRouteKinds', message }]
}

function certificatesOf(
  view: ClusterView,
  { meta }: GatewayObject,
  listener: GatewayListener
): { readonly certificates: readonly string[]; readonly problems: readonly Problem[] } {
  if (!isTerminated(listener)) return { certificates: [], problems: [] }
  const references = listener.tls?.certificates ?? []
  if (references.length === 0) {
    const message = 'tls.certificateRefs: name a Secret of type kubernetes.io/tls'
    return { certificates: [], problems: [{ reason: 'InvalidCertificateRef', message }] }
  }
  const found = references.map(reference => resolveCertificate(view, meta.namespace, reference))
  return {
    certificates: found.flatMap(each => (each.kind === 'resolved' ? [keyOf(each.secret.meta)] : [])),
    problems: found.flatMap(each => (each.kind === 'unresolved' ? [each] : []))
  }
}
