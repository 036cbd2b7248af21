/** The node agent as a whole program: a real API store, real namespaces, a stand-in for ztunnel over real ZDS. */
import t, { type Test } from 'tap'
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApiStore, type ApiStore } from '../../lab/api-store/api-store.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { namespaces, pods, type Pod } from '../../shared/kube/resources.ts'
import { netnsId } from '../../shared/net/netns.ts'
import { Poller } from '../../shared/net/poll.ts'
import { decodeRequest, encodeAck, encodeHello } from '../../shared/zds/messages.ts'
import { ZdsConnection } from '../../shared/zds/seqpacket.ts'
import { eventually } from '../support/eventually.ts'
import { joinNamespaces, makeNamespace, needsRoot, type Namespace } from '../support/namespaces.ts'
import { addresses, askOnce, Client, makeWorld, serveLines, TestProxy, type World } from './capture-world.ts'

const redirection = 'ambient.istio.io/redirection'

t.test('the node agent', { skip: needsRoot(), timeout: 120_000 }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const world = makeWorld(t)
  const { pod, peer: node } = world
  const places = layOutPlaces(folder, world)
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const client = await clientOf(store, folder)
  const ztunnel = new StandIn(t, path.join(folder, 'zds.sock'))
  const appPort = await serveLines(t, pod, 'app')
  const probedPort = await serveLines(t, pod, 'probed')
  const nodePort = await serveLines(t, node, 'node')
  const uid = await createCluster(client, probedPort)

  const agent = new Agent(t, { ...places, folder })
  await agent.start()
  const into = { ip: addresses[4].pod, port: appPort }
  const outOf = { ip: addresses[4].peer, port: nodePort }
  const live = await Client.connect(pod, outOf)

  await t.test('a pod without label stays as it is', async t => {
    t.equal(await askOnce(node, into), `app saw ${addresses[4].peer}: hello`)
    t.match(await agent.get('admin', '/v1/pods'), { node: 'node-1', captureMode: 'tproxy', pods: [] })
  })

  await t.test(
    'without a ztunnel a labelled pod that runs stays as it is, and its owner is told',
    async t => {
      await label(client, 'ambient')
      await eventually('the pod is known and waits', async () => {
        const { pods } = (await agent.get('admin', '/v1/pods')) as PodsView
        return pods[0]?.problem?.includes('no ztunnel') === true
      })
      t.equal(await askOnce(node, into), `app saw ${addresses[4].peer}: hello`)
      t.equal(await annotation(client), undefined)
    }
  )

  await t.test('a ztunnel that connects gets the pod, and then it is captured', async t => {
    ztunnel.connect()
    await eventually('the pod is annotated', async () => (await annotation(client)) === 'enabled')
    t.equal(ztunnel.namespaceOf(uid), netnsId(pod.fd))
    t.match(ztunnel.requests, ['add', 'snapshot-sent'])
    await askOnce(node, into)
    t.match(ztunnel.accepted(uid).at(-1), { listener: 'inbound', destination: into })
    await askOnce(pod, outOf)
    t.match(ztunnel.accepted(uid).at(-1), { listener: 'outbound', destination: outOf })
  })

  await t.test('the connection that was open is still the same', async t => {
    t.equal(await live.ask('still'), `node saw ${addresses[4].pod}: still`)
    live.close()
  })

  await t.test('probes of the node go straight to declared ports, everything else is captured', async t => {
    const before = ztunnel.accepted(uid).length
    t.equal(
      await askOnce(node, { ip: addresses[4].pod, port: probedPort }),
      'probed saw 169.254.7.127: hello'
    )
    t.equal(
      await askOnce(node, { ip: addresses[6].pod, port: probedPort }),
      `probed saw ${addresses[6].probe}: hello`
    )
    t.equal(ztunnel.accepted(uid).length, before)
    await askOnce(node, into)
    t.equal(ztunnel.accepted(uid).length, before + 1)
  })

  await t.test('rules are shown, desired beside actual', async t => {
    t.match(await agent.get('admin', '/v1/rules?pod=shop/web'), {
      pod: 'shop/web',
      mode: 'tproxy',
      drift: { missing: [], unexpected: [] },
      summary: ''
    })
    t.match(await agent.status('admin', '/v1/rules?pod=web'), { status: 400, text: /namespace\/name/ })
    t.match(await agent.status('admin', '/v1/rules?pod=shop/none'), { status: 404, text: /not enrolled/ })
  })

  await t.test('flushed rules come back, in the pod and on the node', async t => {
    pod.run('nft', 'flush', 'ruleset')
    pod.run('ip', 'rule', 'del', 'pref', '32764')
    node.run('nft', 'flush', 'ruleset')
    await eventually('the rules are as they shall be', async () => {
      const { drift } = (await agent.get('admin', '/v1/rules?pod=shop/web')) as RulesView
      return drift.missing.length === 0 && node.run('nft', 'list', 'ruleset').includes('probed-v4')
    })
    const metrics = await agent.status('metrics', '/metrics')
    t.match(metrics.text, /underpass_rule_repairs_total\{where="pod"\} [1-9]/)
    t.match(metrics.text, /underpass_rule_repairs_total\{where="node"\} [1-9]/)
    t.match(metrics.text, /ztunnel_connected 1/)
    t.match(metrics.text, /underpass_unprotected_pods 0/)
  })

  await t.test(
    'an agent that is killed changes nothing for its pods; the next one sends a snapshot',
    async t => {
      await agent.kill()
      await askOnce(node, into)
      ztunnel.requests.length = 0
      await agent.start()
      await eventually('ztunnel has the snapshot', () => ztunnel.requests.includes('snapshot-sent'))
      t.strictSame(ztunnel.requests, ['add', 'snapshot-sent'])
      await askOnce(node, into)
      t.equal(await annotation(client), 'enabled')
    }
  )

  await t.test('without ztunnel the pod is cut off, never in the clear; a new one takes over', async t => {
    ztunnel.die()
    await t.rejects(askOnce(node, into, { timeoutMs: 700 }), /no answer/)
    await t.rejects(askOnce(pod, outOf, { timeoutMs: 700 }), /no answer/)
    ztunnel.connect()
    await eventually('ztunnel has the snapshot', () => ztunnel.requests.at(-1) === 'snapshot-sent')
    t.match(await askOnce(node, into), /app saw/)
    t.match(await askOnce(pod, outOf), /node saw/)
  })

  await t.test('a new pod is captured before it starts', async t => {
    const fresh = makeNamespace(t, 'uph3')
    joinNamespaces(
      { namespace: fresh, device: 'eth0', addresses: ['10.77.1.2/24', 'fd77:1::2/64'] },
      { namespace: node, device: 'veth1', addresses: ['10.77.1.1/24', 'fd77:1::1/64'] }
    )
    const created = await client.create(pods, podOf('new', []))
    ztunnel.die()
    const refused = await cniAdd(folder, 'new', fresh, '10.77.1.2')
    t.match(refused, { status: 500, text: /shop\/new cannot be enrolled: no ztunnel is connected/ })
    t.match(fresh.run('nft', 'list', 'ruleset'), /tproxy to :15006/, 'its rules keep it shut')
    ztunnel.connect()
    await eventually('ztunnel is back', () => ztunnel.requests.at(-1) === 'snapshot-sent')
    t.match(await cniAdd(folder, 'new', fresh, '10.77.1.2'), { status: 200 })
    const port = await serveLines(t, fresh, 'fresh')
    t.match(await askOnce(node, { ip: '10.77.1.2' as typeof into.ip, port }), /fresh saw/)
    t.equal(ztunnel.accepted(created.metadata.uid ?? '').length, 1)
    await eventually('it is annotated', async () => (await annotation(client, 'new')) === 'enabled')
    await client.delete(pods, { namespace: 'shop', name: 'new' }, { gracePeriodSeconds: 0 })
    await eventually('ztunnel lets it go', () => ztunnel.requests.at(-1) === 'del')
  })

  await t.test('the plug-in gets a clear answer for what it should not have sent', async t => {
    const outside = podOf('outside', [])
    await client.create(pods, {
      ...outside,
      metadata: { ...outside.metadata, labels: { 'istio.io/dataplane-mode': 'none' } }
    })
    t.match(await cniAdd(folder, 'outside', pod, '10.77.9.9'), { status: 200 }, 'not to be enrolled')
    t.match(await cniAdd(folder, 'nobody', pod, '10.77.9.9'), { status: 500, text: /nobody/ })
    t.match(await post(folder, '{'), { status: 400 })
    t.match(await post(folder, '{"Netns":"/x","PodName":"a","PodNamespace":"b"}'), {
      status: 400,
      text: /IPs/
    })
  })

  await t.test('a pod that loses its label is out again, completely', async t => {
    await label(client, null)
    await eventually('the annotation is gone', async () => (await annotation(client)) === undefined)
    const before = ztunnel.accepted(uid).length
    t.equal(await askOnce(node, into), `app saw ${addresses[4].peer}: hello`)
    t.equal(ztunnel.accepted(uid).length, before)
    t.notMatch(pod.run('nft', 'list', 'ruleset'), /underpass/)
    t.notMatch(pod.run('ip', 'rule'), /fwmark/)
    t.match(await agent.get('admin', '/v1/pods'), { pods: [] })
  })

  await t.test('uninstall finds everything without the agent', async t => {
    await label(client, 'ambient')
    await eventually('enrolled', async () => (await annotation(client)) === 'enabled')
    await agent.stop()
    const listed = await agent.run('uninstall', '--dry-run')
    t.match(listed, /would remove: \d+ rules in/)
    t.match(pod.run('nft', 'list', 'ruleset'), /underpass/)
    t.match(await agent.run('uninstall'), /removed: annotation of shop\/web/)
    t.equal(await annotation(client), undefined)
    t.notMatch(pod.run('nft', 'list', 'ruleset'), /underpass/)
    t.notMatch(node.run('nft', 'list', 'ruleset'), /underpass/)
    t.equal(await askOnce(node, into), `app saw ${addresses[4].peer}: hello`)
  })
})

