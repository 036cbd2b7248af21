/**
 * Our control plane beside istiod at one real API server: what each sends for the same objects, what a Rust
 * ztunnel makes of both, and certificates for real tokens.
 */
import t, { type Test } from 'tap'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import tls from 'node:tls'
import { startApp } from '../../controlplane/app.ts'
import { readConfig } from '../../controlplane/config.ts'
import { addressType, authorizationType } from '../../controlplane/desired/snapshot.ts'
import { uriNames } from '../../shared/identity/certificate.ts'
import { createCsr } from '../../shared/identity/csr.ts'
import { spiffeId } from '../../shared/identity/spiffe-id.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import * as appsApi from '../../shared/kube/apps-api.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import * as gatewayApi from '../../shared/kube/gateway-api.ts'
import * as istioApi from '../../shared/kube/istio-api.ts'
import type * as kubeObject from '../../shared/kube/object.ts'
import * as reviewApi from '../../shared/kube/review-api.ts'
import { parseAllYaml } from '../../shared/kube/yaml.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { DeltaClient } from '../controlplane/xds/delta-client.ts'
import { requestCertificate } from '../controlplane/ca/ca-client.ts'
import { needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'

t.setTimeout(180_000)

const peers = process.env['UNDERPASS_PEERS'] ?? ''
const cluster = process.env['UNDERPASS_CLUSTER'] ?? ''

/** What differs on purpose. A name that ends in `/` stands for all that start so. */
const wanted: Readonly<Record<string, string>> = {
  'Kubernetes//Pod/bound/': 'workloads under an ALLOW policy accept their own waypoint, by default',
  'bound/istio_allow_waypoint_bound_waypoint': 'the policy for that',
  'Kubernetes//Pod/shop/db-0': 'the deprecated zone labels of its node count',
  'Kubernetes//Pod/shop/web-unready': 'the deprecated zone labels of its node count; UDP ports are left out',
  'Kubernetes//Pod/shop/host': 'UDP ports are left out: the mesh carries TCP',
  'Kubernetes//Pod/shop/web-5d4f7c9b8-abcde': 'UDP ports are left out',
  'shop/web.shop.svc.cluster.local': 'UDP ports are left out',
  'Kubernetes/networking.istio.io/ServiceEntry/shop/dns/dns.example.com':
    'a selector does not select what has no labels',
  'Kubernetes/networking.istio.io/ServiceEntry/strict/same-host/198.51.100.77':
    'a selector does not select what has no labels',
  'shop/affinity.shop.svc.cluster.local': 'client affinity travels as an extension',
  'shop/dns.example.com': 'so does how the names of a ServiceEntry are resolved',
  'gateways/bad-port': 'a port that is no port does not switch a DENY off',
  'gateways/l7-deny-narrowed': 'an HTTP attribute does not switch a DENY off'
}

const kinds = new Map(
  [coreApi, appsApi, reviewApi, gatewayApi, istioApi]
    .flatMap(api => Object.values<object>(api))
    .filter((value): value is kubeObject.ResourceType => 'plural' in value)
    .map(type => [type.kind, type])
)

function needsPeers(): string | false {
  const reason = needsKubeApiserver()
  if (reason !== false) return reason
  if (!existsSync(path.join(cluster, 'crds.yaml.xz'))) return 'needs crds.yaml.xz in UNDERPASS_CLUSTER'
  if (!existsSync(path.join(peers, 'pilot-discovery'))) return 'needs pilot-discovery in UNDERPASS_PEERS'
  return false
}

t.test('beside istiod', { skip: needsPeers() }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-controlplane-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const api = await startKubeApiserver(t)
  const client = new KubeClient(await loadKubeConfig({ kubeconfig: api.kubeconfig }))
  t.teardown(() => client.close())
  const istioSystem = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'istio-system' } }
  await client.create(coreApi.namespaces, istioSystem)

  const { config } = readConfig({
    UNDERPASS_LISTEN: '0.0.0.0',
    UNDERPASS_XDS_PORT: '0',
    UNDERPASS_MONITORING_PORT: '0',
    UNDERPASS_READY_PORT: '0',
    UNDERPASS_WEBHOOK_PORT: '0',
    TERMINATION_DRAIN_DURATION: '100ms',
    ISTIOD_CUSTOM_HOST: '198.18.77.1,198.18.77.5',
    ROOT_CA_DIR: path.join(folder, 'none')
  })
  const lines: string[] = []
  const logs = new LogOutput({ ...config.log, sink: { write: line => void lines.push(line) } })
  const ours = await startApp({ config, client, logs })
  t.teardown(async () => ours.close())
  await ours.ready
  t.pass('it is ready in a cluster without the custom resources of Istio and of the Gateway API')
  installCustomResources(api)
  await create(client)
  await waitFor(async () => ours.desired.view.get('PeerAuthentication', 'strict/unset-ports'))
  await waitFor(async () => ours.desired.view.get('WorkloadEntry', 'shop/vm-2'))
  await waitFor(async () => ours.desired.view.get('Gateway', 'gateways/ambient-only')?.addresses[0])
  await waitFor(async () => ours.desired.view.get('AuthorizationPolicy', 'gateways/bad-port'))
  await waitFor(async () => ours.desired.view.get('ServiceEntry', 'strict/same-host'))
  const rootsPem = await trustBundle(client)
  const token = await tokenFor(client, 'istio-system', 'ztunnel', 'ztunnel-1')
  const istiod = await startIstiod(t, { folder, kubeconfig: api.kubeconfig })

  t.test('ztunnels are sent what istiod sends, but for the differences that are wanted', async t => {
    const differences: string[] = []
    for (const typeUrl of [addressType, authorizationType]) {
      const [mine, theirs] = await Promise.all(
        [ours.addresses.xds.port, istiod.port].map(async port =>
          receive({ port, typeUrl, rootsPem, token: token })
        )
      )
      const names = new Set([...(mine?.keys() ?? []), ...(theirs?.keys() ?? [])])
      t.ok(names.size > 10, `${names.size} resources of ${typeUrl}`)
      for (const name of names) {
        if (mine?.get(name) === theirs?.get(name)) continue
        differences.push(name)
        if (reasonFor(name) === undefined) t.equal(mine?.get(name), theirs?.get(name), name)
      }
    }
    for (const name of Object.keys(wanted)) {
      t.ok(
        differences.some(
          different => different === name || (name.endsWith('/') && different.startsWith(name))
        ),
        `still different: ${name}`
      )
    }
  })

  t.test('istiod goes on with the root that we made', async t => {
    const answer = await requestCertificate({
      target: `127.0.0.1:${istiod.port}`,
      rootsPem,
      token,
      csrPem: createCsr(spiffeId({ trustDomain: 'cluster.local', namespace: 'x', serviceAccount: 'y' }))
        .csrPem
    })
    t.equal(answer.kind, 'certificates', JSON.stringify(answer))
    if (answer.kind !== 'certificates') return
    const root = new X509Certificate(rootsPem)
    t.ok(new X509Certificate(answer.chain[0] ?? '').verify(root.publicKey))
  })

  t.test('a token of the API server gets what its account may have', async t => {
    const identity = (namespace: string, serviceAccount: string): string =>
      spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount })
    const ask = async (impersonate?: string, bearer = token): ReturnType<typeof requestCertificate> =>
      requestCertificate({
        target: `127.0.0.1:${ours.addresses.xds.port}`,
        rootsPem,
        token: bearer,
        csrPem: createCsr(spiffeId({ trustDomain: 'cluster.local', namespace: 'x', serviceAccount: 'y' }))
          .csrPem,
        ...(impersonate === undefined ? {} : { impersonate })
      })
    const own = await ask()
    t.equal(own.kind === 'certificates' && uriOf(own.chain[0]), identity('istio-system', 'ztunnel'))
    const carried = await ask(identity('shop', 'web'))
    t.equal(carried.kind === 'certificates' && uriOf(carried.chain[0]), identity('shop', 'web'))
    const elsewhere = await ask(identity('elsewhere', 'web'))
    t.match(elsewhere, { kind: 'refused', code: 16, denial: 'NO_SUCH_WORKLOAD_ON_NODE' })
    t.match(await ask(undefined, 'no-token'), { kind: 'refused', code: 16 })
    const otherAudience = await client.raw(
      'POST',
      '/api/v1/namespaces/istio-system/serviceaccounts/ztunnel/token',
      { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { audiences: ['other'] } }
    )
    t.match(await ask(undefined, (otherAudience as reviewApi.TokenRequest).status?.token), {
      kind: 'refused',
      code: 16
    })
    t.notMatch(lines.join(''), token, 'no token is in the log')
  })

  t.test('what is wrong with an object stands in its status', async t => {
    const policy = await waitFor(async () => {
      const found = await client.get(istioApi.authorizationPolicies, {
        namespace: 'gateways',
        name: 'bad-port'
      })
      return found.status?.conditions?.find(({ type }) => type === 'ZtunnelAccepted')
    })
    t.match(policy, {
      status: 'False',
      reason: 'UnsupportedValue',
      message: /rules\[0\]\.to\[0\]\.operation\.ports/
    })
    const service = await waitFor(async () => {
      const found = await client.get(coreApi.services, { namespace: 'bound', name: 'bound' })
      return found.status?.conditions?.find(({ type }) => type === 'istio.io/WaypointBound')
    })
    t.match(service, { status: 'True', reason: 'WaypointAccepted' })
  })

  t.test('a Rust ztunnel holds the same from both', { skip: needsNamespaces() }, async t => {
    const dumps = await Promise.all(
      [ours.addresses.xds.port, istiod.port].map(async (port, index) =>
        ztunnelDump(t, { port, index, folder, rootsPem, client })
      )
    )
    const [mine, theirs] = dumps
    for (const table of ['workloads', 'services', 'policies'] as const) {
      const [a, b] = [mine?.dump[table], theirs?.dump[table]]
      t.ok((a?.size ?? 0) > 10, `${a?.size} ${table}`)
      for (const name of new Set([...(a?.keys() ?? []), ...(b?.keys() ?? [])])) {
        if (reasonFor(name) === undefined) t.equal(a?.get(name), b?.get(name), `${table} ${name}`)
      }
    }
    for (const each of dumps) {
      t.equal(
        each.certificate.uri,
        'spiffe://cluster.local/ns/shop/sa/web',
        'its certificate is the one of the pod'
      )
      t.ok(each.certificate.verified, 'and below our root')
    }
  })
})

