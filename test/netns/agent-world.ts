/** What a test of the node agent needs around it: an API store, a stand-in for ztunnel, the program itself. */
import type { Test } from 'tap'
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import type { ApiStore } from '../../lab/api-store/api-store.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { namespaces, pods, type Pod } from '../../shared/kube/core-api.ts'
import { netnsId } from '../../shared/net/netns.ts'
import { Poller } from '../../shared/net/poll.ts'
import { decodeRequest, encodeAck, encodeHello } from '../../shared/zds/messages.ts'
import { ZdsConnection } from '../../shared/zds/seqpacket.ts'
import type { Namespace } from '../support/namespaces.ts'
import { addresses, TestProxy } from './capture-world.ts'

export const redirection = 'ambient.istio.io/redirection'

export interface PodsView {
  readonly pods: readonly { readonly problem: string | null }[]
}

export interface RulesView {
  readonly mode: string
  readonly drift: { readonly missing: readonly string[]; readonly unexpected: readonly string[] }
}

/** ztunnel's part of ZDS: for each pod that it is given, a proxy in the pod's namespace. */
export class StandIn {
  readonly requests: string[] = []
  /** Called for each `add` before it is answered. */
  beforeAdd: (uid: string) => Promise<void> | void = () => undefined
  /** What each `add` is answered; empty is yes. */
  refusal = ''
  readonly #poller = new Poller()
  readonly #socket: string
  readonly #pods = new Map<string, { readonly netns: number; readonly proxy: TestProxy }>()
  #connection: ZdsConnection | undefined
  /** Pods that the agent named since the connection began; at the end of the snapshot all others go. */
  readonly #named = new Set<string>()
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
      this.#named.clear()
      connection.send(encodeHello())
    } catch {
      setTimeout(() => this.#reconnect(), 50) // the agent is not there yet
    }
  }

  async #answer(connection: ZdsConnection, bytes: Buffer, descriptors: readonly number[]): Promise<void> {
    const request = decodeRequest(bytes)
    const [netns] = descriptors
    if (request.kind === 'add' || request.kind === 'keep') this.#named.add(request.uid)
    if (request.kind === 'snapshot-sent') {
      for (const uid of [...this.#pods.keys()].filter(held => !this.#named.has(held))) this.#end(uid)
    }
    if (request.kind === 'add') await this.beforeAdd(request.uid)
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
    if (!connection.closed) connection.send(encodeAck(request.kind === 'add' ? this.refusal : ''))
  }

  #end(uid: string): void {
    const held = this.#pods.get(uid)
    if (held === undefined) return
    this.#pods.delete(uid)
    held.proxy.stop()
    closeSync(held.netns)
  }
}

export interface AgentOptions {
  readonly folder: string
  readonly environment: Readonly<Record<string, string>>
}

/** The program under test, with the ports that it says it has. */
export class Agent {
  readonly #options: AgentOptions
  readonly #ports = new Map<string, number>()
  #child: ChildProcess | undefined

  constructor(t: Test, options: AgentOptions) {
    this.#options = options
    t.teardown(() => this.kill())
  }

  /** Of the process that runs. */
  get pid(): number {
    return this.#child?.pid ?? 0
  }

  async start(): Promise<void> {
    await this.kill()
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

/** A folder of namespaces with those of the pods only, and a /proc in which nobody else's processes are seen. */
export function layOutPlaces(
  folder: string,
  { pods, node }: { readonly pods: readonly Namespace[]; readonly node: Namespace }
): Pick<AgentOptions, 'environment'> {
  const netns = path.join(folder, 'netns')
  mkdirSync(netns)
  for (const { name, path: file } of pods) symlinkSync(file, path.join(netns, `cni-${name}`))
  mkdirSync(path.join(folder, 'proc/1/ns'), { recursive: true })
  symlinkSync('/proc/1/ns/net', path.join(folder, 'proc/1/ns/net'))
  return {
    environment: {
      UNDERPASS_NETNS_DIR: netns,
      UNDERPASS_HOST_PROC: path.join(folder, 'proc'),
      UNDERPASS_HOST_NETNS: node.path
    }
  }
}

export async function clientOf(store: ApiStore, folder: string): Promise<KubeClient> {
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  return new KubeClient(await loadKubeConfig({ kubeconfig }))
}

/** Namespace `shop`, without labels. */
export async function createNamespace(client: KubeClient): Promise<void> {
  await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
}

/** A pod that runs in namespace `shop`; its UID. */
export async function createPod(client: KubeClient, probedPort: number): Promise<string> {
  const web = podOf('web', [addresses[4].pod, addresses[6].pod], { probedPort })
  const { metadata } = await client.create(pods, web)
  await client.patch(
    pods,
    { namespace: 'shop', name: 'web' },
    { status: web.status },
    { kind: 'merge', subresource: 'status' }
  )
  return metadata.uid ?? ''
}

export function podOf(
  name: string,
  ips: readonly string[],
  { probedPort, serviceAccount = 'default' }: { probedPort?: number; serviceAccount?: string } = {}
): Pod {
  const probe = probedPort === undefined ? {} : { readinessProbe: { tcpSocket: { port: 'probed' } } }
  const ports = probedPort === undefined ? {} : { ports: [{ name: 'probed', containerPort: probedPort }] }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop' },
    spec: {
      nodeName: 'node-1',
      serviceAccountName: serviceAccount,
      containers: [{ name: 'main', image: 'app', ...ports, ...probe }]
    },
    status: {
      phase: 'Running',
      podIPs: ips.map(ip => ({ ip })),
      ...(ips[0] === undefined ? {} : { podIP: ips[0] })
    }
  }
}

export async function label(client: KubeClient, value: string | null): Promise<void> {
  const patch = { metadata: { labels: { 'istio.io/dataplane-mode': value } } }
  await client.patch(namespaces, { name: 'shop' }, patch, { kind: 'merge' })
}

export async function annotation(client: KubeClient, name = 'web'): Promise<string | undefined> {
  return (await client.get(pods, { namespace: 'shop', name })).metadata.annotations?.[redirection]
}

export async function cniAdd(
  folder: string,
  name: string,
  namespace: Namespace,
  address: string
): Promise<{ status: number; text: string }> {
  const IPs = [{ Interface: 0, Address: { IP: address, Mask: '////AA==' }, Gateway: '10.77.1.1' }]
  return post(folder, JSON.stringify({ Netns: namespace.path, PodName: name, PodNamespace: 'shop', IPs }))
}

export async function post(folder: string, body: string): Promise<{ status: number; text: string }> {
  return ask({ socketPath: path.join(folder, 'cni/pluginevent.sock'), path: '/cmdadd', method: 'POST' }, body)
}

export function ask(options: http.RequestOptions, body = ''): Promise<{ status: number; text: string }> {
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
