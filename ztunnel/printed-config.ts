/**
 * The effective configuration as config_dump shows it and the log says it: without secrets, under the names of
 * Istio's ztunnel where it has the same setting, the rest under `underpass`.
 */
import { spiffeId } from '../shared/identity/spiffe-id.ts'
import { formatSocketAddress, ip, isLoopback } from '../shared/net/address.ts'
import type { Config, ControlPlaneAddress, PodInfo } from './config.ts'
import { SOCKS_PORT } from './data-config.ts'

export function printedConfig(config: Config): Record<string, unknown> {
  const { data, xds, ca, proxyWorkload } = config
  const own = proxyWorkload === undefined && config.podName !== '' ? ownWorkload(config) : undefined
  return {
    adminAddr: { Localhost: [data.ipv6, config.admin.port] },
    altCaHostname: ca.altHostname ?? null,
    altXdsHostname: xds.altHostname ?? null,
    caAddress: ca.address ?? null,
    caHeaders: namesOf(ca),
    caRootCert: rootOf(ca),
    clusterDomain: config.clusterDomain,
    clusterId: config.clusterId,
    connectionWindowSize: data.http2.connectionWindow,
    crlPath: config.crlPath ?? null,
    dnsProxy: data.dns !== undefined,
    dnsProxyAddr: dnsAddress(config),
    enableEnhancedBaggage: data.responseBaggage,
    fakeCa: ca.fake,
    frameSize: data.http2.frameSize,
    illegalPorts: [
      data.ports.passthrough,
      data.ports.inbound,
      data.ports.outbound,
      ...(data.socks5 ? [SOCKS_PORT] : [])
    ],
    inboundAddr: anywhere(data.ports.inbound, data.ipv6),
    inboundPlaintextAddr: anywhere(data.ports.passthrough, data.ipv6),
    inpodPortReuse: data.portReuse,
    inpodUds: config.zdsSocket,
    ipv6Enabled: data.ipv6,
    localNode: config.nodeName === '' ? null : config.nodeName,
    localhostAppTunnel: data.localhostAppTunnel,
    network: data.network,
    numWorkerThreads: config.workers,
    outboundAddr: anywhere(data.ports.outbound, data.ipv6),
    packetMark: data.packetMark ?? null,
    poolMaxStreamsPerConn: data.pool.maxStreams,
    poolUnusedReleaseTimeout: duration(data.pool.unusedReleaseMs),
    proxy: true,
    proxyMetadata: xds.metadata,
    proxyMode: config.proxyMode === 'shared' ? 'Shared' : 'Dedicated',
    proxyWorkloadInformation: proxyWorkload ?? null,
    readinessAddr: { SocketAddr: anywhere(config.readiness.port, data.ipv6) },
    requireOriginalSource: { auto: null, always: true, never: false }[data.originalSource],
    secretTtl: duration(ca.secretTtlMs),
    selfTerminationDeadline: duration(config.terminationDeadlineMs),
    socketConfig: socketConfig(config),
    socks5Addr: data.socks5 ? `127.0.0.1:${SOCKS_PORT}` : null,
    statsAddr: { SocketAddr: anywhere(config.stats.port, data.ipv6) },
    windowSize: data.http2.streamWindow,
    xdsAddress: xds.address ?? null,
    xdsHeaders: namesOf(xds),
    xdsOnDemand: data.onDemand,
    xdsRootCert: rootOf(xds),
    ztunnelIdentity: own === undefined ? null : spiffeId({ trustDomain: config.trustDomain, ...own }),
    ztunnelWorkload: own ?? null,
    underpass: ownSettings(config)
  }
}

/** What Istio's ztunnel does not have, or does not show. */
function ownSettings(config: Config): Record<string, unknown> {
  const { authToken, localXds, data } = config
  return {
    authToken: authToken === undefined ? null : 'set',
    complianceMode: data.compliance,
    connectTimeout: duration(data.connectTimeoutMs),
    dialRetries: data.dialRetries,
    idleTimeout: duration(data.idleTimeoutMs),
    loadBalancing: data.loadBalancing,
    localXds: localXds.kind === 'file' ? localXds.text : localXds.kind,
    logFilter: config.logFilter,
    logFormat: config.logFormat,
    logPolicyDecisions: data.logPolicyDecisions,
    outboundTrafficPolicy: data.outboundTrafficPolicy,
    sameNode: data.sameNode,
    tls12: data.tls12,
    workerSemiSpaceMiB: config.workerSemiSpaceMiB
  }
}

function socketConfig({ data }: Config): Record<string, unknown> {
  const { keepAlive, userTimeoutMs } = data
  return {
    keepaliveEnabled: keepAlive !== undefined,
    ...(keepAlive !== undefined && {
      keepaliveInterval: duration(keepAlive.intervalSeconds * 1000),
      keepaliveRetries: keepAlive.probes,
      keepaliveTime: duration(keepAlive.idleSeconds * 1000)
    }),
    userTimeoutEnabled: userTimeoutMs !== undefined
  }
}

function ownWorkload({ podName, podNamespace, serviceAccount }: Config): PodInfo {
  return { name: podName, namespace: podNamespace, serviceAccount }
}

/** Values of headers are often secrets. */
function namesOf({ headers }: ControlPlaneAddress): readonly string[] {
  return headers.map(([name]) => name)
}

function rootOf({ rootCa }: ControlPlaneAddress): unknown {
  if (rootCa.includes('-----BEGIN')) return 'Static'
  return rootCa === 'SYSTEM' ? 'Default' : { File: rootCa }
}

function dnsAddress({ data }: Config): unknown {
  const [first] = data.dns?.listen ?? []
  if (first === undefined) return null
  return isLoopback(first.ip)
    ? { Localhost: [data.ipv6, first.port] }
    : { SocketAddr: formatSocketAddress(first) }
}

function anywhere(port: number, ipv6: boolean): string {
  return formatSocketAddress({ ip: ip(ipv6 ? '::' : '0.0.0.0'), port })
}

function duration(ms: number): { readonly secs: number; readonly nanos: number } {
  return { secs: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 }
}