function reasonFor(name: string): string | undefined {
  const entry = Object.entries(wanted).find(
    ([key]) => key === name || (key.endsWith('/') && name.startsWith(key))
  )
  return entry?.[1]
}

function needsNamespaces(): string | false {
  if (process.getuid?.() !== 0) return 'needs root'
  if (!existsSync(path.join(peers, 'ztunnel'))) return 'needs ztunnel in UNDERPASS_PEERS'
  return false
}

function installCustomResources({ kubectl, kubeconfig }: { kubectl: string; kubeconfig: string }): void {
  execFileSync('sh', [
    '-c',
    `xz -dc "${cluster}/crds.yaml.xz" | "${kubectl}" --kubeconfig "${kubeconfig}" apply --server-side -f - >/dev/null`
  ])
}

/** Namespaces and accounts first, statuses last, as controllers and kubelets would write them. */
async function create(client: KubeClient): Promise<void> {
  const file = path.join(import.meta.dirname, 'controlplane-objects.yaml')
  const objects = parseAllYaml(readFileSync(file, 'utf8'), file).map(({ value }) => value as coreApi.Pod)
  const makes = async (object: kubeObject.KubeObject): Promise<kubeObject.KubeObject> => {
    const type = kinds.get(object.kind)
    if (type === undefined) throw new Error(`no resource type for ${object.kind}`)
    const made = await client.create(type, object)
    const { status } = object as coreApi.Pod
    if (status === undefined) return made
    const { namespace, name } = object.metadata
    return client.patch(type, { namespace, name }, { status }, { kind: 'merge', subresource: 'status' })
  }
  const early = new Set(['Namespace', 'Node'])
  for (const object of objects) if (early.has(object.kind)) await makes(object)
  const accounts = new Set(['istio-system ztunnel'])
  for (const { kind, metadata, spec } of objects) {
    if (kind === 'Pod') accounts.add(`${metadata.namespace} ${spec?.serviceAccountName ?? 'default'}`)
  }
  for (const account of accounts) {
    const [namespace = '', name = ''] = account.split(' ')
    await makes({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { namespace, name } })
  }
  await makes({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'istio-system', name: 'ztunnel-1', labels: { app: 'ztunnel' } },
    spec: { nodeName: 'n1', serviceAccountName: 'ztunnel', containers: [{ name: 'c', image: 'x' }] }
  } as coreApi.Pod)
  const late = objects.filter(({ kind }) => !early.has(kind))
  for (const object of late) {
    // Who is older decides who has a hostname, and timestamps have whole seconds.
    if (object.metadata.name === 'same-host') await delay(1100)
    if (object.kind !== 'EndpointSlice') await makes(object)
  }
  const db = await client.get(coreApi.pods, { namespace: 'shop', name: 'db-0' })
  for (const object of late) {
    if (object.kind !== 'EndpointSlice') continue
    const text = JSON.stringify(object).replace('UID-OF-DB-0', db.metadata.uid ?? '')
    await makes(JSON.parse(text) as kubeObject.KubeObject)
  }
}

