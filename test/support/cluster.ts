/** A disposable Kubernetes with our image on its nodes. See test/cluster/README.md. */
import { execFile, type PromiseWithChild, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/** The reason why these tests cannot run here, or false. */
export function clusterMissing(): string | false {
  const { UNDERPASS_CLUSTER: cluster, UNDERPASS_PEERS: peers } = process.env
  if (cluster === undefined || peers === undefined) return 'needs UNDERPASS_CLUSTER and UNDERPASS_PEERS'
  if (process.getuid?.() !== 0) return 'needs root'
  return existsSync(path.join(cluster, 'cluster')) ? false : `no program cluster in ${cluster}`
}

export interface Cluster {
  readonly kubeconfig: string
  /** Runs kubectl; resolves to what it printed, rejects with its error text. */
  readonly kubectl: (args: readonly string[], input?: string) => Promise<string>
  /**
   * Follows the log of a pod (`namespace`, `name`); resolves once lines come, to all that it says up to its end.
   * Whoever wants the last words of a pod must follow it before it is told to go.
   */
  readonly followLog: (namespace: string, name: string) => Promise<{ readonly whole: Promise<string> }>
  /** Imports an image archive on all nodes. */
  readonly importImage: (archive: string) => Promise<void>
  /** Makes an image of a program that needs no other file, by the name under which manifests ask for it. */
  readonly importProgram: (program: string, image: string) => Promise<void>
  /** Runs a shell script in the namespaces of a node; resolves to what it printed. */
  readonly onNode: (node: string, script: string) => Promise<string>
  /** Gives every Service of type LoadBalancer an address that this machine reaches, from now on. */
  readonly giveLoadBalancers: () => Promise<void>
  readonly down: () => void
}

export async function startCluster(nodes = 2): Promise<Cluster> {
  const tools = process.env['UNDERPASS_CLUSTER'] ?? ''
  const peers = process.env['UNDERPASS_PEERS'] ?? ''
  const env = { ...process.env, PEERS: peers, NODE_OPTIONS: '', NODE_EXTRA_CA_CERTS: '' }
  const cluster = (...args: string[]): Promise<{ stdout: string }> =>
    execute(path.join(tools, 'cluster'), args, { env, maxBuffer: 64 << 20 })
  const { stdout } = await cluster('up', String(nodes))
  const kubeconfig = /^KUBECONFIG=(.*)$/m.exec(stdout)?.[1]
  if (kubeconfig === undefined) throw new Error(`cluster up printed no KUBECONFIG: ${stdout}`)
  await cluster('echo')
  const kubectl = (args: readonly string[]): PromiseWithChild<{ stdout: string }> =>
    execute(path.join(peers, 'kubectl'), ['--kubeconfig', kubeconfig, ...args], {
      env,
      maxBuffer: 64 << 20,
      timeout: 120_000
    })
  return {
    kubeconfig,
    async kubectl(args, input) {
      const running = kubectl(args)
      running.child.stdin?.end(input ?? '')
      return (await running).stdout
    },
    async followLog(namespace, name) {
      const running = kubectl(['-n', namespace, 'logs', '-f', name])
      const whole = running.then(({ stdout }) => stdout)
      const { stdout } = running.child
      if (stdout !== null) await Promise.race([once(stdout, 'data'), whole])
      return { whole }
    },
    async importImage(archive) {
      await cluster('import', archive)
    },
    async importProgram(program, image) {
      const folder = mkdtempSync(path.join(tmpdir(), 'underpass-image-'))
      try {
        const archive = path.join(folder, 'image.tar')
        const [name = ''] = path.basename(image).split(':')
        await cluster('image', archive, image, `/${name}`, `${program}=/${name}`)
        await cluster('import', archive)
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
    async onNode(node, script) {
      return (await cluster('enter', node, 'sh', '-c', script)).stdout
    },
    async giveLoadBalancers() {
      await cluster('lb')
    },
    down() {
      spawnSync(path.join(tools, 'cluster'), ['down'], { env })
    }
  }
}
