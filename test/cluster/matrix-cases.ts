/** What must hold in every row of the matrix, whoever carries the traffic: objects to apply, calls, what becomes of them. */
import type {
  AuthorizationPolicy,
  AuthorizationRule,
  PeerAuthentication
} from '../../shared/kube/istio-api.ts'

/** `client-N` and `server-N` are of namespace shop, `guest` of market (in the mesh too), `outsider` in no mesh; N is the node. */
export type CallerName = 'client-1' | 'client-2' | 'guest' | 'outsider'
export type ServerName = 'server-1' | 'server-2'
export type PodName = CallerName | ServerName

export type Target =
  /** Through the Service of one pod, by name. */
  | { readonly service: PodName; readonly port?: 80 | 81 }
  /** By the pod's address. */
  | { readonly pod: PodName; readonly port?: 8080 | 8081 }
  /** By any name; `by` are the pods that may answer. */
  | { readonly name: string; readonly port: number; readonly by: readonly PodName[] }

export interface Call {
  readonly from: CallerName
  readonly to: Target
  readonly expect: 'served' | 'refused'
}

export interface Lookup {
  readonly from: CallerName
  readonly name: string
  /** Pods whose addresses come back, addresses, or nothing: there is no such name. */
  readonly expect: readonly (PodName | `${number}.${number}.${number}.${number}`)[]
}

export interface Case {
  readonly name: string
  /** Applied before the calls, removed after. `addressOf` knows the pods' addresses. */
  readonly objects?: (addressOf: (pod: PodName) => string) => readonly Policy[]
  readonly calls?: readonly Call[]
  readonly lookups?: readonly Lookup[]
  /** Connections opened before the objects are applied, and what becomes of them then. */
  readonly live?: readonly {
    readonly from: CallerName
    readonly to: Target
    readonly expect: 'closed' | 'kept'
  }[]
}

export type Policy = AuthorizationPolicy | PeerAuthentication

const clients = ['client-1', 'client-2'] as const
const servers = ['server-1', 'server-2'] as const
/** The address of the ServiceEntry, on no pod and in no Service. */
export const catalogAddress = '10.99.0.1'
export const catalogName = 'catalog.example.test'