t.test('a machine that cannot do what is asked says so and ends', { skip: needsRoot() }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const agent = new Agent(t, { folder, environment: { NODE_NAME: '', UNDERPASS_CAPTURE_MODE: 'magic' } })
  await t.rejects(
    agent.run(),
    /NODE_NAME is not set[\s\S]*UNDERPASS_CAPTURE_MODE="magic": expected auto \| tproxy/
  )
})

interface PodsView {
  readonly pods: readonly { readonly problem: string | null }[]
}

interface RulesView {
  readonly drift: { readonly missing: readonly string[] }
}

/** ztunnel's part of ZDS: for each pod that it is given, a proxy in the pod's namespace. */
class StandIn {
  readonly requests: string[] = []
  readonly #poller = new Poller()
  readonly #socket: string
  readonly #pods = new Map<string, { readonly netns: number; readonly proxy: TestProxy }>()
  #connection: ZdsConnection | undefined
  #wanted = false

  constructor(t: Test, socket: string) {
    this.#socket = socket
    t.teardown(async () => {
      this.die()
      await this.#poller.close()
    })
  }

  /** Connects, and again whenever the agent goes. */
  connect(): void {
    this.#wanted = true
    this.requests.length = 0
    this.#reconnect()
  }

  /** As a killed process: no connection, no listeners, no open connections of clients. */
  die(): void {
    this.#wanted = false
    this.#connection?.close()
    for (const uid of this.#pods.keys()) this.#end(uid)
  }

  accepted(uid: string): TestProxy['accepted'] {
    return this.#pods.get(uid)?.proxy.accepted ?? []
  }

  namespaceOf(uid: string): string | undefined {
    const held = this.#pods.get(uid)
    return held === undefined ? undefined : netnsId(held.netns)
  }

  #reconnect(): void {
    if (!this.#wanted) return
    try {
      const connection = ZdsConnection.connect(this.#poller, this.#socket, {
        onMessage: (bytes, descriptors) => void this.#answer(connection, bytes, descriptors),
        onClose: () => setTimeout(() => this.#reconnect(), 50)
      })
      this.#connection = connection
      connection.send(encodeHello())
    } catch {
      setTimeout(() => this.#reconnect(), 50) // the agent is not there yet
    }
  }

  async #answer(connection: ZdsConnection, bytes: Buffer, descriptors: readonly number[]): Promise<void> {
    const request = decodeRequest(bytes)
    const [netns] = descriptors
    if (request.kind === 'add' && netns !== undefined) {
      const held = this.#pods.get(request.uid)
      if (held !== undefined && netnsId(held.netns) === netnsId(netns)) closeSync(netns)
      else {
        this.#end(request.uid)
        const proxy = new TestProxy(netns)
        await proxy.start()
        this.#pods.set(request.uid, { netns, proxy })
      }
    }
    if (request.kind === 'del') this.#end(request.uid)
    this.requests.push(request.kind)
    connection.send(encodeAck())
  }

  #end(uid: string): void {
    const held = this.#pods.get(uid)
    if (held === undefined) return
    this.#pods.delete(uid)
    held.proxy.stop()
    closeSync(held.netns)
  }
}