async function trustBundle(client: KubeClient): Promise<string> {
  return waitFor(async () => {
    const found = await client.find(coreApi.configMaps, { namespace: 'shop', name: 'istio-ca-root-cert' })
    return found?.data?.['root-cert.pem']
  })
}

async function tokenFor(
  client: KubeClient,
  namespace: string,
  account: string,
  pod: string
): Promise<string> {
  const { uid = '' } = (await client.get(coreApi.pods, { namespace, name: pod })).metadata
  const answer = await client.raw(
    'POST',
    `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
    {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences: ['istio-ca'], boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: pod, uid } }
    }
  )
  return (answer as reviewApi.TokenRequest).status?.token ?? ''
}

async function startIstiod(
  t: Test,
  { folder, kubeconfig }: { folder: string; kubeconfig: string }
): Promise<{ readonly port: number }> {
  const [port, http] = await Promise.all([freePort(), freePort()])
  const meshConfig = path.join(folder, 'mesh.yaml')
  writeFileSync(meshConfig, 'rootNamespace: istio-system\ntrustDomain: cluster.local\n')
  const parameters = [
    ...['discovery', '--kubeconfig', kubeconfig, '--meshConfig', meshConfig, '--domain', 'cluster.local'],
    ...['--httpAddr', `:${http}`, '--secureGRPCAddr', `:${port}`],
    ...['--grpcAddr', '127.0.0.1:0', '--httpsAddr', '', '--monitoringAddr', '127.0.0.1:0']
  ]
  const child = start(t, path.join(peers, 'pilot-discovery'), parameters, {
    cwd: folder,
    env: {
      PATH: process.env['PATH'],
      REVISION: 'default',
      POD_NAMESPACE: 'istio-system',
      POD_NAME: 'istiod-0',
      SERVICE_ACCOUNT: 'istiod',
      PILOT_ENABLE_AMBIENT: 'true',
      PILOT_ENABLE_IP_AUTOALLOCATE: 'true',
      CA_TRUSTED_NODE_ACCOUNTS: 'istio-system/ztunnel',
      CLUSTER_ID: 'Kubernetes',
      ISTIOD_CUSTOM_HOST: 'localhost,127.0.0.1,198.18.77.1,198.18.77.5',
      INJECTION_WEBHOOK_CONFIG_NAME: '',
      VALIDATION_WEBHOOK_CONFIG_NAME: '',
      PILOT_CERT_PROVIDER: 'istiod',
      ENABLE_LEADER_ELECTION: 'false'
    }
  })
  await waitFor(async () => {
    if (child.exitCode !== null) throw new Error(`pilot-discovery ended with ${child.exitCode}`)
    const ready = await fetch(`http://127.0.0.1:${http}/ready`).catch(() => undefined)
    return ready?.ok === true ? true : undefined
  })
  return { port }
}

