/** Pods as a container runtime makes them: a namespace with addresses, announced by the CNI plug-in itself. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { mustRun } from '../../daemonset/run-command.ts'
import { compileCniPlugin } from '../../scripts/image/cni-plugin.ts'
import { closeNetns, createNetns, netnsId } from '../../shared/net/netns.ts'

interface Teardown {
  teardown(done: () => unknown): void
}

/** Compiles the plug-in; resolves to its path. */
export async function makePlugin(t: Teardown): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-plugin-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  await compileCniPlugin(process.arch === 'arm64' ? 'arm64' : 'amd64', folder)
  return path.join(folder, 'istio-cni')
}

export interface Announced {
  readonly plugin: string
  /** The agent's. */
  readonly runDir: string
  readonly name: string
  /** Path of the namespace. */
  readonly netns: string
  readonly addresses: readonly string[]
}

/** CNI ADD of a pod of namespace `shop`: `added`, or the error as the runtime gets it. */
export async function add({ plugin, runDir, name, netns, addresses }: Announced): Promise<string> {
  const child = spawn(plugin, {
    env: { CNI_COMMAND: 'ADD', CNI_NETNS: netns, CNI_ARGS: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${name}` },
    stdio: ['pipe', 'pipe', 'inherit']
  })
  const prevResult = { cniVersion: '1.0.0', ips: addresses.map(address => ({ address })) }
  child.stdin.end(JSON.stringify({ cniVersion: '1.0.0', cni_agent_run_dir: runDir, prevResult }))
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code === 0) return 'added'
  const error = JSON.parse(stdout) as { code: number; msg: string; details: string }
  return `${error.code}: ${error.msg}: ${error.details}`
}

export interface Sandbox {
  readonly path: string
  /** What `netnsId` gives for it. */
  readonly id: string
  /** The namespace ends when nobody else holds it. */
  readonly end: () => void
}

/** A namespace that only has addresses: enough to be enrolled in, too little for traffic. */
export async function makeSandbox(addresses: readonly string[]): Promise<Sandbox> {
  const fd = createNetns()
  const lines = addresses.map(address => `addr add ${address} dev lo${address.includes(':') ? ' nodad' : ''}`)
  await mustRun(fd, 'ip', ['-batch', '-'], { input: `link set lo up\n${lines.join('\n')}\n` })
  return { path: `/proc/${process.pid}/fd/${fd}`, id: netnsId(fd), end: () => closeNetns(fd) }
}

/** A way to a TCP port of loopback that can be taken away and given back. */
export class Way {
  readonly #to: number
  readonly #sockets = new Set<net.Socket>()
  #server: net.Server | undefined
  #port = 0

  constructor(t: Teardown, to: number) {
    this.#to = to
    t.teardown(() => this.cut())
  }

  get port(): number {
    return this.#port
  }

  async open(): Promise<void> {
    const server = net.createServer(socket => {
      const upstream = net.connect(this.#to, '127.0.0.1')
      for (const one of [socket, upstream]) {
        this.#sockets.add(one)
        one.on('error', () => undefined) // both ends are closed below
        one.on('close', () => {
          this.#sockets.delete(one)
          socket.destroy()
          upstream.destroy()
        })
      }
      socket.pipe(upstream)
      upstream.pipe(socket)
    })
    server.listen(this.#port, '127.0.0.1')
    await once(server, 'listening')
    this.#port = (server.address() as net.AddressInfo).port
    this.#server = server
  }

  /** All connections end at once, and new ones are refused. */
  cut(): void {
    this.#server?.close()
    this.#server = undefined
    for (const socket of this.#sockets) socket.destroy()
  }
}
