/**
 * What an operator may look at, by the name that follows `/debug/`: the same pages over HTTP and as xDS type
 * `istio.io/debug`. Names, and the form of `syncz` and `connections`, as istiod's, because istioctl reads them.
 */
import { HttpProblem } from '../../shared/runtime/admin-http.ts'
import { message, type Message } from '../../shared/xds/schema.ts'
import type { CertificateAuthority } from '../ca/authority.ts'
import type { Watch } from '../cluster/watch.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import type { MeshTable } from '../desired/snapshot.ts'
import { displayName } from '../xds/client-node.ts'
import { syncStatus, type ClientStatus, type XdsServer } from '../xds/server.ts'

/** Gives what is to be shown as JSON; an {@link HttpProblem} says why there is nothing. */
export type DebugPage = (query: URLSearchParams) => unknown

export interface DebugOptions {
  readonly desired: DesiredState
  readonly xds: Pick<XdsServer, 'clients'>
  readonly watching: Watch
  readonly authority: CertificateAuthority
}

export function debugPages(options: DebugOptions): ReadonlyMap<string, DebugPage> {
  const { desired, xds, watching, authority } = options
  const clientsOf = (query: URLSearchParams): readonly ClientStatus[] =>
    named(xds.clients(), query.get('proxyID') ?? '')
  return new Map<string, DebugPage>([
    ['syncz', query => inNamespace(xds.clients(), query.get('namespace') ?? '').map(syncEntry)],
    ['connections', () => connections(xds.clients())],
    ['adsz', query => ({ clients: clientsOf(query) })],
    ['ambientz', () => dump(desired)],
    [
      'config_dump',
      query => {
        clientsOf(query) // every client may know all of it, but it has to be one of ours
        return dump(desired)
      }
    ],
    ['authorizationz', () => ({ policies: dump(desired).policies })],
    ['watchz', () => ({ problems: watching.problems() })],
    ['caz', () => ({ roots: authority.bundlePem, chain: authority.issuer.chainPem })]
  ])
}

/** The page that a name such as `config_dump?proxyID=a.shop` asks for; undefined when there is none. */
export function pageText(pages: ReadonlyMap<string, DebugPage>, name: string): string | undefined {
  const cut = name.indexOf('?')
  const page = pages.get(cut < 0 ? name : name.slice(0, cut))
  if (page === undefined) return undefined
  try {
    return JSON.stringify(page(new URLSearchParams(cut < 0 ? '' : name.slice(cut + 1))), undefined, 2)
  } catch (error) {
    if (error instanceof HttpProblem) return error.message
    throw error
  }
}

/** istioctl asks the next replica when it reads this. */
const connectedElsewhere =
  'Proxy not connected to this Pilot instance. It may be connected to another instance.'

/** All, or the one that is meant by `pod.namespace` or by its whole id. */
function named(clients: readonly ClientStatus[], id: string): readonly ClientStatus[] {
  if (id === '') return clients
  const found = clients.filter(({ node }) => node?.id === id || (node && displayName(node) === id))
  if (found.length === 0) throw new HttpProblem(404, connectedElsewhere)
  return found
}

function inNamespace(clients: readonly ClientStatus[], namespace: string): readonly ClientStatus[] {
  return namespace === '' ? clients : clients.filter(({ node }) => node?.namespace === namespace)
}

function connections(clients: readonly ClientStatus[]): object {
  return {
    totalClients: clients.length,
    clients: clients.map(({ node, remote, connectedAt }) => ({
      connectionId: node?.id ?? '',
      connectedAt: new Date(connectedAt).toISOString(),
      address: remote
    }))
  }
}

/** `resources` is what istioctl reads, `types` also says what it means. */
function syncEntry({ node, remote, types }: ClientStatus): object {
  return {
    proxy: node?.id ?? '',
    proxy_type: node?.type,
    cluster_id: node?.clusterId,
    istio_version: node?.version,
    address: remote,
    resources: Object.fromEntries(
      types.map(({ typeUrl, sent, acked, rejected, sentAt }) => [
        typeUrl,
        { sent, acked, sentTime: new Date(sentAt).toISOString(), lastError: rejected }
      ])
    ),
    types: Object.fromEntries(
      types.map(type => {
        const { typeUrl, sent, acked, rejected } = type
        return [typeUrl, { status: syncStatus(type), sent, acked, error: rejected }]
      })
    )
  }
}

const messages: Readonly<Record<MeshTable, Message<object>>> = {
  address: message('istio.workload.Address'),
  authorization: message('istio.security.Authorization')
}

function dump(desired: DesiredState): { workloads: unknown[]; services: unknown[]; policies: unknown[] } {
  const decoded = (table: MeshTable): { readonly kind: string }[] =>
    [...desired.snapshot.table(table).values()].map(({ name, version, value, kind }) => ({
      name,
      version,
      kind,
      resource: printable(messages[table].decode(value))
    }))
  const addresses = decoded('address')
  return {
    workloads: addresses.filter(({ kind }) => kind === 'workload'),
    services: addresses.filter(({ kind }) => kind === 'service'),
    policies: decoded('authorization')
  }
}

/** Bytes as base64, as JSON forms of protobuf have them. */
function printable(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('base64')
  if (Array.isArray(value)) return value.map(printable)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, printable(each)]))
}
