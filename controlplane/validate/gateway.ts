/** Istio's Gateway (networking.istio.io). Source: its published definition. */
import type { Fields } from '../read/fields.ts'
import type { Findings } from './finding.ts'
import { checkNamespacedHost } from './namespaced-host.ts'
import { dnsLabel, ipAddress, portNumber, unixPath, unixPrefix } from './names.ts'
import { isHttp, isProtocol, isTls } from './protocol.ts'
import { checkServerTls, serverTlsMode } from './server-tls.ts'

export function validateGateway(object: Fields, findings: Findings): void {
  findings.check('metadata.name', dnsLabel(object.at('metadata').text('name'), 'name of a Gateway'))
  const spec = object.at('spec')
  const servers = spec.list('servers')
  if (servers.length === 0) findings.error(spec.pathOf('servers'), 'is missing', 'add a server')
  const names = new Set<string>()
  for (const server of servers) {
    checkServer(server, findings)
    if (!server.has('port')) continue
    const port = server.at('port')
    const name = port.text('name')
    if (names.has(name))
      findings.error(port.pathOf('name'), `${JSON.stringify(name)} is used twice`, 'use another')
    names.add(name)
    if (!isHttp(port.text('protocol')) && server.at('tls').flag('httpsRedirect')) {
      findings.warn(server.at('tls').pathOf('httpsRedirect'), 'has no effect but on HTTP', 'leave it out')
    }
  }
}

function checkServer(server: Fields, findings: Findings): void {
  const hosts = server.texts('hosts')
  if (hosts.length === 0) findings.error(server.pathOf('hosts'), 'is missing', 'name a host, or *')
  for (const [index, host] of hosts.entries()) {
    checkNamespacedHost(`${server.pathOf('hosts')}[${index}]`, host, findings, 'gateway')
  }
  const right = checkPort(server, findings)
  if (server.has('tls')) checkServerTls(server.at('tls'), findings)
  if (!right) return
  const protocol = server.at('port').text('protocol')
  if (isTls(protocol)) {
    if (!server.has('tls'))
      findings.error(server.pathOf('tls'), `is missing for ${protocol}`, 'say which certificate')
  } else if (server.has('tls')) checkPlain(server.at('tls'), protocol, findings)
}

/** A port in the clear may have TLS settings only to redirect to HTTPS. */
function checkPlain(tls: Fields, protocol: string, findings: Findings): void {
  const certificates = ['caCertificates', 'privateKey', 'serverCertificate']
  const bare = serverTlsMode(tls).endsWith('PASSTHROUGH') && certificates.every(name => tls.text(name) === '')
  if (isHttp(protocol) && bare) return
  findings.error(tls.path, `does not go with protocol ${protocol}`, 'use HTTPS or TLS')
}

/** Returns whether the port is right. */
function checkPort(server: Fields, findings: Findings): boolean {
  const bind = server.text('bind')
  const [port, onSocket] = [server.at('port'), bind.startsWith(unixPrefix)]
  const number = port.number('number')
  let right = true
  const wrong = (field: string, message: string, remedy: string): void => {
    right = false
    findings.error(field, message, remedy)
  }
  if (!server.has('port')) wrong(port.path, 'is missing', 'name a port')
  else {
    const protocol = port.text('protocol')
    if (!isProtocol(protocol)) {
      wrong(
        port.pathOf('protocol'),
        `${JSON.stringify(protocol)} is no protocol`,
        'use HTTP, HTTPS, TLS, TCP, GRPC …'
      )
    }
    const problem = number > 0 || !onSocket ? portNumber(number) : undefined
    if (problem !== undefined) wrong(port.pathOf('number'), problem.message, problem.remedy)
    if (port.number('targetPort') > 0)
      wrong(port.pathOf('targetPort'), 'has no effect on Gateways', 'leave it out')
    if (port.text('name') === '') wrong(port.pathOf('name'), 'is missing', 'name the port')
  }
  if (onSocket) {
    findings.check(server.pathOf('bind'), unixPath(bind.slice(unixPrefix.length)))
    if (number !== 0) findings.error(port.pathOf('number'), 'a socket has no port', 'leave it out')
  } else if (bind !== '') findings.check(server.pathOf('bind'), ipAddress(bind))
  return right
}
