/** How connections to a destination are made. Source: Istio's published definition of DestinationRule. */
import type { Fields } from '../read/fields.ts'
import { checkDuration, durationOf } from './duration.ts'
import type { Findings } from './finding.ts'
import { checkLoadBalancer } from './load-balancer.ts'
import { hostname, isIp, portNumber } from './names.ts'

const ofPorts = ['outlierDetection', 'connectionPool', 'loadBalancer', 'tls']
const others = ['tunnel', 'proxyProtocol', 'retryBudget']

/** `trafficPolicy` of a rule or a subset; `namespace` is the object's. */
export function checkTrafficPolicy(holder: Fields, findings: Findings, namespace: string): void {
  if (!holder.has('trafficPolicy')) return
  const policy = holder.at('trafficPolicy')
  const ports = policy.list('portLevelSettings')
  if (![...ofPorts, ...others].some(name => policy.has(name)) && ports.length === 0) {
    findings.error(policy.path, 'is empty', 'set something, or leave it out')
    return
  }
  if (policy.has('tunnel') && policy.has('proxyProtocol')) {
    findings.error(policy.pathOf('proxyProtocol'), 'stands beside tunnel', 'keep one of them')
    return
  }
  checkSettings(policy, findings, namespace)
  for (const port of ports) {
    if (!port.has('port')) findings.error(port.pathOf('port'), 'is missing', 'name the port')
    if (ofPorts.some(name => port.has(name))) checkSettings(port, findings, namespace)
    else findings.error(port.path, 'says nothing about its port', 'set something, or leave it out')
  }
  if (policy.has('tunnel')) checkTunnel(policy.at('tunnel'), findings)
}

function checkSettings(policy: Fields, findings: Findings, namespace: string): void {
  if (policy.has('outlierDetection')) checkOutliers(policy.at('outlierDetection'), findings)
  if (policy.has('connectionPool')) checkConnectionPool(policy.at('connectionPool'), findings)
  if (policy.has('loadBalancer')) {
    checkLoadBalancer(policy.at('loadBalancer'), findings, policy.has('outlierDetection'))
  }
  if (policy.has('tls')) checkClientTls(policy.at('tls'), findings, namespace)
}

function checkTunnel(tunnel: Fields, findings: Findings): void {
  if (!['', 'CONNECT', 'POST'].includes(tunnel.text('protocol'))) {
    findings.error(
      tunnel.pathOf('protocol'),
      `${tunnel.text('protocol')} is no method`,
      'use CONNECT or POST'
    )
  }
  const host = tunnel.text('targetHost')
  if (!isIp(host)) findings.check(tunnel.pathOf('targetHost'), hostname(host))
  findings.check(tunnel.pathOf('targetPort'), portNumber(tunnel.number('targetPort')))
}

function checkOutliers(outliers: Fields, findings: Findings): void {
  checkDuration(outliers, 'baseEjectionTime', findings)
  checkDuration(outliers, 'interval', findings)
  if (outliers.number('consecutiveErrors') !== 0) {
    const field = outliers.pathOf('consecutiveErrors')
    findings.warn(field, 'is deprecated', 'use consecutiveGatewayErrors or consecutive5xxErrors')
  }
  if (
    !outliers.flag('splitExternalLocalOriginErrors') &&
    outliers.number('consecutiveLocalOriginFailures') > 0
  ) {
    const field = outliers.pathOf('consecutiveLocalOriginFailures')
    findings.error(field, 'has no effect', 'set splitExternalLocalOriginErrors to true')
  }
  for (const name of ['maxEjectionPercent', 'minHealthPercent']) {
    const value = outliers.number(name)
    if (value < 0 || value > 100)
      findings.error(outliers.pathOf(name), `${value} is no percentage`, 'use 0 to 100')
  }
}

const httpCounts = [
  'http1MaxPendingRequests',
  'http2MaxRequests',
  'maxRequestsPerConnection',
  'maxRetries',
  'maxConcurrentStreams'
]

