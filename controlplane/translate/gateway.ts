/** A Gateway and its certificates as its proxies are told them: only what works. */
import type { ClusterView } from '../cluster/cluster.ts'
import { keyOf, type GatewayObject, type JsonObject, type SecretObject } from '../cluster/objects.ts'
import { gatewayRole } from './gateway-class.ts'
import { listenerStates, type ListenerState } from './listener.ts'
import type { ConfigMessage } from './messages.ts'
import { resolveCertificate, type CertificateResolution } from './server-certificate.ts'

/** Undefined for one that is no gateway, such as a waypoint. */
export function translateGateway(view: ClusterView, gateway: GatewayObject): ConfigMessage | undefined {
  if (gatewayRole(view, gateway) !== 'gateway') return undefined
  const { namespace, name, createdMs } = gateway.meta
  const listeners = listenerStates(view, gateway)
    .filter(({ served }) => served)
    .map(listenerSpec)
  return {
    kind: 'Gateway',
    message: { namespace, name, createdMs, spec: { listeners, ...backendCertificateSpec(view, gateway) } },
    waypoints: [{ gateway: keyOf(gateway.meta) }]
  }
}

/** What it shows to backends; without a Secret that can be used it shows nothing. */
function backendCertificateSpec(view: ClusterView, gateway: GatewayObject): JsonObject {
  const found = backendCertificate(view, gateway)
  if (found?.kind !== 'resolved') return {}
  const { namespace, name } = found.secret.meta
  return { backendCertificateRef: { namespace, name } }
}

/** Undefined where it names none. */
export function backendCertificate(
  view: ClusterView,
  { meta, backendCertificate: reference }: GatewayObject
): CertificateResolution | undefined {
  return reference === undefined ? undefined : resolveCertificate(view, meta.namespace, reference)
}

function listenerSpec({ listener, certificates, validation }: ListenerState): JsonObject {
  const { name, port, protocol, hostname, tls } = listener
  const spec = { name, port, protocol, hostname }
  if (protocol === 'HTTP') return spec
  const certificateRefs = certificates.map(key => {
    const cut = key.indexOf('/')
    return { namespace: key.slice(0, cut), name: key.slice(cut + 1) }
  })
  const frontend =
    validation?.pem === undefined
      ? {}
      : { frontend: { mode: validation.mode, caCertificates: validation.pem } }
  return { ...spec, tls: { mode: tls?.mode ?? 'Terminate', certificateRefs, ...frontend } }
}

/** For those gateways alone that show it; undefined where there are none. */
export function translateSecret(view: ClusterView, secret: SecretObject): ConfigMessage | undefined {
  const key = keyOf(secret.meta)
  const gateways = gatewaysNaming(view, key)
    .filter(gateway => gatewayRole(view, gateway) === 'gateway')
    .filter(gateway => shows(view, gateway, key))
  if (gateways.length === 0) return undefined
  const { namespace, name, createdMs } = secret.meta
  return {
    kind: 'Secret',
    message: {
      namespace,
      name,
      createdMs,
      spec: { 'tls.crt': secret.certificate, 'tls.key': secret.key }
    },
    waypoints: gateways.map(({ meta }) => ({ gateway: keyOf(meta) }))
  }
}

/** To clients or to backends. */
function shows(view: ClusterView, gateway: GatewayObject, secret: string): boolean {
  const own = backendCertificate(view, gateway)
  if (own?.kind === 'resolved' && keyOf(own.secret.meta) === secret) return true
  return listenerStates(view, gateway).some(
    ({ served, certificates }) => served && certificates.includes(secret)
  )
}

/** Gateways that name the Secret (`namespace/name`) for a certificate, whether or not they may. */
export function gatewaysNaming(view: ClusterView, secret: string): readonly GatewayObject[] {
  return [...view.all('Gateway')].filter(gateway =>
    certificateReferences(gateway).some(reference => keyOf(reference) === secret)
  )
}

export function certificateReferences({
  listeners,
  backendCertificate
}: GatewayObject): readonly { readonly namespace: string; readonly name: string }[] {
  const ofListeners = listeners.flatMap(({ tls }) => tls?.certificates ?? [])
  return backendCertificate === undefined ? ofListeners : [...ofListeners, backendCertificate]
}
