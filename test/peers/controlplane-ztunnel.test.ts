/** A ztunnel, ours or Istio's, fed by our control plane alone, over restarts and on demand. Objects are in the lab's store. */
import t, { type Test } from 'tap'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApp, type App } from '../../controlplane/app.ts'
import { readConfig } from '../../controlplane/config.ts'
import { startApiStore, type ApiStore } from '../../lab/api-store/api-store.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { eventually } from '../support/eventually.ts'

t.setTimeout(180_000)

const peers = process.env['UNDERPASS_PEERS'] ?? ''
const root = path.resolve(import.meta.dirname, '../..')
const podCount = 200

type Kind = 'ours' | 'Rust'

const kinds: readonly Kind[] = ['ours', 'Rust']

function needsZtunnel(kind: Kind): string | false {
  if (process.getuid?.() !== 0) return 'needs root'
  if (kind === 'ours') return false
  if (peers === '' || !existsSync(path.join(peers, 'ztunnel'))) return 'needs ztunnel in UNDERPASS_PEERS'
  return false
}

interface World {
  readonly folder: string
  readonly store: ApiStore
  readonly client: KubeClient
  readonly start: (port: number) => Promise<App>
}

/** `client` on node n1; `web-0` to `web-199` and `db` on n2; Service `web` selects four of them. */
async function world(t: Test): Promise<World> {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-ztunnel-'))
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
  for (const name of ['client', 'web']) {
    const metadata = { namespace: 'shop', name }
    await client.create(coreApi.serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata })
  }
  await runPod(client, 'client', 'n1', '198.18.78.2', 'client')
  await runPod(client, 'db', 'n2', '10.0.9.9')
  for (let index = 0; index < podCount; index += 1) {
    await runPod(client, `web-${index}`, 'n2', `10.0.1.${index}`, 'web', index < 4 ? { app: 'web' } : {})
  }
  const service: coreApi.Service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name: 'web' },
    spec: {
      clusterIP: '10.96.0.50',
      clusterIPs: ['10.96.0.50'],
      selector: { app: 'web' },
      ports: [{ port: 80 }]
    }
  }
  await client.create(coreApi.services, service)
  const start = async (port: number): Promise<App> => {
    const { config } = readConfig({
      UNDERPASS_LISTEN: '0.0.0.0',
      UNDERPASS_XDS_PORT: String(port),
      UNDERPASS_MONITORING_PORT: '0',
      UNDERPASS_READY_PORT: '0',
      UNDERPASS_WEBHOOK_PORT: '0',
      TERMINATION_DRAIN_DURATION: '100ms',
      ISTIOD_CUSTOM_HOST: '198.18.78.1',
      ROOT_CA_DIR: folder
    })
    const logs = new LogOutput({ ...config.log, sink: { write: () => undefined } })
    const app = await startApp({ config, client, logs })
    t.teardown(async () => app.close())
    await app.ready
    return app
  }
  return { folder, store, client, start }
}

async function runPod(
  client: KubeClient,
  name: string,
  nodeName: string,
  ip: string,
  serviceAccountName = 'web',
  labels: Record<string, string> = {}
): Promise<void> {
  const pod: coreApi.Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'shop', name, labels, annotations: { 'ambient.istio.io/redirection': 'enabled' } },
    spec: { nodeName, serviceAccountName, containers: [{ name: 'c', image: 'x' }] }
  }
  await client.create(coreApi.pods, pod)
  const status = {
    phase: 'Running',
    podIP: ip,
    podIPs: [{ ip }],
    conditions: [{ type: 'Ready', status: 'True' }]
  }
  await client.patch(
    coreApi.pods,
    { namespace: 'shop', name },
    { status },
    { kind: 'merge', subresource: 'status' }
  )
}

interface Dump {
  readonly workloads: readonly string[]
  readonly services: readonly string[]
}

interface Ztunnel {
  readonly namespace: string
  dump(): Dump
}

