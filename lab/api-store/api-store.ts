/** Starts the API store and says how to reach it. */
import { randomBytes } from 'node:crypto'
import https from 'node:https'
import type net from 'node:net'
import { parseCidr, parseIp, ip, type Cidr, type SocketAddress } from '../../shared/net/address.ts'
import { systemClock, type Clock } from '../../shared/runtime/clock.ts'
import { silent, type Logger } from '../../shared/telemetry/logger.ts'
import { notFound } from './api-error.ts'
import { Authenticator } from './auth/authenticate.ts'
import { createServingCertificate } from './auth/certificates.ts'
import { TokenAuthority } from './auth/tokens.ts'
import { addDefinition, bundledDefinitions, collectionOf, removeDefinition } from './custom-resources.ts'
import { Dependents } from './dependents.ts'
import { GarbageCollector } from './garbage-collector.ts'
import type { JsonObject } from './json.ts'
import { addressAt } from './kinds/service.ts'
import { builtinStrategies } from './kinds/strategies.ts'
import { LocalAccess } from './local-access.ts'
import { NamespaceLifecycle } from './namespace-lifecycle.ts'
import type { ObjectAccess } from './object-access.ts'
import type { ApiObject } from './object.ts'
import { ApiObjects } from './objects.ts'
import type { WriteContext } from './write-context.ts'
import type { PodRuntime } from './pod-runtime.ts'
import { ResourceRegistry } from './resources.ts'
import { OpenApi } from './rest/openapi.ts'
import { answer, type ServerDeps } from './rest/server.ts'
import { requestToken } from './rest/subresources.ts'
import { answerUpgrade } from './rest/upgrade.ts'
import { loadBuiltinSchemas } from './schema/schema.ts'
import { Storage } from './storage.ts'

/** Where the store listens: a socket that listens already, or an address (port 0 = any). */
export type ApiListener = { readonly fd: number } | { readonly host: string; readonly port: number }

export interface ApiStoreOptions {
  readonly listeners: readonly ApiListener[]
  /** DNS names and addresses of the serving certificate, beyond localhost and the cluster's own names. */
  readonly names?: readonly string[]
  /** Where pods reach the store: the endpoint behind Service `kubernetes` (whose address is the first of serviceCidr). */
  readonly advertise?: SocketAddress
  /** Addresses of Services; default 10.96.0.0/16. */
  readonly serviceCidr?: Cidr
  /** Without one, logs, exec and port-forward are refused. */
  readonly pods?: PodRuntime
  /** How often watches that ask for bookmarks get one; default a minute. */
  readonly bookmarkMs?: number
  readonly clock?: Clock
  readonly logger?: Logger
}

/** Claims of a token for a service account. */
export interface TokenOptions {
  readonly audiences?: readonly string[]
  readonly expirationSeconds?: number
  /** Bound to this pod: not valid any more once the pod is gone. */
  readonly pod?: string
}

export interface ApiStore {
  readonly objects: ObjectAccess
  /** One for each listener, in order. */
  readonly addresses: readonly SocketAddress[]
  /** Certificate authority of the store's serving certificate, PEM. */
  readonly caPem: string
  readonly adminToken: string
  /** JSON Web Key Set with which others verify the tokens. */
  jwks(): string
  /** A token as `kubectl create token` returns it; for projected volumes. */
  issueToken(namespace: string, serviceAccount: string, options?: TokenOptions): string
  /** A kubeconfig of an administrator for the store at `server`, such as `https://127.0.0.1:6443`. */
  kubeconfig(server: string): string
  /** Ends every connection and watch. Idempotent. */
  close(): Promise<void>
}

/** Longer than clients keep a connection idle (90 s in Go), so that none is closed under a request. */
const keepAliveTimeout = 120_000
const initialNamespaces = ['default', 'kube-system', 'kube-public', 'kube-node-lease']
const ownNames = [
  'localhost',
  'kubernetes',
  'kubernetes.default',
  'kubernetes.default.svc',
  'kubernetes.default.svc.cluster.local'
]
const write: WriteContext = {
  manager: 'kube-apiserver',
  subresource: '',
  dryRun: false,
  fieldValidation: 'Ignore',
  warn: () => undefined
}

