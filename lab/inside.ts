/**
 * The lab's cluster, in namespaces of its own: network, API store, controllers, kubelets, Service addresses and
 * DNS, started in the order in which they need each other.
 */
import { appendFileSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { KubeClient } from '../shared/kube/client.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import { startApiStore, type ApiStore } from './api-store/api-store.ts'
import { cniAdd } from './cni.ts'
import { registerCluster } from './cluster-objects.ts'
import { run } from './command.ts'
import { RootTemplate } from './container-root.ts'
import { allControllers } from './controllers.ts'
import { runControllers } from './controllers/reconciler.ts'
import { askResolver, clusterNames, startDns } from './dns.ts'
import { Kubelet } from './kubelet.ts'
import { labDaemonSets, namespaceOf } from './kinds.ts'
import { meshNamespace } from './container-program.ts'
import { fabric, Network, type LabNode } from './nodes.ts'
import { podRuntime } from './pod-runtime.ts'
import type { CommandMode } from './run-commands.ts'
import { ServiceNat } from './service-nat.ts'
import { configMaps, secrets, services } from '../shared/kube/core-api.ts'

export interface InsideOptions {
  readonly nodes: number
  readonly runCommands: CommandMode
  readonly projectRoot: string
  readonly nodePath: string
  /** Name servers for names elsewhere; none without a way outside. */
  readonly resolvers: readonly string[]
  /** Descriptor that listens on the host's loopback address. */
  readonly listener: number
}

export interface Inside {
  readonly store: ApiStore
  /** Ends every pod, then the store; containers have `graceMs` to end by themselves. */
  stop(graceMs: number): Promise<void>
}

export const apiPort = 6443
const folder = '/run/lab'
const agentFolder = '/var/run/istio-cni'

export async function startInside(options: InsideOptions, logger: Logger): Promise<Inside> {
  // The machine's own /run, with its sockets, stays out of sight; this one goes with the lab.
  await run('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run'])
  mkdirSync(folder, { recursive: true })
  const [network, template] = await Promise.all([
    Network.create(options.nodes),
    RootTemplate.create(path.join(folder, 'template'), [options.projectRoot, path.dirname(options.nodePath)])
  ])
  const stopping = new AbortController()
  const { signal } = stopping
  let kubelet: Kubelet | undefined
  const store = await startApiStore({
    listeners: [{ fd: options.listener }, { host: fabric.ipv4, port: apiPort }],
    names: [fabric.ipv4],
    advertise: { ip: fabric.ipv4, port: apiPort },
    pods: podRuntime((namespace, pod) => kubelet?.worker(namespace, pod)),
    logger
  })
  registerCluster(store.objects, network.nodes)
  kubelet = makeKubelet(options, { store, network, template, logger })
  kubelet.start()
  runControllers(store.objects, allControllers({ bind: binder(store), caPem: store.caPem }), logger, signal)
  new ServiceNat(store.objects, network.nodes, logger).start(signal)
  const [resolver] = options.resolvers
  const dns = await startDns({
    names: clusterNames(store.objects),
    address: fabric.ipv4,
    port: 53,
    ...(resolver === undefined ? {} : { forward: message => askResolver(resolver, message) })
  })
  return {
    store,
    stop: async graceMs => {
      stopping.abort()
      await kubelet.stop(graceMs)
      dns.close()
      await store.close()
    }
  }
}

interface ClusterParts {
  readonly store: ApiStore
  readonly network: Network
  readonly template: RootTemplate
  readonly logger: Logger
}

function makeKubelet(options: InsideOptions, { store, network, template, logger }: ClusterParts): Kubelet {
  const { objects } = store
  const hostPath = (node: string, hostFolder: string, type = ''): string => {
    // The kernel's own, and the namespaces of pods, are the lab's; all else is the node's alone.
    if (/^\/proc(\/|$)/.test(hostFolder)) return hostFolder
    if (hostFolder === '/var/run/netns') return '/run/netns'
    const at = path.join(folder, 'nodes', node, path.normalize(hostFolder))
    if (type === 'FileOrCreate') {
      mkdirSync(path.dirname(at), { recursive: true })
      appendFileSync(at, '')
    } else mkdirSync(at, { recursive: true })
    return at
  }
  return new Kubelet(
    {
      objects,
      network,
      template,
      folder,
      program: {
        projectRoot: options.projectRoot,
        nodePath: options.nodePath,
        runCommands: options.runCommands,
        extension: path.extname(import.meta.filename)
      },
      sources: {
        configMap: (namespace, name) => objects.get(configMaps, { namespace, name }),
        secret: (namespace, name) => objects.get(secrets, { namespace, name }),
        services: namespace => objects.list(services, { namespace }),
        token: (pod, audience, expirationSeconds) =>
          store.issueToken(namespaceOf(pod), pod.spec?.serviceAccountName ?? 'default', {
            ...(audience === undefined ? {} : { audiences: [audience] }),
            expirationSeconds,
            pod: pod.metadata.name
          }),
        hostPath
      },
      cniAdd: async (node: LabNode, pod, { netns, ips }) => {
        const agent = { namespace: meshNamespace, name: 'istio-cni-node' }
        if (objects.get(labDaemonSets, agent) === undefined) return
        const socket = path.join(hostPath(node.name, agentFolder), 'pluginevent.sock')
        await cniAdd(socket, { ...pod, netns, ips })
      }
    },
    logger
  )
}

/** Binds as the scheduler of a cluster does, through the API. */
function binder(store: ApiStore): (pod: { namespace: string; name: string }, node: string) => Promise<void> {
  const client = new KubeClient({
    server: `https://${fabric.ipv4}:${apiPort}`,
    context: 'lab',
    namespace: 'default',
    tls: { ca: store.caPem, rejectUnauthorized: true },
    authorization: async () => `Bearer ${store.adminToken}`
  })
  return async ({ namespace, name }, node) => {
    await client.raw('POST', `/api/v1/namespaces/${namespace}/pods/${name}/binding`, {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { namespace, name },
      target: { apiVersion: 'v1', kind: 'Node', name: node }
    })
  }
}
