/** Sidecar. Source: Istio's published definition. */
import type { Fields } from '../read/fields.ts'
import { checkDestination } from './destination.ts'
import type { Findings } from './finding.ts'
import { checkNamespacedHost } from './namespaced-host.ts'
import { dnsLabel, hostname, ipAddress, portNumber, unixPath, unixPrefix } from './names.ts'
import { isHttp, isTls, portProtocol } from './protocol.ts'
import { checkWorkloadSelector } from './selection.ts'
import { checkServerTls, serverTlsMode } from './server-tls.ts'
import { checkConnectionPool } from './traffic-policy.ts'

export function validateSidecar(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  if (!checkWorkloadSelector(spec, findings)) return
  const [ingress, egress] = [spec.list('ingress'), spec.list('egress')]
  const settings = ['outboundTrafficPolicy', 'inboundConnectionPool'].some(name => spec.has(name))
  if (ingress.length + egress.length === 0 && !settings) {
    findings.error(spec.path, 'says nothing', 'add egress or ingress, or leave the object out')
    return
  }
  const ports = new Set<number>()
  for (const listener of ingress) checkIngress(listener, ports, findings)
  if (spec.has('inboundConnectionPool')) checkConnectionPool(spec.at('inboundConnectionPool'), findings)
  checkEgress(egress, object.at('metadata').text('namespace'), findings)
  if (spec.has('outboundTrafficPolicy')) checkOutbound(spec.at('outboundTrafficPolicy'), findings)
}

function checkIngress(listener: Fields, ports: Set<number>, findings: Findings): void {
  if (!listener.has('port')) {
    findings.error(listener.pathOf('port'), 'is missing', 'name the port')
    return
  }
  const port = listener.at('port')
  const [number, protocol] = [port.number('number'), port.text('protocol')]
  checkPort(port, findings)
  findings.check(port.pathOf('number'), portNumber(number))
  const bind = listener.text('bind')
  if (bind !== '') findings.check(listener.pathOf('bind'), ipAddress(bind))
  once(port, ports, findings)
  const endpoint = listener.text('defaultEndpoint')
  if (endpoint !== '') checkDefaultEndpoint(listener.pathOf('defaultEndpoint'), endpoint, findings)
  if (listener.has('tls')) checkIngressTls(listener.at('tls'), protocol, findings)
  if (!listener.has('connectionPool')) return
  const pool = listener.at('connectionPool')
  checkConnectionPool(pool, findings)
  if (pool.has('http') && !isHttp(protocol)) {
    findings.warn(pool.pathOf('http'), `has no effect on protocol ${protocol}`, 'leave it out')
  }
}

function checkPort(port: Fields, findings: Findings): void {
  const name = port.text('name')
  if (name !== '') findings.check(port.pathOf('name'), dnsLabel(name, 'port name'))
  findings.check(port.pathOf('protocol'), portProtocol(port.text('protocol')))
  if (port.number('targetPort') > 0)
    findings.error(port.pathOf('targetPort'), 'has no effect here', 'leave it out')
}

function once(port: Fields, ports: Set<number>, findings: Findings): void {
  const number = port.number('number')
  if (ports.has(number))
    findings.error(port.pathOf('number'), `${number} is used twice`, 'use each port once')
  ports.add(number)
}

const ownAddresses = new Set(['', '127.0.0.1', '0.0.0.0', '::1', '::'])

function checkDefaultEndpoint(field: string, text: string, findings: Findings): void {
  if (text.startsWith(unixPrefix)) {
    findings.check(field, unixPath(text.slice(unixPrefix.length)))
    return
  }
  const [, bracketed, plain, port = ''] = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(text) ?? []
  const host = bracketed ?? plain
  if (host !== undefined && ownAddresses.has(host)) findings.check(field, portNumber(Number(port)))
  else {
    const remedy = 'write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///path'
    findings.error(field, `${JSON.stringify(text)} is no endpoint of the workload`, remedy)
  }
}

