/**
 * Two pods of one node, enrolled by the node agent and carried by a ztunnel, ours or Istio's: the claims that hold
 * for every pair of programs and every way of capturing.
 */
import type { Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import type { CaptureMethod } from '../../daemonset/rules/capture.ts'
import { namespaces, pods, serviceAccounts } from '../../shared/kube/core-api.ts'
import { ip, type Ip } from '../../shared/net/address.ts'
import { eventually } from '../support/eventually.ts'
import { joinNamespaces, makeNamespace, type Namespace } from '../support/namespaces.ts'
import { startProxy, type Proxy } from '../support/two-nodes.ts'
import { Agent, annotation, clientOf, label, layOutPlaces, podOf } from './agent-world.ts'
import { askOnce, Client, serveLines } from './capture-world.ts'

export interface PairOptions {
  readonly method: CaptureMethod
  readonly ztunnel: 'underpass' | 'rust'
}

interface PairPod {
  readonly name: 'client' | 'server'
  readonly namespace: Namespace
  readonly v4: Ip
  readonly v6: Ip
}

export async function provePair(t: Test, { method, ztunnel }: PairOptions): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const node = makeNamespace(t, 'uph3')
  node.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
  const [client, server] = [addPod(t, node, 'client', 1), addPod(t, node, 'server', 2)]
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const kube = await clientOf(store, folder)
  await kube.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
  for (const pod of [client, server]) {
    const account = {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: pod.name, namespace: 'shop' }
    }
    await kube.create(serviceAccounts, account)
    const object = podOf(pod.name, [pod.v4, pod.v6], { serviceAccount: pod.name })
    await kube.create(pods, object)
    const patch = { status: object.status }
    await kube.patch(pods, { namespace: 'shop', name: pod.name }, patch, {
      kind: 'merge',
      subresource: 'status'
    })
  }
  const { environment } = layOutPlaces(folder, { pods: [client.namespace, server.namespace], node })
  const agent = new Agent(t, {
    folder,
    environment: {
      ...environment,
      UNDERPASS_CAPTURE_BACKEND: method.backend,
      UNDERPASS_CAPTURE_MODE: method.mode
    }
  })
  await agent.start()
  const port = await serveLines(t, server.namespace, 'server')
  const live = await Client.connect(client.namespace, { ip: server.v4, port })
  await live.ask('before')

  const start = async (): Promise<Proxy> =>
    startProxy(
      t,
      { name: 'a', netns: node.name, netnsFd: node.fd, v4: client.v4, v6: client.v6 },
      {
        kind: ztunnel,
        workload: '',
        localConfig: localConfig([client, server]),
        env: {
          PROXY_MODE: 'shared',
          INPOD_UDS: path.join(folder, 'zds.sock'),
          NODE_NAME: 'node-1',
          ENABLE_ORIG_SRC: 'true'
        }
      }
    )
  await label(kube, 'ambient')
  const first = await start()
  t.teardown(() => console.error(first.log.filter(l => !l.includes('config')).join('\n')))
  const enrolled = async (): Promise<void> => {
    for (const { name } of [client, server]) {
      await eventually(`${name} is enrolled`, async () => (await annotation(kube, name)) === 'enabled')
    }
  }
  await enrolled()

  for (const version of ['v4', 'v6'] as const) {
    await t.test(`${version}: identities at both ends, the client's address at the application`, async t => {
      const before = first.log.length
      t.equal(
        await askOnce(client.namespace, { ip: server[version], port }),
        `server saw ${client[version]}: hello`
      )
      const access = (direction: string): RegExp =>
        new RegExp(
          `connection complete.*src.identity="spiffe://cluster.local/ns/shop/sa/client".*dst.identity="spiffe://cluster.local/ns/shop/sa/server".*direction="${direction}"`
        )
      for (const direction of ['inbound', 'outbound']) {
        await eventually(`${direction} is logged`, () =>
          first.log.slice(before).some(line => access(direction).test(line))
        )
      }
    })
  }

  await t.test('the node itself reaches the application in the clear, through ztunnel', async t => {
    t.match(await askOnce(node, { ip: server.v4, port }), /server saw 10\.78\.2\.1: hello/)
  })

  await t.test('the connection from before the enrolment lives on', async t => {
    t.equal(await live.ask('after'), `server saw ${client.v4}: after`)
    live.close()
  })

  await t.test('a ztunnel that is killed leaves its pods cut off; the next one takes them over', async t => {
    await first.stop('SIGKILL')
    await t.rejects(askOnce(client.namespace, { ip: server.v4, port }, { timeoutMs: 700 }))
    await start()
    t.match(await askOnce(client.namespace, { ip: server.v4, port }), /server saw/)
  })

  await t.test('an agent that is killed and comes back changes nothing', async t => {
    await agent.kill()
    t.match(await askOnce(client.namespace, { ip: server.v4, port }), /server saw/)
    await agent.start()
    await eventually('ztunnel is back', async () =>
      (await agent.status('metrics', '/metrics')).text.includes('ztunnel_connected 1')
    )
    t.match(await askOnce(client.namespace, { ip: server.v4, port }), /server saw/)
  })

  await t.test('out of the mesh, traffic is as it was', async t => {
    await label(kube, null)
    for (const { name } of [client, server]) {
      await eventually(`${name} is out`, async () => (await annotation(kube, name)) === undefined)
    }
    t.equal(await askOnce(client.namespace, { ip: server.v4, port }), `server saw ${client.v4}: hello`)
  })
}

function addPod(t: Test, node: Namespace, name: PairPod['name'], number: number): PairPod {
  const namespace = makeNamespace(t, 'uph3')
  const [v4, v6] = [`10.78.${number}.2`, `fd78:${number}::2`]
  joinNamespaces(
    { namespace, device: 'eth0', addresses: [`${v4}/24`, `${v6}/64`] },
    { namespace: node, device: `veth${number}`, addresses: [`10.78.${number}.1/24`, `fd78:${number}::1/64`] }
  )
  namespace.run('ip', 'route', 'add', 'default', 'via', `10.78.${number}.1`)
  namespace.run('ip', '-6', 'route', 'add', 'default', 'via', `fd78:${number}::1`)
  return { name, namespace, v4: ip(v4), v6: ip(v6) }
}

function localConfig(all: readonly PairPod[]): string {
  const workloads = all.map(({ name, v4, v6 }) => ({
    uid: `Kubernetes//Pod/shop/${name}`,
    name,
    namespace: 'shop',
    serviceAccount: name,
    workloadIps: [v4, v6],
    protocol: 'HBONE',
    node: 'node-1',
    network: '',
    trustDomain: 'cluster.local',
    services: {}
  }))
  return JSON.stringify({ workloads, services: [], policies: [] })
}