/** The first answer for everything, in a form that compares: bytes as hex, keys sorted, clauses as sets. */
async function receive(options: {
  port: number
  typeUrl: string
  rootsPem: string
  token: string
}): Promise<Map<string, string>> {
  const client = new DeltaClient({ ...options, target: `127.0.0.1:${options.port}` })
  try {
    const all = await client.all(options.typeUrl)
    return new Map([...all].map(([name, value]) => [name, comparable(value)]))
  } finally {
    client.close()
  }
}

function comparable(value: unknown): string {
  return JSON.stringify(normal(value), null, 1)
}

function normal(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('hex')
  if (Array.isArray(value)) return value.map(normal)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => [key, unordered.has(key) ? asSet(normal(each)) : normal(each)])
  )
}

/** Lists joined by AND or by OR, or made from a map: neither their order nor a repeated item means anything. */
const unordered = new Set(['rules', 'clauses', 'services'])

function asSet(value: unknown): unknown {
  if (!Array.isArray(value)) return value
  const texts = value.map(each => JSON.stringify(asSet(each)))
  return [...new Set(texts)].toSorted()
}

interface ZtunnelDump {
  readonly dump: Readonly<Record<'workloads' | 'services' | 'policies', Map<string, string>>>
  readonly certificate: { readonly uri: string; readonly verified: boolean }
}

