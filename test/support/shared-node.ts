/**
 * One node with two pods, `client` and `server`, each in its own namespace with the real capture rules, and a
 * node agent played by the test: it tells the node's ztunnel over ZDS which pods to carry. Needs root.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { applyCapture, type CaptureMethod } from '../../daemonset/rules/capture.ts'
import type { CaptureMode } from '../../daemonset/rules/desired.ts'
import { ip, type Ip } from '../../shared/net/address.ts'
import { Poller } from '../../shared/net/poll.ts'
import { decodeAck, decodeHello, encodeRequest, type ZdsRequest } from '../../shared/zds/messages.ts'
import { SeqpacketListener, type ZdsConnection } from '../../shared/zds/seqpacket.ts'
import { stringifyYaml } from '../../shared/kube/yaml.ts'
import { joinNamespaces, makeNamespace, type Namespace } from './namespaces.ts'
import { startProxy, type Proxy, type ProxyOptions, type TestNode } from './two-nodes.ts'

interface Teardown {
  teardown(fn: () => unknown): void
}

export interface TestPod extends TestNode {
  readonly uid: string
  readonly namespace: Namespace
}

export interface SharedNode {
  readonly node: Namespace
  readonly nodeIp: Ip
  readonly client: TestPod
  readonly server: TestPod
  readonly agent: FakeAgent
  /** Starts a ztunnel in shared mode; resolves when it is ready, which needs the agent's snapshot. */
  start(
    options?: Partial<ProxyOptions> & {
      readonly policies?: readonly object[]
      readonly workloads?: readonly object[]
    }
  ): Promise<Proxy>
}

/** The node agent's half of ZDS. */
export interface FakeAgent {
  /** Pods that are sent to each ztunnel that connects, before the snapshot is complete. */
  readonly pods: Map<string, { name: string; netns: number }>
  /** One message to the ztunnel that connected last; its error, undefined when it accepted. */
  ask(request: ZdsRequest, netns?: number): Promise<string | undefined>
  /** What ztunnels answered to the messages of their snapshots. */
  readonly answers: (string | undefined)[]
}

export const proxyMark = 0x539

export async function sharedNode(t: Teardown, mode: CaptureMode = 'tproxy'): Promise<SharedNode> {
  const node = makeNamespace(t, 'uph7')
  node.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
  const [client, server] = [addPod(t, node, 'client', 1), addPod(t, node, 'server', 2)]
  const method: CaptureMethod = { backend: mode === 'tproxy' ? 'nft' : 'iptables', mode }
  const rules = {
    mode,
    inbound: true,
    dns: false,
    virtualInterfaces: [],
    probeAddresses: [ip('169.254.7.127'), ip('fd16:9254:7127:1337:ffff:ffff:ffff:ffff')],
    leakGuard: true
  }
  for (const pod of [client, server]) await applyCapture(pod.netnsFd, method, rules)
  const folder = mkdtempSync(path.join(tmpdir(), 'uph7-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const socket = path.join(folder, 'zds.sock')
  const agent = await startAgent(t, socket)
  for (const pod of [client, server])
    agent.pods.set(pod.uid, { name: pod.name === 'a' ? 'client' : 'server', netns: pod.netnsFd })
  const nodeIp = ip('10.79.1.1')
  return {
    node,
    nodeIp,
    client,
    server,
    agent,
    start: ({ policies = [], workloads = [], ...options } = {}) =>
      startProxy(
        t,
        { name: 'a', netns: node.name, netnsFd: node.fd, v4: nodeIp, v6: ip('fd79:1::1') },
        {
          kind: 'underpass',
          workload: '',
          localConfig: stringifyYaml({
            workloads: [record('client', client), record('server', server), ...workloads],
            services: [],
            policies
          }),
          ...options,
          env: {
            PROXY_MODE: 'shared',
            INPOD_UDS: socket,
            NODE_NAME: 'node-1',
            ENABLE_ORIG_SRC: 'true',
            ...options.env
          }
        }
      )
  }
}

function addPod(t: Teardown, node: Namespace, name: 'client' | 'server', number: number): TestPod {
  const namespace = makeNamespace(t, 'uph7')
  const [v4, v6] = [`10.79.${number}.2`, `fd79:${number}::2`]
  joinNamespaces(
    { namespace, device: 'eth0', addresses: [`${v4}/24`, `${v6}/64`] },
    { namespace: node, device: `veth${number}`, addresses: [`10.79.${number}.1/24`, `fd79:${number}::1/64`] }
  )
  namespace.run('ip', 'route', 'add', 'default', 'via', `10.79.${number}.1`)
  namespace.run('ip', '-6', 'route', 'add', 'default', 'via', `fd79:${number}::1`)
  return {
    name: name === 'client' ? 'a' : 'b',
    uid: `uid-${name}`,
    namespace,
    netns: namespace.name,
    netnsFd: namespace.fd,
    v4: ip(v4),
    v6: ip(v6)
  }
}

function record(name: string, { v4, v6 }: TestPod): object {
  return {
    uid: `Kubernetes//Pod/shop/${name}`,
    name,
    namespace: 'shop',
    serviceAccount: name,
    trustDomain: 'cluster.local',
    workloadIps: [v4, v6],
    protocol: 'HBONE',
    node: 'node-1',
    network: '',
    clusterId: 'Kubernetes',
    services: {}
  }
}

async function startAgent(t: Teardown, socket: string): Promise<FakeAgent> {
  const poller = new Poller()
  const pods: FakeAgent['pods'] = new Map()
  const answers: (string | undefined)[] = []
  const open = new Set<ZdsConnection>()
  let current: { connection: ZdsConnection; waiting: ((answer: string | undefined) => void)[] } | undefined
  const send = (
    to: NonNullable<typeof current>,
    request: ZdsRequest,
    netns?: number
  ): Promise<string | undefined> =>
    new Promise(resolve => {
      to.waiting.push(resolve)
      to.connection.send(encodeRequest(request), netns)
    })
  const listener = new SeqpacketListener(poller, socket, connection => {
    const peer = { connection, waiting: [] as ((answer: string | undefined) => void)[] }
    open.add(connection)
    let greeted = false
    connection.start({
      onMessage: bytes => {
        if (greeted) {
          peer.waiting.shift()?.(decodeAck(bytes))
          return
        }
        decodeHello(bytes)
        greeted = true
        current = peer
        void (async () => {
          for (const [uid, { name, netns }] of pods) {
            const workload = { name, namespace: 'shop', serviceAccount: name }
            answers.push(await send(peer, { kind: 'add', uid, workload }, netns))
          }
          answers.push(await send(peer, { kind: 'snapshot-sent' }))
        })()
      },
      onClose: () => {
        open.delete(connection)
        for (const resolve of peer.waiting) resolve('the connection was closed')
      }
    })
  })
  t.teardown(async () => {
    for (const connection of open) connection.close()
    listener.close()
    await poller.close()
  })
  return {
    pods,
    answers,
    ask: (request, netns) => {
      if (current === undefined) throw new Error('no ztunnel is connected')
      return send(current, request, netns)
    }
  }
}