interface AgentOptions {
  readonly folder: string
  readonly environment: Readonly<Record<string, string>>
}

/** The program under test, with the ports that it says it has. */
class Agent {
  readonly #options: AgentOptions
  readonly #ports = new Map<string, number>()
  #child: ChildProcess | undefined

  constructor(t: Test, options: AgentOptions) {
    this.#options = options
    t.teardown(() => this.kill())
  }

  async start(): Promise<void> {
    const child = this.#spawn([])
    this.#child = child
    let log = ''
    await new Promise<void>((resolve, reject) => {
      const onText = (text: string): void => {
        log += text
        for (const [, name = '', port] of log.matchAll(/listening (\w+)=\S*:(\d+)/g))
          this.#ports.set(name, Number(port))
        if (log.includes('node agent ready')) resolve()
      }
      child.stdout?.setEncoding('utf8').on('data', onText)
      child.stderr?.setEncoding('utf8').on('data', onText)
      child.once('exit', code => reject(new Error(`the agent ended with ${code}: ${log}`)))
    })
    child.removeAllListeners('exit')
  }

  /** Runs to the end; resolves to what it wrote, rejects with its complaints. */
  async run(...parameters: string[]): Promise<string> {
    const child = this.#spawn(parameters)
    const output = { stdout: '', stderr: '' }
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (output.stdout += text))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (output.stderr += text))
    const code = await new Promise(resolve => child.once('close', resolve))
    if (code !== 0) throw new Error(output.stderr)
    return output.stdout
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM')
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  async get(server: string, target: string): Promise<unknown> {
    return JSON.parse((await this.status(server, target)).text)
  }

  async status(server: string, target: string): Promise<{ status: number; text: string }> {
    return ask({ host: '127.0.0.1', port: this.#ports.get(server), path: target })
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await ended
  }

  #spawn(parameters: readonly string[]): ChildProcess {
    const { folder, environment } = this.#options
    const main = path.join(import.meta.dirname, '../../daemonset/main.ts')
    return spawn(process.execPath, [main, ...parameters], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        NODE_NAME: 'node-1',
        KUBECONFIG: path.join(folder, 'kubeconfig'),
        ZDS_SOCKET: path.join(folder, 'zds.sock'),
        CNI_AGENT_RUN_DIR: path.join(folder, 'cni'),
        UNDERPASS_VERIFY_INTERVAL: '500ms',
        UNDERPASS_ADMIN_PORT: '0',
        UNDERPASS_STATS_PORT: '0',
        UNDERPASS_READY_PORT: '0',
        ...environment
      }
    })
  }
}