export const cases: readonly Case[] = [
  {
    name: 'services, on the same node and across',
    calls: [...every(clients, service, 'served'), ...every(['guest', 'outsider'], service, 'served')]
  },
  {
    name: 'pod addresses, on the same node and across',
    calls: [...every(clients, podAddress, 'served'), ...every(['guest', 'outsider'], podAddress, 'served')]
  },
  {
    name: 'out of the mesh, in the clear',
    calls: clients.flatMap(from => [
      call(from, { service: 'outsider' }, 'served'),
      call(from, { pod: 'outsider' }, 'served')
    ])
  },
  {
    name: 'a headless Service and its pods by name',
    calls: clients.flatMap(from => [
      call(from, { name: 'peers', port: 8080, by: servers }, 'served'),
      call(from, { name: 'server-1.peers', port: 8080, by: ['server-1'] }, 'served'),
      call(from, { name: 'server-2.peers.shop.svc.cluster.local', port: 8080, by: ['server-2'] }, 'served')
    ]),
    lookups: clients.flatMap(from => [
      { from, name: 'peers.shop', expect: servers },
      { from, name: 'server-2.peers.shop.svc', expect: ['server-2'] as const }
    ])
  },
  {
    name: 'names: short, with namespace, whole, of a ServiceEntry, of nothing',
    calls: [
      ...clients.flatMap(from =>
        ['server', 'server.shop', 'server.shop.svc', 'server.shop.svc.cluster.local'].map(name =>
          call(from, { name, port: 80, by: servers }, 'served')
        )
      ),
      ...clients.map(from => call(from, { name: catalogName, port: 80, by: ['server-2'] }, 'served'))
    ],
    lookups: [
      ...clients.map(from => ({ from, name: catalogName, expect: [catalogAddress] as const })),
      ...clients.map(from => ({ from, name: 'nothing.shop.svc.cluster.local.', expect: [] }))
    ]
  },
  {
    name: 'STRICT refuses plaintext, and nothing else',
    objects: () => [strict({ mtls: { mode: 'STRICT' } })],
    calls: [
      ...every(['client-1', 'client-2', 'guest'], podAddress, 'served'),
      ...every(['outsider'], podAddress, 'refused')
    ]
  },
  {
    name: 'STRICT but for one port',
    objects: () => [
      strict({
        selector: { matchLabels: { app: 'server' } },
        mtls: { mode: 'STRICT' },
        portLevelMtls: { 8081: { mode: 'PERMISSIVE' } }
      })
    ],
    calls: servers.flatMap(pod => [
      call('outsider', { pod, port: 8081 }, 'served'),
      call('outsider', { pod }, 'refused'),
      call('guest', { pod }, 'served')
    ])
  },
  {
    name: 'DENY by principal',
    objects: () => [policy('DENY', source({ principals: ['cluster.local/ns/shop/sa/client'] }))],
    calls: [...every(clients, service, 'refused'), ...every(['guest', 'outsider'], service, 'served')]
  },
  {
    name: 'DENY by namespace',
    objects: () => [policy('DENY', source({ namespaces: ['market'] }))],
    calls: [...every(clients, podAddress, 'served'), ...every(['guest'], podAddress, 'refused')]
  },
  {
    name: 'DENY by IP block',
    objects: addressOf => [policy('DENY', source({ ipBlocks: [`${addressOf('client-1')}/32`] }))],
    calls: [
      ...every(['client-1'], service, 'refused'),
      ...every(['client-2', 'guest', 'outsider'], service, 'served')
    ]
  },
  {
    name: 'DENY by port',
    objects: () => [policy('DENY', { to: [{ operation: { ports: ['8081'] } }] })],
    calls: clients.flatMap(from =>
      servers.flatMap(name => [
        call(from, { service: name, port: 81 }, 'refused'),
        call(from, { pod: name, port: 8081 }, 'refused'),
        call(from, { service: name }, 'served')
      ])
    )
  },
  {
    name: 'ALLOW by principal',
    objects: () => [policy('ALLOW', source({ principals: ['cluster.local/ns/market/sa/guest'] }))],
    calls: [
      ...every(['guest'], podAddress, 'served'),
      ...every(['client-1', 'client-2', 'outsider'], podAddress, 'refused')
    ]
  },
  {
    name: 'ALLOW by namespace',
    objects: () => [policy('ALLOW', source({ namespaces: ['shop'] }))],
    calls: [...every(clients, service, 'served'), ...every(['guest', 'outsider'], service, 'refused')]
  },
  {
    name: 'ALLOW by IP block, in the clear too',
    objects: addressOf => [
      policy('ALLOW', source({ ipBlocks: [`${addressOf('client-2')}/32`, `${addressOf('outsider')}/32`] }))
    ],
    calls: [
      ...every(['client-2', 'outsider'], podAddress, 'served'),
      ...every(['client-1', 'guest'], podAddress, 'refused')
    ]
  },
  {
    name: 'ALLOW by port',
    objects: () => [policy('ALLOW', { to: [{ operation: { ports: ['8081'] } }] })],
    calls: clients.flatMap(from =>
      servers.flatMap(name => [
        call(from, { service: name, port: 81 }, 'served'),
        call(from, { service: name }, 'refused')
      ])
    )
  },
  {
    // For the whole namespace: Istio's ztunnel looks at live connections when a policy comes, not when it learns
    // later, from the workload, that the policy's selector chose it.
    name: 'a policy change closes the live connections that it forbids, and no other',
    objects: () => [
      policy(
        'DENY',
        {
          ...source({ principals: ['cluster.local/ns/shop/sa/client'] }),
          to: [{ operation: { ports: ['8080'] } }] // not the transfers between clients
        },
        { selected: false }
      )
    ],
    live: servers.flatMap(pod => [
      ...clients.map(from => ({ from, to: { pod }, expect: 'closed' as const })),
      { from: 'guest', to: { pod }, expect: 'kept' },
      { from: 'outsider', to: { pod }, expect: 'kept' }
    ])
  }
]

function service(name: ServerName): Target {
  return { service: name }
}

function podAddress(name: ServerName): Target {
  return { pod: name }
}

/** From each caller to the server on each node: the same node and across. */
function every(
  from: readonly CallerName[],
  to: (server: ServerName) => Target,
  expect: Call['expect']
): Call[] {
  return from.flatMap(caller => servers.map(server => call(caller, to(server), expect)))
}

function call(from: CallerName, to: Target, expect: Call['expect']): Call {
  return { from, to, expect }
}

function source(
  of: NonNullable<NonNullable<AuthorizationRule['from']>[number]['source']>
): AuthorizationRule {
  return { from: [{ source: of }] }
}

function policy(
  action: 'ALLOW' | 'DENY',
  rule: AuthorizationRule,
  { selected = true } = {}
): AuthorizationPolicy {
  const selector = selected ? { selector: { matchLabels: { app: 'server' } } } : {}
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'matrix', namespace: 'shop' },
    spec: { ...selector, action, rules: [rule] }
  }
}

function strict(spec: NonNullable<PeerAuthentication['spec']>): PeerAuthentication {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name: 'matrix', namespace: 'shop' },
    spec
  }
}
