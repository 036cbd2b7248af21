/**
 * The root of the mesh is replaced under load: our control plane, a Rust ztunnel and ours, each in a network
 * namespace beside its application, and a client that notices every connection that breaks or is not made.
 */
import t, { type Test } from 'tap'
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApp, type App } from '../../controlplane/app.ts'
import { caSecretName } from '../../controlplane/ca/secret.ts'
import { readConfig } from '../../controlplane/config.ts'
import { startApiStore, type ApiStore } from '../../lab/api-store/api-store.ts'
import { splitPem } from '../../shared/identity/certificate.ts'
import { createIntermediate, createRoot, issuerOf } from '../../shared/identity/issue.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { eventually } from '../support/eventually.ts'

t.setTimeout(240_000)

const root = path.dirname(path.dirname(import.meta.dirname))
const peers = process.env['UNDERPASS_PEERS'] ?? ''
const hub = '198.18.79.1'
const hour = 3_600_000

function needs(): string | false {
  if (process.getuid?.() !== 0) return 'needs root'
  if (peers === '' || !existsSync(path.join(peers, 'ztunnel'))) return 'needs ztunnel in UNDERPASS_PEERS'
  return false
}

t.test('a root is replaced and no connection is lost', { skip: needs() }, async t => {
  const here = await world(t)
  const { app, client } = here
  // Certificates begin two minutes ago. Istio's ztunnel renews at half their life, here every three seconds; ours
  // leaves such an old one alone for half of what is left of it, here eight.
  const ours = [path.join(root, 'ztunnel/main.ts')]
  startZtunnel(t, here, 'server', process.execPath, ours, { SECRET_TTL: '16s' })
  const rust = path.join(peers, 'ztunnel')
  startZtunnel(t, here, 'client', rust, ['proxy', 'ztunnel'], { SECRET_TTL: '126s' })
  const load = startLoad(t, here)
  await eventually('connections are made', () => load.opened() > 20)
  const mutual = (): number =>
    Number(
      /istio_tcp_connections_opened_total\{.*connection_security_policy="mutual_tls".*\} (\d+)/.exec(
        metricsOf(here.namespaces.client)
      )?.[1] ?? 0
    )
  await eventually('by mutual TLS', () => mutual() > 10)
  load.mark()

  const replaced = async (what: string, from: string, to: string): Promise<void> => {
    const roots = (): readonly string[] => splitPem(app.authority.bundlePem)
    await eventually(
      `${what}: both roots are announced`,
      () => roots().includes(to) && roots().includes(from)
    )
    await eventually(
      `${what}: both are in every namespace`,
      async () => (await published(client)) === app.authority.bundlePem
    )
    await eventually(
      `${what}: the new one signs`,
      () => splitPem(app.authority.issuer.rootsPem).join('') === to
    )
    t.ok(roots().includes(from), `${what}: the old root is still trusted when the new one begins to sign`)
    await eventually(`${what}: the old root leaves`, () => roots().join('') === to)
    await eventually(`${what}: from every namespace`, async () => (await published(client)) === to)
    const opened = load.opened()
    await eventually(`${what}: connections are made after it`, () => load.opened() > opened + 20)
    t.strictSame(load.broken(), [], `${what}: nothing broke`)
  }

  const first = splitPem(app.authority.bundlePem)[0] ?? ''
  const own = createRoot({
    organization: 'cluster.local',
    notBefore: Date.now() - hour,
    notAfter: Date.now() + 1000 * hour
  })
  const secret = await client.get(coreApi.secrets, { namespace: 'istio-system', name: caSecretName })
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  await client.replace(coreApi.secrets, {
    ...secret,
    data: {
      ...secret.data,
      'ca-cert.pem': base64(own.certificatePem),
      'ca-key.pem': base64(own.keyPem),
      'root-cert.pem': base64(own.certificatePem)
    }
  })
  await replaced('its own root', first, own.certificatePem)

  const operator = createRoot({
    organization: 'operator',
    notBefore: Date.now() - hour,
    notAfter: Date.now() + 1000 * hour
  })
  const issuer = issuerOf({ ...operator, rootsPem: operator.certificatePem })
  const below = createIntermediate({
    organization: 'below',
    notBefore: Date.now() - hour,
    notAfter: Date.now() + 1000 * hour,
    issuer
  })
  mountCacerts(here.cacerts, {
    'ca-cert.pem': below.certificatePem,
    'ca-key.pem': below.keyPem,
    'cert-chain.pem': below.certificatePem,
    'root-cert.pem': operator.certificatePem
  })
  await replaced('a root of the operator', own.certificatePem, operator.certificatePem)
  t.ok(mutual() > 50, 'all of it by mutual TLS')
})