/** A folder of namespaces with the pod's only, and a /proc in which nobody else's processes are seen. */
function layOutPlaces(folder: string, { pod, peer }: World): Pick<AgentOptions, 'environment'> {
  const netns = path.join(folder, 'netns')
  mkdirSync(netns)
  symlinkSync(pod.path, path.join(netns, 'cni-web'))
  mkdirSync(path.join(folder, 'proc/1/ns'), { recursive: true })
  symlinkSync('/proc/1/ns/net', path.join(folder, 'proc/1/ns/net'))
  return {
    environment: {
      UNDERPASS_NETNS_DIR: netns,
      UNDERPASS_HOST_PROC: path.join(folder, 'proc'),
      UNDERPASS_HOST_NETNS: peer.path
    }
  }
}

async function clientOf(store: ApiStore, folder: string): Promise<KubeClient> {
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  return new KubeClient(await loadKubeConfig({ kubeconfig }))
}

/** The UID of the pod. */
async function createCluster(client: KubeClient, probedPort: number): Promise<string> {
  await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
  const web = podOf('web', [addresses[4].pod, addresses[6].pod], probedPort)
  const { metadata } = await client.create(pods, web)
  await client.patch(
    pods,
    { namespace: 'shop', name: 'web' },
    { status: web.status },
    { kind: 'merge', subresource: 'status' }
  )
  return metadata.uid ?? ''
}

function podOf(name: string, ips: readonly string[], probedPort?: number): Pod {
  const probe = probedPort === undefined ? {} : { readinessProbe: { tcpSocket: { port: 'probed' } } }
  const ports = probedPort === undefined ? {} : { ports: [{ name: 'probed', containerPort: probedPort }] }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop' },
    spec: {
      nodeName: 'node-1',
      serviceAccountName: 'default',
      containers: [{ name: 'main', image: 'app', ...ports, ...probe }]
    },
    status: {
      phase: 'Running',
      podIPs: ips.map(ip => ({ ip })),
      ...(ips[0] === undefined ? {} : { podIP: ips[0] })
    }
  }
}

async function label(client: KubeClient, value: string | null): Promise<void> {
  const patch = { metadata: { labels: { 'istio.io/dataplane-mode': value } } }
  await client.patch(namespaces, { name: 'shop' }, patch, { kind: 'merge' })
}

async function annotation(client: KubeClient, name = 'web'): Promise<string | undefined> {
  return (await client.get(pods, { namespace: 'shop', name })).metadata.annotations?.[redirection]
}

async function cniAdd(
  folder: string,
  name: string,
  namespace: Namespace,
  address: string
): Promise<{ status: number; text: string }> {
  const IPs = [{ Interface: 0, Address: { IP: address, Mask: '////AA==' }, Gateway: '10.77.1.1' }]
  return post(folder, JSON.stringify({ Netns: namespace.path, PodName: name, PodNamespace: 'shop', IPs }))
}

async function post(folder: string, body: string): Promise<{ status: number; text: string }> {
  return ask({ socketPath: path.join(folder, 'cni/pluginevent.sock'), path: '/cmdadd', method: 'POST' }, body)
}

function ask(options: http.RequestOptions, body = ''): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = http.request(options, response => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    request.on('error', reject)
    request.end(body)
  })
}
