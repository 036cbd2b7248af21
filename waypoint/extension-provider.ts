/** What all kinds of extension providers of the mesh configuration have: a name of its own, and a service of the mesh. */
import type { Fields } from '../shared/mesh/yaml-fields.ts'
import { isHost } from './http1/characters.ts'

export interface MeshService {
  /** Undefined: the waypoint's own first, then whoever has the name. */
  readonly namespace: string | undefined
  readonly hostname: string
  readonly port: number
}

interface InvalidProvider {
  readonly kind: 'invalid'
  readonly name: string
  readonly reason: string
}

/** `read`: undefined for entries of other kinds. Of two with one name none can be meant. */
export function providersByName<P extends { readonly name: string }>(
  entries: readonly unknown[],
  read: (entry: unknown) => P | undefined
): ReadonlyMap<string, P | InvalidProvider> {
  const found = new Map<string, P | InvalidProvider>()
  for (const entry of entries) {
    const provider = read(entry)
    if (provider === undefined) continue
    const { name } = provider
    found.set(
      name,
      found.has(name) ? { kind: 'invalid', name, reason: 'its name is defined twice' } : provider
    )
  }
  return found
}

/** Of `service` and `port`. */
export function readService(fields: Fields): MeshService {
  const { path, problems } = fields
  const text = fields.text('service')
  const parts = text.split('/')
  const hostname = parts.at(-1) ?? ''
  if (parts.length > 2 || parts.includes('') || hostname.includes(':') || !isHost(hostname)) {
    problems.add(`${path}.service`, `expected host or namespace/host, found ${JSON.stringify(text)}`)
  }
  const port = fields.integer('port', 0, 65_535)
  if (port === 0) problems.add(`${path}.port`, 'expected a port from 1 to 65535')
  return { namespace: parts.length === 2 ? parts[0] : undefined, hostname, port }
}
