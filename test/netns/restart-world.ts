/**
 * Two nodes with a pod each, enrolled by two node agents; ztunnels that follow one another; and clients in both pods
 * that never stop opening connections to the other one.
 */
import type { Test } from 'tap'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { CaptureMethod } from '../../daemonset/rules/capture.ts'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { namespaces, pods, serviceAccounts } from '../../shared/kube/core-api.ts'
import { ip, type Ip, type SocketAddress } from '../../shared/net/address.ts'
import { eventually } from '../support/eventually.ts'
import { joinNamespaces, makeNamespace, type Namespace } from '../support/namespaces.ts'
import { startProxy, type Proxy } from '../support/two-nodes.ts'
import { Agent, annotation, clientOf, label, layOutPlaces, podOf } from './agent-world.ts'
import { serveLines } from './capture-world.ts'
import { SteadyLoad } from './steady-load.ts'

const prefix = 'uprs'

export interface RestartPod {
  readonly name: string
  readonly namespace: Namespace
  readonly v4: Ip
  readonly v6: Ip
}

export interface RestartNode {
  readonly name: string
  readonly namespace: Namespace
  readonly pod: RestartPod
  readonly agent: Agent
  /** Starts a ztunnel beside those that run; resolves when it is ready to take pods' connections. */
  startZtunnel(env?: Readonly<Record<string, string>>): Promise<Proxy>
}

export interface RestartWorld {
  readonly nodes: readonly [RestartNode, RestartNode]
  readonly kube: KubeClient
  /** Labels the namespace and waits until both pods are captured. Each node needs a ztunnel. */
  enrol(): Promise<void>
}

/** Both pods serve, and open connections to each other without end. */
export interface Traffic {
  /** From the first node's pod to the second's, and back. */
  readonly loads: readonly [SteadyLoad, SteadyLoad]
  /** Where a node's pod serves, by both families. */
  readonly addresses: (node: RestartNode) => readonly SocketAddress[]
  /** Waits for as many answers, both ways, as there are connections begun in a second. */
  flowing(): Promise<void>
  /** Begins no more connections, and says of each direction what became of them. */
  stop(): Promise<void>
}

export async function startTraffic(t: Test, nodes: RestartWorld['nodes'], rate: number): Promise<Traffic> {
  const ports = new Map<RestartNode, number>()
  for (const node of nodes) ports.set(node, await serveLines(t, node.pod.namespace, node.name))
  const addresses = (node: RestartNode): readonly SocketAddress[] =>
    [node.pod.v4, node.pod.v6].map(ip => ({ ip, port: ports.get(node) ?? 0 }))
  const [one, two] = nodes
  const load = (from: RestartNode, to: RestartNode): SteadyLoad =>
    new SteadyLoad({ from: from.pod.namespace, to: addresses(to), rate })
  const loads = [load(one, two), load(two, one)] as const
  t.teardown(async () => Promise.all(loads.map(each => each.stop())))
  return {
    loads,
    addresses,
    async flowing() {
      await Promise.all(loads.map(each => each.answers(rate)))
    },
    async stop() {
      await Promise.all(loads.map(each => each.stop()))
      for (const each of loads) t.comment(each.summary())
    }
  }
}

export interface RestartOptions {
  readonly method: CaptureMethod
  readonly workers: number
  /** Time that connections get at the end of a ztunnel. */
  readonly deadline: string
}