export function checkConnectionPool(pool: Fields, findings: Findings): void {
  if (!pool.has('http') && !pool.has('tcp')) {
    findings.error(pool.path, 'is empty', 'set http or tcp, or leave it out')
    return
  }
  const [http, tcp] = [pool.at('http'), pool.at('tcp')]
  for (const name of httpCounts) checkCount(http, name, findings)
  checkDuration(http, 'idleTimeout', findings)
  if (http.text('h2UpgradePolicy') === 'UPGRADE' && http.flag('useClientProtocol')) {
    const field = http.pathOf('useClientProtocol')
    findings.error(field, 'contradicts h2UpgradePolicy UPGRADE', 'keep one of them')
  }
  if (http.has('http2KeepAlive')) {
    const keepAlive = http.at('http2KeepAlive')
    for (const name of ['interval', 'timeout']) {
      if (!keepAlive.has(name))
        findings.error(keepAlive.pathOf(name), 'is missing', 'give a duration such as 30s')
      checkDuration(keepAlive, name, findings)
    }
  }
  checkCount(tcp, 'maxConnections', findings)
  checkDuration(tcp, 'connectTimeout', findings)
  checkDuration(tcp, 'maxConnectionDuration', findings)
  // 0s means that it never ends.
  if (Math.abs(durationOf(tcp.text('idleTimeout')) ?? 1e6) >= 1e6) checkDuration(tcp, 'idleTimeout', findings)
  checkDuration(tcp.at('tcpKeepalive'), 'time', findings)
  checkDuration(tcp.at('tcpKeepalive'), 'interval', findings)
}

function checkCount(holder: Fields, name: string, findings: Findings): void {
  if (holder.number(name) < 0) findings.error(holder.pathOf(name), 'is negative', 'use 0 or more')
}

const clientModes = ['DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL'] as const

function checkClientTls(tls: Fields, findings: Findings, namespace: string): void {
  const mode = tls.oneOf('mode', clientModes, 'DISABLE')
  const credential = tls.text('credentialName')
  checkConfigMap(tls, credential, findings, namespace)
  const named = mode === 'SIMPLE' || mode === 'MUTUAL'
  if (tls.flag('insecureSkipVerify') && named) {
    const unused = [
      ...(tls.text('caCertificates') === '' ? [] : ['caCertificates']),
      ...(tls.texts('subjectAltNames').length === 0 ? [] : ['subjectAltNames']),
      ...(mode === 'SIMPLE' && credential !== '' ? ['credentialName'] : [])
    ]
    for (const name of unused) {
      findings.error(tls.pathOf(name), 'has no effect with insecureSkipVerify', 'keep one of them')
    }
  }
  if (named && credential !== '') {
    for (const name of ['clientCertificate', 'caCertificates', 'privateKey', 'caCrl']) {
      if (tls.text(name) !== '')
        findings.error(tls.pathOf(name), 'stands beside credentialName', 'keep one of them')
    }
  } else if (mode === 'MUTUAL') {
    for (const name of ['clientCertificate', 'privateKey']) {
      if (tls.text(name) === '') findings.error(tls.pathOf(name), 'is missing', 'mode MUTUAL takes one')
    }
  }
}

/** `configmap://namespace/name`, of the own namespace. */
function checkConfigMap(tls: Fields, credential: string, findings: Findings, namespace: string): void {
  if (!credential.startsWith('configmap://')) return
  const parts = credential.slice('configmap://'.length).split('/')
  const own = parts.length === 1 ? namespace : parts[0]
  if (parts.length <= 2 && parts.every(part => part !== '') && own === namespace && namespace !== '') return
  findings.error(
    tls.pathOf('credentialName'),
    `${JSON.stringify(credential)} is no ConfigMap of namespace ${namespace}`,
    'write configmap://name'
  )
}
