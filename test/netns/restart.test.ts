/** ztunnel is restarted under load: no new connection is dropped, and what is open lives until the deadline. */
import t from 'tap'
import { accessLines } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { needsRoot } from '../support/namespaces.ts'
import type { Proxy } from '../support/two-nodes.ts'
import { Client, serveLines } from './capture-world.ts'
import { restartWorld, type RestartNode } from './restart-world.ts'
import { SteadyLoad } from './steady-load.ts'

t.setTimeout(300_000)
const skip = needsRoot()
const rate = 200

for (const { method, workers, migrate } of [
  { method: { backend: 'nft', mode: 'tproxy' }, workers: 1, migrate: true },
  // In a container /proc/sys is read-only, so the kernel's own migration is often not to be had.
  { method: { backend: 'iptables', mode: 'redirect' }, workers: 2, migrate: false }
] as const) {
  t.test(`${method.mode}: ztunnels follow one another under load`, { skip }, async t => {
    const world = await restartWorld(t, { method, workers, deadline: '4s' })
    const [one, two] = world.nodes
    const running = new Map<RestartNode, Proxy>()
    for (const node of world.nodes) running.set(node, await node.startZtunnel())
    await world.enrol()
    if (!migrate) {
      for (const { pod } of world.nodes) pod.namespace.run('sysctl', '-qw', 'net.ipv4.tcp_migrate_req=0')
    }
    const ports = new Map<RestartNode, number>()
    for (const node of world.nodes) ports.set(node, await serveLines(t, node.pod.namespace, node.name))
    const addressesOf = (node: RestartNode): { ip: RestartNode['pod']['v4']; port: number }[] =>
      [node.pod.v4, node.pod.v6].map(ip => ({ ip, port: ports.get(node) ?? 0 }))

    const loads = (
      [
        [one, two],
        [two, one]
      ] as const
    ).map(([from, to]) => new SteadyLoad({ from: from.pod.namespace, to: addressesOf(to), rate }))
    t.teardown(async () => Promise.all(loads.map(load => load.stop())))
    const flowing = async (): Promise<void> => {
      await Promise.all(loads.map(load => load.answers(rate)))
    }
    await flowing()

    for (const node of [one, two, one]) {
      const other = node === one ? two : one
      const long = await Promise.all([
        ...addressesOf(other).map(async to => Client.connect(node.pod.namespace, to)),
        ...addressesOf(node).map(async to => Client.connect(other.pod.namespace, to))
      ])
      for (const client of long) await client.ask('before')
      const ends = long.map(client => endOf(client))

      const old = running.get(node) as Proxy
      running.set(node, await node.startZtunnel())
      const ended = old.stop('SIGTERM')
      await old.logged(/another ztunnel takes over new connections.*pods="?1/)
      t.equal((await old.ask(15_021, '/healthz/ready')).status, 500, 'it is not ready any more')
      await flowing()
      for (const client of long) t.match(await client.ask('during'), /during/, 'a connection lives on')
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
      await flowing()
    }

    await Promise.all(loads.map(load => load.stop()))
    for (const load of loads) {
      t.strictSame(load.failures.slice(0, 5), [], 'no new connection failed')
      const [median, late, last] = [0.5, 0.99, 1].map(part => Math.round(load.percentile(part)))
      t.comment(
        `${load.begun} connections, ${Math.round(load.rate)}/s: ${median} ms, 99 % ${late} ms, at most ${last} ms`
      )
    }
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