/** Throws when a listener cannot be opened. */
export async function startApiStore(options: ApiStoreOptions): Promise<ApiStore> {
  const { clock = systemClock, logger = silent } = options
  const serviceCidr = options.serviceCidr ?? defaultServiceCidr()
  const { objects, controllers } = createObjects(serviceCidr, clock, logger)
  const find = (collection: string, namespace: string, name: string): ApiObject | undefined =>
    objects.storage.collection(collection).get({ namespace, name })
  const tokens = new TokenAuthority(find, clock)
  const adminToken = randomBytes(24).toString('base64url')
  const closing = new AbortController()
  const deps: ServerDeps = {
    objects,
    openApi: new OpenApi(objects.registry),
    authenticator: new Authenticator(adminToken, tokens),
    tokens,
    pods: () => options.pods,
    bookmarkMs: options.bookmarkMs ?? 60_000,
    logger,
    closing: closing.signal
  }
  const names = [...ownNames, '127.0.0.1', '::1', addressAt(serviceCidr, 1), ...(options.names ?? [])]
  if (options.advertise !== undefined) names.push(options.advertise.ip)
  const certificate = createServingCertificate([...new Set(names)], clock.now())
  const servers = options.listeners.map(() =>
    https.createServer(
      { cert: certificate.certificatePem, key: certificate.keyPem, minVersion: 'TLSv1.2', keepAliveTimeout },
      (request, response) => void answer(deps, request, response)
    )
  )
  for (const server of servers) {
    server.on('upgrade', (request, socket, head) => void answerUpgrade(deps, request, socket, head))
  }
  createInitialObjects(objects, serviceCidr, options.advertise)
  const addresses: SocketAddress[] = []
  try {
    for (const [index, listener] of options.listeners.entries()) {
      const server = servers[index]
      if (server !== undefined) addresses.push(await listen(server, listener))
    }
  } catch (error) {
    for (const server of servers) server.close()
    throw error
  }
  return {
    objects: new LocalAccess(objects),
    addresses,
    caPem: certificate.caPem,
    adminToken,
    jwks: () => tokens.jwks(),
    issueToken: (namespace, serviceAccount, wanted = {}) => {
      const account = find('/serviceaccounts', namespace, serviceAccount)
      if (account === undefined) throw notFound({ group: '', plural: 'serviceaccounts' }, serviceAccount)
      return tokenFor(objects, tokens, account, wanted)
    },
    kubeconfig: server => kubeconfig(server, certificate.caPem, adminToken),
    close: async () => {
      closing.abort()
      for (const controller of controllers) controller.close()
      await Promise.all(servers.map(closeServer))
    }
  }
}

function defaultServiceCidr(): Cidr {
  const cidr = parseCidr('10.96.0.0/16')
  if (cidr === undefined) throw new Error('the default service range is not a CIDR')
  return cidr
}

interface Controlled {
  readonly objects: ApiObjects
  /** What runs after writes. */
  readonly controllers: readonly { close(): void }[]
}

function createObjects(serviceCidr: Cidr, clock: Clock, logger: Logger): Controlled {
  const storage = new Storage()
  const registry = new ResourceRegistry()
  const dependents = new Dependents(storage)
  const strategies = builtinStrategies(serviceCidr)
  const objects = new ApiObjects({ storage, registry, strategies, clock, dependents })
  serveDefinitions(objects)
  return {
    objects,
    controllers: [new NamespaceLifecycle(objects), new GarbageCollector(objects, dependents, logger)]
  }
}

/** Keeps what is served in step with the stored definitions. */
function serveDefinitions({ storage, registry }: ApiObjects): void {
  const schemas = loadBuiltinSchemas()
  storage.observe((collection, { type, object, previous }) => {
    if (collection !== 'apiextensions.k8s.io/customresourcedefinitions') return
    if (previous !== undefined) removeDefinition(registry, previous, type === 'DELETED' ? undefined : object)
    if (type === 'DELETED') storage.drop(collectionOf(object))
    else addDefinition(registry, object, schemas)
  })
}

function createInitialObjects(
  objects: ApiObjects,
  serviceCidr: Cidr,
  advertise: SocketAddress | undefined
): void {
  const create = (group: string, plural: string, namespace: string, body: JsonObject): void => {
    const resource = objects.registry.find(group, 'v1', plural)
    if (resource !== undefined) objects.create(resource, namespace, body, write)
  }
  for (const name of initialNamespaces) {
    create('', 'namespaces', '', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  for (const definition of bundledDefinitions()) {
    create('apiextensions.k8s.io', 'customresourcedefinitions', '', definition)
  }
  const labels = { component: 'apiserver', provider: 'kubernetes' }
  create('', 'services', 'default', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'kubernetes', labels },
    spec: {
      clusterIP: addressAt(serviceCidr, 1),
      ports: [{ name: 'https', port: 443, targetPort: advertise?.port ?? 6443 }]
    }
  })
  if (advertise === undefined) return
  create('discovery.k8s.io', 'endpointslices', 'default', {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'kubernetes', labels: { 'kubernetes.io/service-name': 'kubernetes' } },
    addressType: advertise.ip.includes(':') ? 'IPv6' : 'IPv4',
    ports: [{ name: 'https', port: advertise.port }],
    endpoints: [{ addresses: [advertise.ip], conditions: { ready: true } }]
  })
}

function tokenFor(
  objects: ApiObjects,
  tokens: TokenAuthority,
  account: ApiObject,
  wanted: TokenOptions
): string {
  const spec = {
    audiences: wanted.audiences ?? [],
    ...(wanted.expirationSeconds === undefined ? {} : { expirationSeconds: wanted.expirationSeconds }),
    ...(wanted.pod === undefined
      ? {}
      : { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: wanted.pod } })
  }
  const { status } = requestToken(objects, tokens, account, { spec }) as { status: { token: string } }
  return status.token
}

async function listen(server: https.Server, listener: ApiListener): Promise<SocketAddress> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(listener, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const { address, port } = server.address() as net.AddressInfo
  return { ip: parseIp(address) ?? ip('::'), port }
}

async function closeServer(server: https.Server): Promise<void> {
  const closed = new Promise(resolve => server.close(resolve))
  server.closeAllConnections()
  await closed
}

function kubeconfig(server: string, caPem: string, token: string): string {
  const cluster = { server, 'certificate-authority-data': Buffer.from(caPem).toString('base64') }
  return `${JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'underpass-lab', cluster }],
      users: [{ name: 'admin', user: { token } }],
      contexts: [{ name: 'underpass-lab', context: { cluster: 'underpass-lab', user: 'admin' } }],
      'current-context': 'underpass-lab'
    },
    null,
    2
  )}\n`
}