function checkIngressTls(tls: Fields, protocol: string, findings: Findings): void {
  const set = [
    ...(tls.texts('subjectAltNames').length > 0 ? ['subjectAltNames'] : []),
    ...(tls.flag('httpsRedirect') ? ['httpsRedirect'] : []),
    ...(tls.text('credentialName') === '' ? [] : ['credentialName']),
    ...(tls.texts('credentialNames').length > 0 ? ['credentialNames'] : []),
    ...(tls.list('tlsCertificates').length > 0 ? ['tlsCertificates'] : [])
  ]
  for (const name of set) findings.error(tls.pathOf(name), 'is not supported in a Sidecar', 'leave it out')
  const mode = serverTlsMode(tls)
  if (mode === 'ISTIO_MUTUAL' || mode === 'AUTO_PASSTHROUGH') {
    findings.error(tls.pathOf('mode'), `${mode} is not for a Sidecar`, 'use SIMPLE or MUTUAL')
  }
  if (!isTls(protocol)) findings.error(tls.path, `does not go with protocol ${protocol}`, 'use HTTPS or TLS')
  checkServerTls(tls, findings)
}

function checkEgress(listeners: readonly Fields[], namespace: string, findings: Findings): void {
  const ports = new Set<number>()
  const sockets = new Set<string>()
  for (const [index, listener] of listeners.entries()) {
    if (!listener.has('port')) {
      if (index < listeners.length - 1) {
        findings.error(listener.path, 'takes all ports but is not the last', 'put it last')
      }
    } else checkEgressPort(listener, ports, sockets, findings)
    checkEgressHosts(listener, namespace, findings)
  }
}

function checkEgressPort(
  listener: Fields,
  ports: Set<number>,
  sockets: Set<string>,
  findings: Findings
): void {
  const port = listener.at('port')
  const [bind, mode] = [listener.text('bind'), listener.text('captureMode', 'DEFAULT')]
  checkPort(port, findings)
  if (port.number('number') !== 0) {
    findings.check(port.pathOf('number'), portNumber(port.number('number')))
    if (bind !== '') findings.check(listener.pathOf('bind'), ipAddress(bind))
    once(port, ports, findings)
    return
  }
  const field = listener.pathOf('bind')
  if (bind.startsWith(unixPrefix)) findings.check(field, unixPath(bind.slice(unixPrefix.length)))
  else findings.error(field, 'a listener without a port number needs a socket', 'write unix:///path')
  if (mode !== 'DEFAULT' && mode !== 'NONE') {
    findings.error(listener.pathOf('captureMode'), `${mode} does not go with a socket`, 'use DEFAULT or NONE')
  }
  if (sockets.has(bind)) findings.error(field, 'is used twice', 'use each socket once')
  sockets.add(bind)
}

function checkEgressHosts(listener: Fields, namespace: string, findings: Findings): void {
  const hosts = listener.texts('hosts')
  if (hosts.length === 0) findings.error(listener.pathOf('hosts'), 'is missing', 'name a host such as ./*')
  const seen = new Set<string>()
  for (const [index, text] of hosts.entries()) {
    const field = `${listener.pathOf('hosts')}[${index}]`
    checkNamespacedHost(field, text, findings, 'sidecar')
    if (text.startsWith('~')) continue
    const [first = '', host = ''] = text.split(/\/(.*)/s)
    const place = first === '.' ? namespace : first
    const covered = seen.has(`${place}/${host}`) || seen.has(`${place}/*`)
    if (covered) findings.warn(field, `${text} is named before`, 'name each host once')
    seen.add(`${place}/${host}`)
  }
  if (seen.has('*/*') && seen.size > 1) {
    findings.warn(listener.pathOf('hosts'), '*/* names all hosts already', 'leave out the others')
  }
}

const outboundModes = ['REGISTRY_ONLY', 'ALLOW_ANY'] as const

function checkOutbound(policy: Fields, findings: Findings): void {
  const mode = policy.oneOf('mode', outboundModes, 'REGISTRY_ONLY')
  if (!policy.has('egressProxy')) return
  const proxy = policy.at('egressProxy')
  if (mode !== 'ALLOW_ANY') {
    findings.error(proxy.path, 'is for mode ALLOW_ANY', 'set the mode, or leave it out')
    return
  }
  findings.check(proxy.pathOf('host'), hostname(proxy.text('host')))
  if (proxy.has('port')) checkDestination(proxy, findings)
  else findings.error(proxy.pathOf('port'), 'is missing', 'name the port')
}