/** A ztunnel in a network namespace of its own, fed by the control plane at `port` of this machine. */
async function ztunnelDump(
  t: Test,
  options: { port: number; index: number; folder: string; rootsPem: string; client: KubeClient }
): Promise<ZtunnelDump> {
  const { port, index, folder, client } = options
  const name = `upcp${process.pid}x${index}`
  const link = `u${process.pid}x${index}`
  const [outside, inside] = [`198.18.77.${index * 4 + 1}`, `198.18.77.${index * 4 + 2}`]
  const ip = (...parameters: string[]): string => execFileSync('ip', parameters, { encoding: 'utf8' })
  ip('netns', 'add', name)
  t.teardown(() => ip('netns', 'del', name)) // takes the link along
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
  ip('addr', 'add', `${outside}/30`, 'dev', link)
  ip('link', 'set', link, 'up')
  ip('-n', name, 'addr', 'add', `${inside}/30`, 'dev', 'eth0')
  ip('-n', name, 'link', 'set', 'eth0', 'up')
  ip('-n', name, 'link', 'set', 'lo', 'up')
  const home = mkdtempSync(path.join(folder, 'ztunnel-'))
  const file = (base: string, text: string): string => {
    writeFileSync(path.join(home, base), text)
    return path.join(home, base)
  }
  const pod = 'web-5d4f7c9b8-abcde'
  const roots = file('root-cert.pem', options.rootsPem)
  const child = start(t, 'ip', ['netns', 'exec', name, path.join(peers, 'ztunnel'), 'proxy', 'ztunnel'], {
    cwd: home,
    env: {
      PATH: process.env['PATH'],
      PROXY_MODE: 'dedicated',
      PROXY_WORKLOAD_INFO: `shop/${pod}/web`,
      NODE_NAME: 'n1',
      POD_NAME: pod,
      POD_NAMESPACE: 'shop',
      SERVICE_ACCOUNT: 'web',
      INSTANCE_IP: '10.0.0.1',
      ISTIO_META_DNS_CAPTURE: 'false',
      XDS_ADDRESS: `https://${outside}:${port}`,
      CA_ADDRESS: `https://${outside}:${port}`,
      XDS_ROOT_CA: roots,
      CA_ROOT_CA: roots,
      AUTH_TOKEN: file('token', await tokenFor(client, 'shop', 'web', pod))
    }
  })
  const curl = (url: string): string =>
    execFileSync('ip', ['netns', 'exec', name, 'curl', '-sS', '--fail', '--max-time', '5', url], {
      encoding: 'utf8',
      maxBuffer: 64 << 20,
      stdio: ['ignore', 'pipe', 'ignore']
    })
  await waitFor(async () => {
    if (child.exitCode !== null) throw new Error(`ztunnel ended with ${child.exitCode}`)
    try {
      curl('http://127.0.0.1:15021/healthz/ready')
      return true
    } catch {
      return undefined // not ready yet
    }
  })
  const dump = JSON.parse(curl('http://127.0.0.1:15000/config_dump')) as Record<
    'workloads' | 'services' | 'policies',
    Record<string, string>[]
  >
  const byName = (list: Record<string, string>[], nameOf: (each: Record<string, string>) => string) =>
    new Map(list.map(each => [nameOf(each), comparable(each)]))
  return {
    dump: {
      workloads: byName(dump.workloads, each => each['uid'] ?? ''),
      services: byName(dump.services, each => `${each['namespace']}/${each['hostname']}`),
      policies: byName(dump.policies, each => `${each['namespace']}/${each['name']}`)
    },
    certificate: await presented(inside, options.rootsPem)
  }
}

/** The certificate on the tunnel port; asking makes the ztunnel fetch it. */
async function presented(host: string, rootsPem: string): Promise<ZtunnelDump['certificate']> {
  return waitFor(
    async () =>
      new Promise(resolve => {
        const socket = tls.connect({ host, port: 15008, rejectUnauthorized: false, ALPNProtocols: ['h2'] })
        socket.on('error', () => resolve(undefined))
        socket.on('secureConnect', () => {
          const { raw } = socket.getPeerCertificate()
          socket.destroy()
          const certificate = new X509Certificate(raw)
          const verified = certificate.verify(new X509Certificate(rootsPem).publicKey)
          resolve({ uri: uriNames(certificate.subjectAltName)[0] ?? '', verified })
        })
      })
  )
}

function uriOf(pem: string | undefined): string | undefined {
  return uriNames(new X509Certificate(pem ?? '').subjectAltName)[0]
}

function start(
  t: Test,
  program: string,
  parameters: readonly string[],
  options: { cwd: string; env: Record<string, string | undefined> }
): ChildProcess {
  const child = spawn(program, parameters, { ...options, stdio: 'ignore' })
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  })
  return child
}

async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

/** Asks again until there is something, for up to a minute. */
async function waitFor<T>(ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + 60_000
  for (;;) {
    const answer = await ask()
    if (answer !== undefined) return answer
    if (Date.now() > deadline) throw new Error('waited a minute in vain')
    await delay(100)
  }
}
