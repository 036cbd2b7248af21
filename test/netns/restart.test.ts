/** ztunnel is restarted under load: no new connection is dropped, and what is open lives until the deadline. */
import t from 'tap'
import { accessLines } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { needsRoot } from '../support/namespaces.ts'
import type { Proxy } from '../support/two-nodes.ts'
import { Client } from './capture-world.ts'
import { restartWorld, startTraffic, type RestartNode } from './restart-world.ts'

t.setTimeout(300_000)
const skip = needsRoot()
const rate = 200

for (const { method, workers, migrate } of [
  { method: { backend: 'nft', mode: 'tproxy' }, workers: 1, migrate: true },
  // In a container /proc/sys is read-only, so the kernel's own migration is often not to be had.
  { method: { backend: 'iptables', mode: 'redirect' }, workers: 2, migrate: false }
] as const) {
  t.test(`${method.mode}: ztunnels follow one another under load`, { skip }, async t => {
    const world = await restartWorld(t, { method, workers, deadline: '6s' })
    const [one, two] = world.nodes
    const running = new Map<RestartNode, Proxy>()
    for (const node of world.nodes) running.set(node, await node.startZtunnel())
    await world.enrol()
    if (!migrate) {
      for (const { pod } of world.nodes) pod.namespace.run('sysctl', '-qw', 'net.ipv4.tcp_migrate_req=0')
    }
    const traffic = await startTraffic(t, world.nodes, rate)
    await traffic.flowing()

    for (const node of [one, two, one]) {
      const other = node === one ? two : one
      const long = await Promise.all([
        ...traffic
          .addresses(other)
          .map(async to => Client.connect(node.pod.namespace, to, { timeoutMs: 60_000 })),
        ...traffic
          .addresses(node)
          .map(async to => Client.connect(other.pod.namespace, to, { timeoutMs: 60_000 }))
      ])
      await Promise.all(long.map(client => client.ask('before', 60_000)))
      const ends = long.map(client => endOf(client))

      const old = running.get(node) as Proxy
      running.set(node, await node.startZtunnel())
      const ended = old.stop('SIGTERM')
      await old.logged(/another ztunnel takes over new connections.*pods="?1/)
      t.equal((await old.ask(15_021, '/healthz/ready')).status, 500, 'it is not ready any more')
      const during = await Promise.all(long.map(client => client.ask('during')))
      for (const answer of during) t.match(answer, /during/, 'a connection lives on')
      await traffic.flowing()
      t.equal(await ended, 0)
      t.strictSame(
        await Promise.all(ends),
        long.map(() => 'ECONNRESET'),
        'nobody takes a cut for an end'
      )
      const cut = accessLines(old.log).filter(
        ({ fields }) => fields['error'] === 'connection closed due to connection drain'
      )
      t.equal(cut.length, long.length, 'the log says which were cut')
      await traffic.flowing()
    }

    await traffic.stop()
    for (const { failures } of traffic.loads)
      t.strictSame(failures.slice(0, 5), [], 'no new connection failed')
    for (const node of world.nodes) {
      const proxy = running.get(node) as Proxy
      await eventually(
        'nothing is left open',
        async () => !/istio_tcp_sockets_open\S* [1-9]/.test((await proxy.ask(15_020, '/metrics')).body)
      )
    }
  })
}

/** How the connection ends: the code of its error, or `end`. */
function endOf({ socket }: Client): Promise<string> {
  return new Promise(resolve => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.once('end', () => resolve('end'))
  })
}
