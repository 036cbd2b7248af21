/** A pod that is reached by a port of its node, and who reaches it. */
import type { Cluster } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'

const port = 18_080

/** Who answered to each caller, and which client the application saw; or that it was refused. */
export type Reached = Readonly<Record<'its own node' | 'the other node' | 'an enrolled pod', string>>

const edge = `
apiVersion: v1
kind: Namespace
metadata: {name: edge}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: edge}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 0
  containers:
    - name: app
      image: cluster.local/echo:1
      imagePullPolicy: Never
      args: [--port, "8080"]
      ports: [{containerPort: 8080, hostPort: ${port}}]`

const strict = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: edge}
spec: {mtls: {mode: STRICT}}`

/** A pod of its own namespace, outside of the mesh at first. */
export class HostPortPod {
  readonly #cluster: Cluster
  /** Addresses of the nodes, by name. */
  readonly #nodes: ReadonlyMap<string, string>

  private constructor(cluster: Cluster, nodes: ReadonlyMap<string, string>) {
    this.#cluster = cluster
    this.#nodes = nodes
  }

  static async start(cluster: Cluster): Promise<HostPortPod> {
    const { kubectl } = cluster
    await kubectl(['apply', '-f', '-'], edge)
    await kubectl(['-n', 'edge', 'wait', '--for=condition=Ready', 'pod', 'web', '--timeout=60s'])
    const address = '.status.addresses[?(@.type=="InternalIP")].address'
    const format = `jsonpath={range .items[*]}{.metadata.name}={${address}}{"\\n"}{end}`
    const lines = (await kubectl(['get', 'nodes', '-o', format])).trim().split('\n')
    return new HostPortPod(cluster, new Map(lines.map(line => line.split('=') as [string, string])))
  }

  async enrol(): Promise<void> {
    const { kubectl } = this.#cluster
    await kubectl(['label', 'namespace', 'edge', 'istio.io/dataplane-mode=ambient'])
    const annotation = 'jsonpath={.metadata.annotations.ambient\\.istio\\.io/redirection}'
    await eventually('the pod is enrolled', async () => {
      return (await kubectl(['-n', 'edge', 'get', 'pod', 'web', '-o', annotation])) === 'enabled'
    })
  }

  async makeStrict(): Promise<void> {
    await this.#cluster.kubectl(['apply', '-f', '-'], strict)
  }

  /** Clients are told by the names of their nodes, all others as `another`. */
  async reached(): Promise<Reached> {
    const { kubectl, onNode } = this.#cluster
    const url = `http://${this.#nodes.get('node1')}:${port}/`
    const script = `fetch("${url}").then(answer => answer.text()).then(console.log)`
    const sees = async (answer: Promise<string>): Promise<string> => {
      const text = await answer.catch(() => undefined)
      if (text === undefined) return 'refused'
      const client = /^IP=(.*)$/m.exec(text)?.[1]?.trim()
      const node = [...this.#nodes].find(([, address]) => address === client)
      return `answered, sees ${node?.[0] ?? 'another'}`
    }
    return {
      'its own node': await sees(onNode('node1', `curl -sS --max-time 10 ${url}`)),
      'the other node': await sees(onNode('node2', `curl -sS --max-time 10 ${url}`)),
      'an enrolled pod': await sees(kubectl(['-n', 'shop', 'exec', 'remote', '--', 'node', '-e', script]))
    }
  }
}
