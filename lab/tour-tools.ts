/** What the chapters of the tour do with a running lab: run commands in pods, listen on the wire, read logs. */
import { spawn, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { enterWords } from './isolate.ts'
import { isReady, labPods, type LabPod } from './kinds.ts'
import { readState } from './state.ts'
import type { LabContext, RunningLab } from './up.ts'
import { wait } from './wait.ts'
import type { WirePacket } from './wire.ts'

/** Packets are read a moment after they passed. */
const patienceMs = 3000

export interface CommandResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export class TourTools {
  readonly context: LabContext
  readonly lab: RunningLab
  readonly #children = new Set<ChildProcess>()

  constructor(context: LabContext, lab: RunningLab) {
    this.context = context
    this.lab = lab
  }

  /** The ready pod of an app. */
  async pod(app: string, namespace = 'shop'): Promise<LabPod> {
    const { items } = await this.lab.client.list(labPods, { namespace, labelSelector: `app=${app}` })
    const pod = items.find(
      candidate => isReady(candidate) && candidate.metadata.deletionTimestamp === undefined
    )
    if (pod === undefined) throw new Error(`no pod of ${app} is ready`)
    return pod
  }

  async podIp(app: string): Promise<string> {
    return (await this.pod(app)).status?.podIP ?? ''
  }

  /** Starts a command in an app's container. */
  async start(app: string, command: readonly string[], namespace = 'shop'): Promise<ChildProcess> {
    const { name } = (await this.pod(app, namespace)).metadata
    return this.#spawn(['sh', `/run/lab/enter/${namespace}/${name}/${app}`, ...command])
  }

  async exec(app: string, command: readonly string[], namespace = 'shop'): Promise<CommandResult> {
    const child = await this.start(app, command, namespace)
    child.stdin?.end()
    return finished(child)
  }

  /** Everything that passes a link of the lab's own namespace while it is open. */
  async listen(device: string): Promise<WireListener> {
    const child = this.#spawn(this.#program('lab', 'wire', device))
    const listener = new WireListener(child)
    await listener.ready
    return listener
  }

  /** A program of this project, by node. */
  program(folder: string, name: string, ...args: readonly string[]): string[] {
    return this.#program(folder, name, ...args)
  }

  /** A command of the CLI, as its users run it: outside, through the API server. */
  async cli(...words: readonly string[]): Promise<CommandResult> {
    const [command = '', ...args] = this.#program('cli', 'main', ...words)
    const { environment } = this.context
    const child = spawn(command, args, {
      env: { ...environment, KUBECONFIG: this.lab.kubeconfig },
      stdio: 'pipe'
    })
    this.#children.add(child)
    child.once('close', () => this.#children.delete(child))
    child.stdin.end()
    return finished(child)
  }

  /** The log of an app of the mesh on one node. */
  async meshLog(app: string, node: string): Promise<string> {
    const { client } = this.lab
    const { items } = await client.list(labPods, {
      namespace: 'istio-system',
      labelSelector: `app=${app}`,
      fieldSelector: `spec.nodeName=${node}`
    })
    const [pod] = items
    if (pod === undefined) throw new Error(`no ${app} runs on ${node}`)
    return String(await client.raw('GET', `/api/v1/namespaces/istio-system/pods/${pod.metadata.name}/log`))
  }

  close(): void {
    for (const child of this.#children) child.kill('SIGKILL')
  }

  #program(folder: string, name: string, ...args: readonly string[]): string[] {
    const { projectRoot, nodePath } = this.context
    const file = path.join(projectRoot, folder, `${name}${path.extname(import.meta.filename)}`)
    return [nodePath, '--disable-warning=ExperimentalWarning', file, ...args]
  }

  #spawn(words: readonly string[]): ChildProcess {
    const { isRoot, stateFolder, environment } = this.context
    const inside = readState(stateFolder)?.inside ?? 0
    const [command = '', ...args] = [...enterWords(isRoot, inside), ...words]
    // A group of its own: Ctrl-C ends the tour, and the tour ends these.
    const child = spawn(command, args, { stdio: 'pipe', env: environment, detached: true })
    this.#children.add(child)
    child.once('close', () => this.#children.delete(child))
    child.stdin?.on('error', () => undefined)
    return child
  }
}

export class WireListener {
  readonly packets: WirePacket[] = []
  readonly ready: Promise<void>
  readonly #child: ChildProcess

  constructor(child: ChildProcess) {
    this.#child = child
    this.ready = new Promise((resolve, reject) => {
      createInterface({ input: child.stdout as Readable }).on('line', line => {
        const packet = JSON.parse(line) as WirePacket & { readonly ready?: true }
        if (packet.ready === true) resolve()
        else this.packets.push(packet)
      })
      child.once('exit', code => reject(new Error(`the capture ended with ${code}`)))
    })
  }

  /** Packets between two addresses, either way. */
  between(a: string, b: string): readonly WirePacket[] {
    const host = (address: string): string => address.replace(/:\d+$/, '')
    return this.packets.filter(
      ({ from, to }) => (host(from) === a && host(to) === b) || (host(from) === b && host(to) === a)
    )
  }

  /** Ends once a packet of the kind that is looked for has been read, or when none has come for long. */
  async close(expected: (packet: WirePacket) => boolean): Promise<void> {
    const deadline = Date.now() + patienceMs
    while (!this.packets.some(expected) && Date.now() < deadline) await wait(20)
    const closed = new Promise(resolve => this.#child.once('close', resolve))
    this.#child.stdin?.end()
    await closed
  }
}

export async function finished(child: ChildProcess): Promise<CommandResult> {
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  }
  const code = await new Promise<number>(resolve => child.once('close', status => resolve(status ?? 137)))
  return { code, ...output }
}
