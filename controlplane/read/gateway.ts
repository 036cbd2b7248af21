/** Reads Gateways and their classes, with the defaults that the Gateway API's definition gives. */
import type {
  CertificateReference,
  ClientValidation,
  GatewayAddress,
  GatewayClassObject,
  GatewayFrontend,
  GatewayInfrastructure,
  GatewayListener,
  GatewayObject,
  ListenerTls
} from '../cluster/objects.ts'
import type { Fields } from './fields.ts'
import { readMeta } from './meta.ts'
import { readSelector } from './selector.ts'

export const inboundBindingAnnotation = 'ambient.istio.io/waypoint-inbound-binding'
export const serviceTypeAnnotation = 'networking.istio.io/service-type'
export const gatewayGroup = 'gateway.networking.k8s.io'

export function readGateway(object: Fields): GatewayObject {
  const meta = readMeta(object, [inboundBindingAnnotation, serviceTypeAnnotation])
  const spec = object.at('spec')
  return {
    kind: 'Gateway',
    meta,
    className: spec.text('gatewayClassName'),
    listeners: spec.list('listeners').map(listener => readListener(listener, meta.namespace)),
    infrastructure: readInfrastructure(spec.at('infrastructure')),
    requestedAddresses: spec.list('addresses').map(readAddress),
    backendCertificate: readBackendCertificate(spec.at('tls').at('backend'), meta.namespace),
    frontend: readFrontend(spec.at('tls'), meta.namespace),
    addresses: object.at('status').list('addresses').map(readAddress)
  }
}

function readAddress(entry: Fields): GatewayAddress {
  return { type: entry.text('type', 'IPAddress'), value: entry.text('value') }
}

function readInfrastructure(infrastructure: Fields): GatewayInfrastructure {
  const parameters = infrastructure.at('parametersRef')
  return {
    labels: infrastructure.labels('labels'),
    annotations: infrastructure.labels('annotations'),
    parameters: infrastructure.has('parametersRef')
      ? `${parameters.text('kind')} ${parameters.text('name')}`
      : ''
  }
}

function readListener(listener: Fields, namespace: string): GatewayListener {
  const allowed = listener.at('allowedRoutes')
  const namespaces = allowed.at('namespaces')
  const from = namespaces.oneOf('from', ['All', 'Same', 'Selector', 'None'], 'Same')
  return {
    name: listener.text('name'),
    port: listener.port('port'),
    protocol: listener.text('protocol'),
    hostname: listener.text('hostname').toLowerCase(),
    tls: listener.has('tls') ? readTls(listener.at('tls'), namespace) : undefined,
    from,
    selector: from === 'Selector' ? readSelector(namespaces.at('selector')) : undefined,
    kinds: allowed
      .list('kinds')
      .map(each => ({ group: each.text('group', gatewayGroup), kind: each.text('kind') }))
  }
}

function readTls(tls: Fields, namespace: string): ListenerTls {
  return {
    mode: tls.oneOf('mode', ['Terminate', 'Passthrough'], 'Terminate'),
    certificates: tls.list('certificateRefs').map(reference => readCertificate(reference, namespace))
  }
}

function readBackendCertificate(backend: Fields, namespace: string): CertificateReference | undefined {
  const name = 'clientCertificateRef'
  return backend.has(name) ? readCertificate(backend.at(name), namespace) : undefined
}

function readFrontend(tls: Fields, namespace: string): GatewayFrontend | undefined {
  if (!tls.has('frontend')) return undefined
  const frontend = tls.at('frontend')
  return {
    fallback: readValidation(frontend.at('default'), namespace),
    perPort: frontend.list('perPort').map(entry => ({
      port: entry.port('port'),
      validation: readValidation(entry.at('tls'), namespace)
    }))
  }
}

function readValidation(config: Fields, namespace: string): ClientValidation | undefined {
  if (!config.has('validation')) return undefined
  const validation = config.at('validation')
  return {
    field: validation.path,
    mode: validation.oneOf('mode', ['AllowValidOnly', 'AllowInsecureFallback'], 'AllowValidOnly'),
    authorities: validation
      .list('caCertificateRefs')
      .map(reference => readCertificate(reference, namespace, 'ConfigMap'))
  }
}

function readCertificate(reference: Fields, namespace: string, kind = 'Secret'): CertificateReference {
  return {
    field: reference.path,
    group: reference.text('group'),
    kind: reference.text('kind', kind),
    namespace: reference.text('namespace') || namespace,
    name: reference.text('name')
  }
}

export function readGatewayClass(object: Fields): GatewayClassObject {
  return {
    kind: 'GatewayClass',
    meta: readMeta(object, [inboundBindingAnnotation]),
    controller: object.at('spec').text('controllerName')
  }
}
