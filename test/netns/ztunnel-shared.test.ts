/** Shared mode: one ztunnel carries the pods of a node that the node agent names, with the real capture rules. */
import t from 'tap'
import type net from 'node:net'
import { ip } from '../../shared/net/address.ts'
import { closeDescriptor, openListener } from '../../shared/net/sockets.ts'
import { accessLines, samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { needsRoot } from '../support/namespaces.ts'
import { descriptors, settledDescriptors } from '../support/process-state.ts'
import { sharedNode, type SharedNode } from '../support/shared-node.ts'
import { at, attempt, connect, serve } from '../support/two-nodes.ts'

t.setTimeout(240_000)
const skip = needsRoot()
const identity = (name: string): string => `spiffe://cluster.local/ns/shop/sa/${name}`

for (const { mode, workers, sameNode } of [
  { mode: 'tproxy', workers: 1, sameNode: 'tunnel' },
  { mode: 'tproxy', workers: 2, sameNode: 'tunnel' },
  { mode: 'redirect', workers: 2, sameNode: 'tunnel' },
  { mode: 'tproxy', workers: 1, sameNode: 'direct' }
] as const) {
  t.test(
    `${mode}, ${workers} worker(s), same node by ${sameNode}: both halves are told, the application sees its client`,
    { skip },
    async t => {
      const world = await sharedNode(t, mode)
      const { client, server } = world
      const proxy = await world.start({
        workers,
        env: { UNDERPASS_SAME_NODE: sameNode },
        policies: [
          {
            name: 'no-9001',
            namespace: 'shop',
            scope: 'Namespace',
            action: 'Deny',
            rules: [[[{ destinationPorts: [9001] }]]],
            dryRun: false
          }
        ]
      })
      t.strictSame(world.agent.answers, [undefined, undefined, undefined])
      await serve(t, server, sayWho, { port: 8080 })
      await serve(t, server, sayWho, { port: 9001 })
      for (const address of ['v4', 'v6'] as const) {
        t.equal(
          await attempt(await connectPlain(world, at(server[address], 8080)), Buffer.from('hi')),
          `from ${client[address]}: hi`
        )
      }
      t.equal(await attempt(await connectPlain(world, at(server.v4, 9001)), Buffer.from('x')), '')
      await eventually('all is logged', () => accessLines(proxy.log).length === 6, { everyMs: 20 })
      const lines = accessLines(proxy.log)
      for (const direction of ['outbound', 'inbound']) {
        const to = (port: number) =>
          lines.find(
            ({ fields }) =>
              fields['direction'] === direction && fields['dst.hbone_addr'] === `${server.v4}:${port}`
          )
        const [first, refused] = [to(8080), to(9001)]
        t.match(first, {
          level: 'info',
          fields: {
            'src.workload': 'client',
            'src.identity': identity('client'),
            'dst.addr': `${server.v4}:15008`,
            'dst.hbone_addr': `${server.v4}:8080`,
            'dst.workload': 'server',
            'dst.identity': identity('server'),
            bytes_sent: direction === 'outbound' ? '2' : '18',
            bytes_recv: direction === 'outbound' ? '18' : '2'
          }
        })
        t.match(refused, {
          level: 'error',
          fields: {
            error: direction === 'outbound' ? /http status: 401/ : /explicitly denied by: shop\/no-9001/
          }
        })
      }
      const { body } = await proxy.ask(15020, '/metrics')
      for (const reporter of ['source', 'destination']) {
        const of = (name: string): number =>
          samples(body, name)
            .filter(({ labels }) => labels['reporter'] === reporter)
            .reduce((sum, { value }) => sum + value, 0)
        t.equal(of('istio_tcp_connections_opened_total'), 3)
        t.equal(of('istio_tcp_connections_closed_total'), 3)
        t.equal(of('istio_tcp_connections_failed_total'), 1)
        t.equal(of('istio_tcp_received_bytes_total'), 4)
        t.equal(of('istio_tcp_sent_bytes_total'), 36)
        t.equal(of('istio_tcp_sockets_open'), 0)
      }
      t.match(
        samples(body, 'underpass_spoof_fallback_total')
          .map(({ value }) => value)
          .filter(Boolean),
        []
      )
      const tunnels = server.namespace
        .run('ss', '-Htan', 'sport = :15008')
        .split('\n')
        .filter(line => !line.startsWith('LISTEN') && line !== '')
      t.equal(tunnels.length > 0, sameNode === 'tunnel', 'TLS where it is wanted only')
      t.equal(await proxy.stop(), 0)
    }
  )
}

t.test(
  'a pod that is deleted during a transfer is cut off at once, and leaves no descriptor behind',
  { skip },
  async t => {
    const world = await sharedNode(t)
    const { server, agent } = world
    const proxy = await world.start({ workers: 2 })
    await serve(t, server, sayWho, { port: 8080 })
    await attempt(await connectPlain(world, at(server.v4, 8080)), Buffer.from('warm'))
    const before = await settledDescriptors(proxy.pid)
    const sockets = await Promise.all(
      Array.from({ length: 20 }, async () => connectPlain(world, at(server.v4, 8080)))
    )
    const closed = sockets.map(socket => {
      socket.on('error', () => undefined)
      return new Promise(resolve => socket.once('close', resolve))
    })
    for (const socket of sockets) {
      socket.write('x')
      await new Promise(resolve => socket.once('data', resolve))
    }
    t.equal(await agent.ask({ kind: 'del', uid: server.uid }), undefined)
    await Promise.all(closed)
    await proxy.logged(/direction="inbound".*connection closed due to connection drain/)
    await eventually('descriptors are given back', () => descriptors(proxy.pid) <= before, { everyMs: 100 })
    const { body } = await proxy.ask(15020, '/metrics')
    t.match(samples(body, 'workload_manager_active_proxy_count'), [{ value: 1 }])
    t.match(samples(body, 'workload_manager_proxies_stopped_total'), [{ value: 1 }])
    t.match(samples(body, 'istio_tcp_sockets_open'), [{ value: 0 }, { value: 0 }])
  }
)

t.test(
  'a ztunnel that is killed leaves resets or silence, never clear text; the next one takes over',
  { skip },
  async t => {
    const world = await sharedNode(t)
    const { server } = world
    const first = await world.start()
    let reached = 0
    await serve(
      t,
      server,
      socket => {
        reached += 1
        sayWho(socket)
      },
      { port: 8080 }
    )
    const live = await connectPlain(world, at(server.v4, 8080))
    live.write('x')
    await new Promise(resolve => live.once('data', resolve))
    live.on('error', () => undefined)
    const over = new Promise(resolve => {
      live.once('end', resolve) // the kernel ends what the process had open, or resets it
      live.once('close', resolve)
    })
    await first.stop('SIGKILL')
    await over
    const waiting = connectPlain(world, at(server.v4, 8080)) // its SYN is dropped, and sent again
    await new Promise(resolve => setTimeout(resolve, 500))
    t.equal(reached, 1, 'nothing arrived past the proxy')
    await world.start()
    t.match(
      await attempt(await waiting, Buffer.from('back')),
      /: back$/,
      'the SYN that waited is answered by the next'
    )
  }
)

t.test('a listener that cannot be opened keeps the pod pending, and is tried again', { skip }, async t => {
  const world = await sharedNode(t)
  const { server, agent, client } = world
  agent.pods.clear()
  const proxy = await world.start({ env: { INPOD_PORT_REUSE: 'true' } })
  const closeTaken = occupy(t, server, 15008)
  const workload = { name: 'server', namespace: 'shop', serviceAccount: 'server' }
  t.match(
    await agent.ask({ kind: 'add', uid: server.uid, workload }, server.netnsFd),
    /^failure to start proxy : bind.*EADDRINUSE/
  )
  t.equal((await proxy.ask(15021, '/healthz/ready')).body, 'not ready, pending: workload proxy manager\n')
  t.match(JSON.parse((await proxy.ask(15000, '/v1/pods')).body), [
    { uid: server.uid, state: 'Pending', error: /EADDRINUSE/ }
  ])
  closeTaken()
  await eventually(
    'it is tried again',
    async () => (await proxy.ask(15021, '/healthz/ready')).status === 200,
    { everyMs: 200 }
  )
  t.equal(
    await agent.ask(
      { kind: 'add', uid: client.uid, workload: { ...workload, name: 'client', serviceAccount: 'client' } },
      client.netnsFd
    ),
    undefined
  )
})

t.test('a pod that the mesh does not know is refused after a while, with the reason', { skip }, async t => {
  const world = await sharedNode(t)
  const { agent, client, server } = world
  agent.pods.set(client.uid, { name: 'stranger', netns: client.netnsFd })
  const proxy = await world.start()
  t.equal(await attempt(await connectPlain(world, at(server.v4, 8080)), Buffer.from('x')), '')
  t.match(
    await proxy.logged(/timed out waiting for workload 'shop\/stranger'/),
    /warn\taccess\tconnection failed/
  )
})

t.test('ztunnel’s own ports can be reached through HBONE', { skip }, async t => {
  const world = await sharedNode(t)
  const own = {
    uid: 'Kubernetes//Pod/istio-system/ztunnel-x',
    name: 'ztunnel-x',
    namespace: 'istio-system',
    serviceAccount: 'ztunnel',
    trustDomain: 'cluster.local',
    workloadIps: [world.nodeIp],
    protocol: 'HBONE',
    node: 'node-1',
    network: '',
    services: {}
  }
  const proxy = await world.start({
    workloads: [own],
    env: { POD_NAME: 'ztunnel-x', POD_NAMESPACE: 'istio-system', SERVICE_ACCOUNT: 'ztunnel' }
  })
  const socket = await connectPlain(world, at(world.nodeIp, 15020))
  const answer = await attempt(
    socket,
    Buffer.from('GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  )
  t.match(answer, /# EOF/)
  const line = await proxy.logged(/direction="inbound".*/)
  t.match(accessLines([line]), [
    {
      fields: {
        'src.identity': identity('client'),
        'dst.identity': 'spiffe://cluster.local/ns/istio-system/sa/ztunnel',
        'dst.workload': 'ztunnel-x'
      }
    }
  ])
})

function sayWho(socket: net.Socket): void {
  const from = socket.remoteAddress?.replace('::ffff:', '')
  socket.on('data', (chunk: Buffer) => socket.write(`from ${from}: ${chunk.toString()}`))
  socket.on('end', () => socket.end())
}

function connectPlain({ client }: SharedNode, to: ReturnType<typeof at>): Promise<net.Socket> {
  return connect(client, to, { captured: false }) // the rules capture every unmarked socket
}

/** Takes a port of the pod without sharing it. */
function occupy(
  t: { teardown(fn: () => unknown): unknown },
  pod: SharedNode['server'],
  port: number
): () => void {
  const fd = openListener({ netns: pod.netnsFd }, { address: { ip: ip('::'), port }, dualStack: true })
  let open = true
  const close = (): void => {
    if (open) closeDescriptor(fd)
    open = false
  }
  t.teardown(close)
  return close
}
