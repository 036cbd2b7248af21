/** Puts the parts of a row in place: ours from our manifests, Istio's by the scripts that bring it. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { partOf, readManifest, type Part } from '../../cli/install/manifest.ts'
import type { KubeObject } from '../../shared/kube/object.ts'
import type { Cluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'

export type Ztunnel = 'ours' | 'Rust'

export interface Row {
  readonly controlPlane: 'istiod' | 'ours'
  readonly nodeAgent: 'istio-cni' | 'ours'
  readonly ztunnel: { readonly node1: Ztunnel; readonly node2: Ztunnel }
}

/** Certificates live this long, so that they are replaced while a row runs; Rust's half-life counts what is backdated. */
const secretTtl = { ours: '40s', Rust: '150s' }
const system = 'istio-system'
const execute = promisify(execFile)

/** Changes from row to row only what differs. */
export class Parts {
  readonly #cluster: Cluster
  #row: Row | undefined
  readonly #objects = readManifest()

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  /** Applications must be gone before: what carries them is taken away. */
  async arrange(row: Row): Promise<void> {
    const before = this.#row
    this.#row = row
    if (before !== undefined) {
      await this.#removeZtunnels()
      if (before.nodeAgent !== row.nodeAgent) await this.#removeNodeAgent(before.nodeAgent)
      await this.#gone('pod', '-l', 'app=ztunnel')
    }
    if (before?.controlPlane !== row.controlPlane) await this.#bringControlPlane(row.controlPlane)
    await this.#bringNodeAgent(row, before?.nodeAgent)
    await this.#bringZtunnels(row)
    await this.#system('rollout', 'status', 'daemonset', '--timeout=60s')
  }

  /** Ends the processes outside the cluster. */
  async end(): Promise<void> {
    if (this.#row?.controlPlane === 'istiod') await this.#script('istiod', 'down')
  }

  async #bringControlPlane(kind: Row['controlPlane']): Promise<void> {
    if (kind === 'istiod') {
      await this.#script('istiod', 'up')
      return
    }
    await this.#script('istiod', 'down').catch(() => undefined) // none ran before the first row
    await this.#system('delete', 'service,endpointslice', 'istiod', '--ignore-not-found')
    await this.#apply('control-plane', object =>
      withEnv(object, { CA_TRUSTED_NODE_ACCOUNTS: `${system}/ztunnel,${system}/ztunnel-rust` })
    )
    await this.#system('rollout', 'status', 'deployment/istiod', '--timeout=120s')
    await eventually(
      'the trust bundle is there',
      async () => (await this.#system('get', 'configmap', 'istio-ca-root-cert', '-o', 'name')) !== ''
    )
  }