interface World {
  readonly folder: string
  readonly cacerts: string
  readonly store: ApiStore
  readonly client: KubeClient
  readonly app: App
  readonly namespaces: Readonly<Record<'client' | 'server', string>>
}

const addressOf = { client: '198.18.79.2', server: '198.18.79.3' } as const

async function world(t: Test): Promise<World> {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-rotation-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(async () => store.close())
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
  t.teardown(() => client.close())
  for (const name of ['istio-system', 'shop']) {
    await client.create(coreApi.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  for (const name of ['client', 'server'] as const) await runPod(client, name)
  const namespaces = network(t)
  const { config } = readConfig({
    UNDERPASS_LISTEN: '0.0.0.0',
    UNDERPASS_XDS_PORT: '0',
    UNDERPASS_MONITORING_PORT: '0',
    UNDERPASS_READY_PORT: '0',
    UNDERPASS_WEBHOOK_PORT: '0',
    TERMINATION_DRAIN_DURATION: '100ms',
    ISTIOD_CUSTOM_HOST: hub,
    ROOT_CA_DIR: path.join(folder, 'cacerts'),
    UNDERPASS_ROOT_REFRESH: '1s',
    // Longer than certificates take to be renewed here, so that each ztunnel has met the new root before it signs.
    UNDERPASS_ROOT_OVERLAP: '14s'
  })
  const logs = new LogOutput({ ...config.log, sink: { write: () => undefined } })
  const app = await startApp({ config, client, logs })
  t.teardown(async () => app.close())
  await app.ready
  // As the kubelet does with the ConfigMap that is mounted.
  const roots = (): void => writeFileSync(path.join(folder, 'root-cert.pem'), app.authority.bundlePem)
  roots()
  app.authority.onChange(roots)
  return { folder, cacerts: path.join(folder, 'cacerts'), store, client, app, namespaces }
}

/** As a Secret is mounted: all files change at once, by a link. */
function mountCacerts(folder: string, files: Readonly<Record<string, string>>): void {
  const version = `${folder}.new`
  mkdirSync(version)
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(version, name), text)
  execFileSync('mv', ['-T', version, folder])
}

async function runPod(client: KubeClient, name: 'client' | 'server'): Promise<void> {
  const metadata = { namespace: 'shop', name }
  await client.create(coreApi.serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata })
  await client.create(coreApi.pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...metadata, annotations: { 'ambient.istio.io/redirection': 'enabled' } },
    spec: { nodeName: name, serviceAccountName: name, containers: [{ name: 'c', image: 'x' }] }
  })
  const ip = addressOf[name]
  const status = {
    phase: 'Running',
    podIP: ip,
    podIPs: [{ ip }],
    conditions: [{ type: 'Ready', status: 'True' }]
  }
  await client.patch(coreApi.pods, metadata, { status }, { kind: 'merge', subresource: 'status' })
}

/** Both namespaces and this machine on one bridge; what the client sends to port 8080 goes through its ztunnel. */
function network(t: Test): World['namespaces'] {
  const ip = (...parameters: string[]): void => void execFileSync('ip', parameters)
  const bridge = `uprot${process.pid}`
  ip('link', 'add', bridge, 'type', 'bridge')
  t.teardown(() => ip('link', 'del', bridge))
  ip('addr', 'add', `${hub}/24`, 'dev', bridge)
  ip('link', 'set', bridge, 'up')
  const namespaces = { client: `uprotc${process.pid}`, server: `uprots${process.pid}` }
  for (const name of ['client', 'server'] as const) {
    const namespace = namespaces[name]
    const outside = `${name[0]}${process.pid}r`
    ip('netns', 'add', namespace)
    t.teardown(() => ip('netns', 'del', namespace))
    ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
    ip('link', 'set', outside, 'master', bridge, 'up')
    ip('-n', namespace, 'addr', 'add', `${addressOf[name]}/24`, 'dev', 'eth0')
    for (const link of ['eth0', 'lo']) ip('-n', namespace, 'link', 'set', link, 'up')
    ip('-n', namespace, 'route', 'add', 'default', 'via', hub)
  }
  const redirect = '-t nat -A OUTPUT -p tcp --dport 8080 -j REDIRECT --to-ports 15001'
  execFileSync('ip', ['netns', 'exec', namespaces.client, 'iptables', ...redirect.split(' ')])
  return namespaces
}

