/** Configuration of the DNS proxy; plain values, so that it can be posted to workers. */
import { ip, isLoopback, parseIp, type SocketAddress } from '../../shared/net/address.ts'
import type { EnvReader } from '../../shared/runtime/env.ts'
import { readResolvConf } from './resolv-conf.ts'

export interface DnsConfig {
  /** Where each pod's proxy listens. */
  readonly listen: readonly SocketAddress[]
  readonly domain: string
  /** Undefined: those that Kubernetes gives the pods of a namespace. */
  readonly searchDomains: readonly string[] | undefined
  /** Asked where the one that the application asked is not known (UDP under REDIRECT). */
  readonly resolvers: readonly SocketAddress[]
  readonly preferredNamespace: string | undefined
}

export interface DnsConfigContext {
  readonly mode: 'shared' | 'dedicated'
  readonly domain: string
  readonly ipv6: boolean
  readonly onDemand: boolean
  /** Node metadata, of ProxyConfig and the environment. */
  readonly metadata: Readonly<Record<string, unknown>>
  readonly readFile: (path: string) => string | undefined
}

const dnsPort = 53

/** Undefined: no DNS proxy. */
export function readDnsConfig(env: EnvReader, context: DnsConfigContext): DnsConfig | undefined {
  env.optional('ISTIO_META_DNS_CAPTURE', "Answer the pods' DNS queries: true, the default, or anything else")
  env.optional('ISTIO_META_DNS_PROXY_ADDR', 'Where, in each pod; localhost:15053 is both families')
  const preferredNamespace = env.optional(
    'PREFERED_SERVICE_NAMESPACE',
    'Whose service a name means, if several namespaces other than the client’s have it'
  )
  const { mode, domain, metadata, readFile } = context
  if (textOf(metadata['DNS_CAPTURE'] ?? 'true').toLowerCase() !== 'true') return undefined
  if (context.onDemand) {
    env.problem(
      'XDS_ON_DEMAND=true: the DNS proxy has to know all services; set ISTIO_META_DNS_CAPTURE=false'
    )
  }
  const { nameservers, search } = readResolvConf(readFile('/etc/resolv.conf') ?? '')
  return {
    listen: listenAddresses(env, textOf(metadata['DNS_PROXY_ADDR'] ?? 'localhost:15053'), context.ipv6),
    domain: domain.toLowerCase(),
    searchDomains: mode === 'dedicated' ? search : undefined,
    resolvers: nameservers
      // They are asked from the pod, whose loopback is another one.
      .filter(address => mode === 'dedicated' || !isLoopback(address))
      .map(address => ({ ip: address, port: dnsPort })),
    preferredNamespace
  }
}

function listenAddresses(env: EnvReader, text: string, ipv6: boolean): readonly SocketAddress[] {
  const [, host = '', portText = ''] = /^(.+):(\d{1,5})$/.exec(text) ?? []
  const port = Number(portText)
  const address = parseIp(host.replace(/^\[(.*)\]$/, '$1'))
  if (port <= 65_535 && host === 'localhost') {
    return [{ ip: ip('127.0.0.1'), port }, ...(ipv6 ? [{ ip: ip('::1'), port }] : [])]
  }
  if (port <= 65_535 && address !== undefined) return [{ ip: address, port }]
  env.problem(
    `ISTIO_META_DNS_PROXY_ADDR=${JSON.stringify(text)}: expected localhost:port or the address of an interface with a port`
  )
  return []
}

/** Metadata given as JSON may be anything. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}