/** In a network namespace of its own, whose way out is this machine. */
function startZtunnel(
  t: Test,
  { folder, store }: World,
  app: App,
  kind: Kind,
  env: Record<string, string> = {}
): Ztunnel {
  const namespace = `upcz${process.pid}`
  const ip = (...parameters: string[]): string => execFileSync('ip', parameters, { encoding: 'utf8' })
  ip('netns', 'add', namespace)
  t.teardown(() => ip('netns', 'del', namespace))
  ip('link', 'add', `z${process.pid}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
  ip('addr', 'add', '198.18.78.1/30', 'dev', `z${process.pid}`)
  ip('link', 'set', `z${process.pid}`, 'up')
  ip('-n', namespace, 'addr', 'add', '198.18.78.2/30', 'dev', 'eth0')
  for (const link of ['eth0', 'lo']) ip('-n', namespace, 'link', 'set', link, 'up')
  ip('-n', namespace, 'route', 'add', 'default', 'via', '198.18.78.1')
  const file = (base: string, text: string): string => {
    writeFileSync(path.join(folder, base), text)
    return path.join(folder, base)
  }
  const roots = file('root-cert.pem', app.authority.bundlePem)
  const address = `https://198.18.78.1:${app.addresses.xds.port}`
  const ours = [process.execPath, '--disable-warning=ExperimentalWarning', path.join(root, 'ztunnel/main.ts')]
  const program = kind === 'ours' ? ours : [path.join(peers, 'ztunnel')]
  const child = spawn('ip', ['netns', 'exec', namespace, ...program, 'proxy', 'ztunnel'], {
    cwd: folder,
    stdio: 'ignore',
    env: {
      PATH: process.env['PATH'],
      PROXY_MODE: 'dedicated',
      PROXY_WORKLOAD_INFO: 'shop/client/client',
      NODE_NAME: 'n1',
      POD_NAME: 'client',
      POD_NAMESPACE: 'shop',
      SERVICE_ACCOUNT: 'client',
      INSTANCE_IP: '198.18.78.2',
      ISTIO_META_DNS_CAPTURE: 'false',
      DNS_PROXY_ENABLED: 'false',
      XDS_ADDRESS: address,
      CA_ADDRESS: address,
      XDS_ROOT_CA: roots,
      CA_ROOT_CA: roots,
      AUTH_TOKEN: file(
        'token',
        store.issueToken('shop', 'client', { audiences: ['istio-ca'], pod: 'client' })
      ),
      ...env
    }
  })
  t.teardown(async () => {
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  })
  const dump = (): Dump => {
    const text = execFileSync(
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
        'http://127.0.0.1:15000/config_dump'
      ],
      { encoding: 'utf8', maxBuffer: 64 << 20, stdio: ['ignore', 'pipe', 'ignore'] }
    )
    const { workloads, services } = JSON.parse(text) as {
      workloads: { name: string }[]
      services: { hostname: string }[]
    }
    return {
      workloads: workloads.map(({ name }) => name),
      services: services.map(({ hostname }) => hostname)
    }
  }
  return { namespace, dump }
}

for (const kind of kinds) {
  t.test(
    `a ztunnel (${kind}) that meets a restarted control plane is sent what it missed`,
    { skip: needsZtunnel(kind) },
    async t => {
      const here = await world(t)
      const first = await here.start(0)
      const ztunnel = startZtunnel(t, here, first, kind)
      await eventually('it knows everything', () => ztunnel.dump().workloads.length === podCount + 2)
      await first.close()
      await here.client.delete(coreApi.pods, { namespace: 'shop', name: 'db' }, { gracePeriodSeconds: 0 })
      await runPod(here.client, 'young', 'n2', '10.0.9.10')
      t.ok(ztunnel.dump().workloads.includes('db'), 'meanwhile it goes on with what it had')
      const second = await here.start(first.addresses.xds.port)
      await eventually('it knows what changed', () => {
        const { workloads } = ztunnel.dump()
        return workloads.includes('young') && !workloads.includes('db')
      })
      t.equal(ztunnel.dump().workloads.length, podCount + 2)
      const metrics = await (
        await fetch(`http://127.0.0.1:${second.addresses.monitoring[0]?.port}/metrics`)
      ).text()
      const bytes = Number(/underpass_xds_push_bytes_total\{type="[^"]*Address"\} (\d+)/.exec(metrics)?.[1])
      t.ok(bytes > 0 && bytes < 2000, `${bytes} bytes, not ${podCount} workloads`)
    }
  )

  t.test(
    `a ztunnel (${kind}) on demand knows its node, and what its workloads ask for`,
    { skip: needsZtunnel(kind) },
    async t => {
      const here = await world(t)
      const app = await here.start(0)
      const ztunnel = startZtunnel(t, here, app, kind, { XDS_ON_DEMAND: 'true' })
      await eventually('it knows its own pod', () => ztunnel.dump().workloads.includes('client'))
      t.strictSame(ztunnel.dump(), { workloads: ['client'], services: [] }, 'and nothing else')
      const inside = (...parameters: string[]): void => {
        execFileSync('ip', ['netns', 'exec', ztunnel.namespace, ...parameters], { stdio: 'ignore' })
      }
      inside(
        'iptables',
        '-t',
        'nat',
        '-A',
        'OUTPUT',
        '-p',
        'tcp',
        '-m',
        'owner',
        '--uid-owner',
        '1234',
        '-j',
        'REDIRECT',
        '--to-ports',
        '15001'
      )
      await eventually('it asks for the service that its pod calls', () => {
        try {
          inside(
            'setpriv',
            '--reuid=1234',
            '--clear-groups',
            'curl',
            '-sS',
            '--max-time',
            '2',
            'http://10.96.0.50/'
          )
        } catch {
          // nobody answers there; that it was looked up is the point
        }
        return ztunnel.dump().services.length > 0
      })
      const { workloads, services } = ztunnel.dump()
      t.strictSame(services, ['web.shop.svc.cluster.local'])
      t.strictSame(
        workloads.toSorted(),
        ['client', 'web-0', 'web-1', 'web-2', 'web-3'],
        'with all its workloads'
      )
      await runPod(here.client, 'joins', 'n2', '10.0.9.11', 'web', { app: 'web' })
      await eventually('a workload that joins the service comes by itself', () =>
        ztunnel.dump().workloads.includes('joins')
      )
      t.notOk(ztunnel.dump().workloads.includes('db'), 'what nobody asked for does not')
    }
  )
}