function startZtunnel(
  t: Test,
  here: World,
  name: 'client' | 'server',
  program: string,
  args: readonly string[],
  env: Record<string, string>
): void {
  const { folder, store, app } = here
  const token = path.join(folder, `${name}.token`)
  writeFileSync(token, store.issueToken('shop', name, { audiences: ['istio-ca'], pod: name }))
  const address = `https://${hub}:${app.addresses.xds.port}`
  const roots = path.join(folder, 'root-cert.pem')
  inside(t, here.namespaces[name], program, args, {
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: `shop/${name}/${name}`,
    NODE_NAME: name,
    POD_NAME: name,
    POD_NAMESPACE: 'shop',
    SERVICE_ACCOUNT: name,
    INSTANCE_IP: addressOf[name],
    ISTIO_META_DNS_CAPTURE: 'false',
    DNS_PROXY_ENABLED: 'false',
    XDS_ADDRESS: address,
    CA_ADDRESS: address,
    XDS_ROOT_CA: roots,
    CA_ROOT_CA: roots,
    AUTH_TOKEN: token,
    // Every connection has a tunnel of its own, so each is a handshake.
    POOL_MAX_STREAMS_PER_CONNECTION: '1',
    POOL_UNUSED_RELEASE_TIMEOUT: '200ms',
    ...env
  })
}

function inside(
  t: Test,
  namespace: string,
  program: string,
  args: readonly string[],
  env: Record<string, string>
): ChildProcess {
  const child = spawn('ip', ['netns', 'exec', namespace, program, ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: process.env['PATH'], ...env }
  })
  const ended = new Promise(resolve => child.once('exit', resolve))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return child
}

interface Load {
  /** Short connections that were made, and answered. */
  opened(): number
  /** What broke since {@link mark}. */
  broken(): readonly string[]
  mark(): void
}

const server = `require('node:net').createServer(socket => { socket.on('error', () => {}); socket.pipe(socket) }).listen(8080)`

/** One connection that stays and asks ten times a second, and a new one as often; says what breaks. */
const client = `
const net = require('node:net')
const say = text => console.log(text)
const target = { host: '${addressOf.server}', port: 8080 }
const stay = () => {
  const socket = net.connect(target)
  const timer = setInterval(() => socket.write('x'), 100)
  socket.on('error', () => {})
  socket.on('close', () => { clearInterval(timer); say('long connection broken'); setTimeout(stay, 100) })
  socket.resume()
}
stay()
setInterval(() => {
  const socket = net.connect(target)
  let answered = false
  socket.setTimeout(20000, () => socket.destroy())
  socket.on('error', () => {})
  socket.on('data', () => { answered = true; socket.end() })
  socket.on('close', () => say(answered ? 'opened' : 'short connection broken'))
  socket.write('x')
}, 100)
`

function startLoad(t: Test, { namespaces }: World): Load {
  inside(t, namespaces.server, process.execPath, ['-e', server], {})
  const child = inside(t, namespaces.client, process.execPath, ['-e', client], {})
  let opened = 0
  let broken: string[] = []
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    for (const line of text.split('\n')) {
      if (line === 'opened') opened += 1
      else if (line !== '') broken.push(line)
    }
  })
  return { opened: () => opened, broken: () => broken, mark: () => void (broken = []) }
}

function metricsOf(namespace: string): string {
  return execFileSync(
    'ip',
    [
      'netns',
      'exec',
      namespace,
      'curl',
      '-sS',
      '--fail',
      '--max-time',
      '5',
      'http://127.0.0.1:15020/metrics'
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }
  )
}

async function published(client: KubeClient): Promise<string | undefined> {
  const found = await client.find(coreApi.configMaps, { namespace: 'shop', name: 'istio-ca-root-cert' })
  return found?.data?.['root-cert.pem']
}