export async function restartWorld(t: Test, options: RestartOptions): Promise<RestartWorld> {
  const folder = mkdtempSync(path.join(tmpdir(), `${prefix}-`))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const places = [1, 2].map(number => ({ number, namespace: makeNamespace(t, prefix) }))
  const [first, second] = places as [(typeof places)[0], (typeof places)[0]]
  joinNamespaces(
    { namespace: first.namespace, device: 'cable', addresses: ['10.80.0.1/24', 'fd80::1/64'] },
    { namespace: second.namespace, device: 'cable', addresses: ['10.80.0.2/24', 'fd80::2/64'] }
  )
  const podOn = new Map(places.map(place => [place.number, addPod(t, place)]))
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const kube = await clientOf(store, folder)
  await kube.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
  const localConfig = meshOf([...podOn])
  const start = async ({ number, namespace }: (typeof places)[0]): Promise<RestartNode> => {
    const name = `node-${number}`
    const pod = podOn.get(number) as RestartPod
    await createPod(kube, pod, name)
    const own = path.join(folder, name)
    mkdirSync(own)
    const { environment } = layOutPlaces(own, { pods: [pod.namespace], node: namespace })
    const agent = new Agent(t, {
      folder: own,
      environment: {
        ...environment,
        NODE_NAME: name,
        KUBECONFIG: path.join(folder, 'kubeconfig'),
        UNDERPASS_CAPTURE_BACKEND: options.method.backend,
        UNDERPASS_CAPTURE_MODE: options.method.mode,
        UNDERPASS_VERIFY_INTERVAL: '1h' // a test may change settings that the agent would repair
      }
    })
    await agent.start()
    let ztunnels = 0
    return {
      name,
      namespace,
      pod,
      agent,
      async startZtunnel(env = {}) {
        ztunnels += 1
        // Each in a network namespace of its own, as the pods of a DaemonSet are.
        const home = makeNamespace(t, `${prefix}-z${number}`)
        const at = { name: 'a', netns: home.name, netnsFd: home.fd, v4: pod.v4, v6: pod.v6 } as const
        return startProxy(t, at, {
          kind: 'underpass',
          workload: '',
          localConfig,
          workers: options.workers,
          env: {
            PROXY_MODE: 'shared',
            INPOD_UDS: path.join(own, 'zds.sock'),
            NODE_NAME: name,
            POD_NAME: `ztunnel-${ztunnels}`,
            ENABLE_ORIG_SRC: 'true',
            CONNECTION_TERMINATION_DEADLINE: options.deadline,
            ...env
          }
        })
      }
    }
  }
  return {
    nodes: [await start(first), await start(second)],
    kube,
    async enrol() {
      await label(kube, 'ambient')
      for (const { name } of podOn.values()) {
        await eventually(`${name} is enrolled`, async () => (await annotation(kube, name)) === 'enabled')
      }
    }
  }
}

/** A pod of the node, with a route to those of the other one. */
function addPod(t: Test, { number, namespace: node }: { number: number; namespace: Namespace }): RestartPod {
  node.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
  const namespace = makeNamespace(t, prefix)
  const [v4, v6] = [`10.80.${number}.2`, `fd80:${number}::2`]
  joinNamespaces(
    { namespace, device: 'eth0', addresses: [`${v4}/24`, `${v6}/64`] },
    { namespace: node, device: 'veth0', addresses: [`10.80.${number}.1/24`, `fd80:${number}::1/64`] }
  )
  namespace.run('ip', 'route', 'add', 'default', 'via', `10.80.${number}.1`)
  namespace.run('ip', '-6', 'route', 'add', 'default', 'via', `fd80:${number}::1`)
  const other = 3 - number
  node.run('ip', 'route', 'add', `10.80.${other}.0/24`, 'via', `10.80.0.${other}`)
  node.run('ip', '-6', 'route', 'add', `fd80:${other}::/64`, 'via', `fd80::${other}`)
  return { name: `pod-${number}`, namespace, v4: ip(v4), v6: ip(v6) }
}

async function createPod(kube: KubeClient, { name, v4, v6 }: RestartPod, nodeName: string): Promise<void> {
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: 'shop' } }
  await kube.create(serviceAccounts, account)
  const object = podOf(name, [v4, v6], { serviceAccount: name })
  await kube.create(pods, { ...object, spec: { ...object.spec, nodeName } })
  const patch = { status: object.status }
  await kube.patch(pods, { namespace: 'shop', name }, patch, { kind: 'merge', subresource: 'status' })
}

function meshOf(all: readonly (readonly [number, RestartPod])[]): string {
  const workloads = all.map(([number, { name, v4, v6 }]) => ({
    uid: `Kubernetes//Pod/shop/${name}`,
    name,
    namespace: 'shop',
    serviceAccount: name,
    workloadIps: [v4, v6],
    protocol: 'HBONE',
    node: `node-${number}`,
    network: '',
    trustDomain: 'cluster.local',
    services: {}
  }))
  return JSON.stringify({ workloads, services: [], policies: [] })
}