  async #bringNodeAgent({ nodeAgent, ztunnel }: Row, before: Row['nodeAgent'] | undefined): Promise<void> {
    if (nodeAgent === 'ours') {
      // As `underpass install --replace node-agent` sets it beside Istio's ztunnel.
      const beside = Object.values(ztunnel).includes('Rust')
      const variables = { UNDERPASS_CAPTURE_MODE: beside ? 'redirect' : 'auto' }
      await this.#apply('node-agent', object => withEnv(object, variables))
    } else if (before !== nodeAgent) await this.#script('ambient', 'up', '--no-istiod', 'cni')
  }

  async #removeNodeAgent(kind: Row['nodeAgent']): Promise<void> {
    if (kind === 'ours') await this.#delete('node-agent')
    else await this.#helm('uninstall', 'istio-cni', '--ignore-not-found')
    await this.#gone('pod', '-l', 'k8s-app=istio-cni-node')
  }

  async #bringZtunnels({ ztunnel }: Row): Promise<void> {
    const nodes = ['node1', 'node2'] as const
    const [ours, rust] = (['ours', 'Rust'] as const).map(kind => nodes.filter(node => ztunnel[node] === kind))
    if (rust !== undefined && rust.length > 0) {
      const [node] = rust
      const alone = rust.length === 1 && node !== undefined ? ['--node', node] : []
      const name = alone.length > 0 ? 'ztunnel-rust' : 'ztunnel'
      await this.#script('ambient', 'up', '--no-istiod', ...alone, 'ztunnel')
      await this.#system('set', 'env', `daemonset/${name}`, `SECRET_TTL=${secretTtl.Rust}`)
    }
    if (ours !== undefined && ours.length > 0) {
      const [node] = ours
      await this.#apply('ztunnel', object => {
        const changed = withEnv(object, { SECRET_TTL: secretTtl.ours })
        return ours.length === 1 && node !== undefined ? onNode(changed, node) : changed
      })
    }
  }

  async #removeZtunnels(): Promise<void> {
    await this.#helm('uninstall', 'ztunnel', 'ztunnel-rust', '--ignore-not-found')
    await this.#delete('ztunnel')
  }

  async #apply(part: Part, change: (object: KubeObject) => KubeObject): Promise<void> {
    await this.#kubectl(['apply', '-f', '-'], listOf(this.#of(part).map(change)))
  }

  async #delete(part: Part): Promise<void> {
    await this.#kubectl(['delete', '--ignore-not-found', '--wait=false', '-f', '-'], listOf(this.#of(part)))
  }

  async #gone(...what: readonly string[]): Promise<void> {
    await this.#system('wait', '--for=delete', '--timeout=90s', ...what)
  }

  #of(part: Part): readonly KubeObject[] {
    // What all parts share comes with the control plane, and stays.
    const own = (object: KubeObject): boolean =>
      [part, ...(part === 'control-plane' ? ['base'] : [])].includes(partOf(object))
    return this.#objects.filter(own)
  }

  async #system(...args: readonly string[]): Promise<string> {
    return this.#kubectl(['-n', system, ...args])
  }

  async #kubectl(args: readonly string[], input?: string): Promise<string> {
    return this.#cluster.kubectl(args, input)
  }

  async #helm(...args: readonly string[]): Promise<void> {
    const helm = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'helm')
    await execute(helm, ['--kubeconfig', this.#cluster.kubeconfig, '-n', system, ...args])
  }

  async #script(name: 'istiod' | 'ambient', ...args: readonly string[]): Promise<void> {
    const folder = process.env['UNDERPASS_CLUSTER'] ?? ''
    const env = { ...process.env, PEERS: process.env['UNDERPASS_PEERS'], NODE_OPTIONS: '' }
    await execute(path.join(folder, name), args, { env, maxBuffer: 16 << 20, timeout: 180_000 })
  }
}

interface PodTemplate {
  readonly spec?: {
    readonly template?: {
      readonly spec?: {
        readonly nodeSelector?: Readonly<Record<string, string>>
        readonly containers?: readonly { readonly env?: readonly { readonly name: string }[] }[]
      }
    }
  }
}

/** The same object, its first container with these variables; any other object unchanged. */
function withEnv(object: KubeObject & PodTemplate, variables: Readonly<Record<string, string>>): KubeObject {
  const template = object.spec?.template
  const [first, ...others] = template?.spec?.containers ?? []
  if (first === undefined) return object
  const kept = (first.env ?? []).filter(({ name }) => variables[name] === undefined)
  const env = [...kept, ...Object.entries(variables).map(([name, value]) => ({ name, value }))]
  const spec = { ...template?.spec, containers: [{ ...first, env }, ...others] }
  return { ...object, spec: { ...object.spec, template: { ...template, spec } } } as KubeObject
}

function onNode(object: KubeObject & PodTemplate, node: string): KubeObject {
  const template = object.spec?.template
  if (template === undefined) return object
  const nodeSelector = { ...template.spec?.nodeSelector, 'kubernetes.io/hostname': node }
  const spec = { ...template.spec, nodeSelector }
  return { ...object, spec: { ...object.spec, template: { ...template, spec } } } as KubeObject
}

function listOf(items: readonly KubeObject[]): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items })
}
