/** What a port speaks, by Istio's and Kubernetes' naming rules. */
import type { AppProtocol } from './messages.ts'

const byName: ReadonlyMap<string, AppProtocol> = new Map([
  ['http', 'HTTP11'],
  ['http2', 'HTTP2'],
  ['grpc', 'GRPC'],
  ['https', 'TLS'],
  ['tls', 'TLS'],
  ['tcp', 'TCP']
])

/** Names that Istio knows and ztunnel does not: they are not guessed from the port number either. */
const otherNames = new Set([
  'udp',
  'grpc-web',
  'mongo',
  'redis',
  'mysql',
  'hbone',
  'double-hbone',
  'http_proxy'
])

/** Kubernetes' standard values of `appProtocol`. */
const standard: ReadonlyMap<string, AppProtocol> = new Map([
  ['kubernetes.io/h2c', 'HTTP2'],
  ['kubernetes.io/ws', 'HTTP11'],
  ['kubernetes.io/wss', 'TLS']
])

/** Ports of protocols in which the server speaks first: SMTP, DNS, MySQL, MongoDB. */
const serverFirstPorts = new Set([25, 53, 3306, 27017])

/** A Service's port: `appProtocol`, else the prefix of the port's name. */
export function protocolOfPort(port: number, name: string, appProtocol: string): AppProtocol | undefined {
  const known = standard.get(appProtocol)
  if (known !== undefined) return known
  const text = appProtocol === '' ? name : appProtocol
  if (text.startsWith('grpc-web')) return undefined
  const prefix = (text.split('-', 1)[0] ?? '').toLowerCase()
  const found = byName.get(prefix)
  if (found !== undefined) return found
  return !otherNames.has(prefix) && serverFirstPorts.has(port) ? 'TCP' : undefined
}

/** `ports[].protocol` of a ServiceEntry. */
export function protocolNamed(name: string): AppProtocol | undefined {
  return byName.get(name.toLowerCase())
}
