/** What users see, under load, when the node agent goes and comes, and when a ztunnel is killed. */
import t from 'tap'
import { needsRoot } from '../support/namespaces.ts'
import { restartWorld, startTraffic } from './restart-world.ts'
import type { Failure } from './steady-load.ts'

t.setTimeout(300_000)
const skip = needsRoot()
const method = { backend: 'nft', mode: 'tproxy' } as const

t.test('the node agent is killed, ended and upgraded: traffic does not notice', { skip }, async t => {
  const world = await restartWorld(t, { method, workers: 1, deadline: '2s' })
  const [one, two] = world.nodes
  const old = await one.startZtunnel()
  await two.startZtunnel()
  await world.enrol()
  const traffic = await startTraffic(t, world.nodes, 50)
  await traffic.flowing()
  await one.agent.kill()
  await traffic.flowing()

  let ready = false
  const next = one.startZtunnel().then(proxy => {
    ready = true
    return proxy
  })
  await traffic.flowing()
  t.equal(
    ready,
    false,
    'without an agent a new ztunnel has no pods, so it is not ready and the old one stays'
  )
  await one.agent.start()
  await next
  t.equal(await old.stop('SIGTERM'), 0, 'the agent is back: the new one takes over')
  await traffic.flowing()

  await one.agent.stop()
  await traffic.flowing()
  await one.agent.start()
  await traffic.flowing()
  await traffic.stop()
  for (const { failures } of traffic.loads) t.strictSame(failures.slice(0, 5), [], 'no connection failed')
})

t.test('TPROXY: a ztunnel is killed: its clients wait for the next one', { skip }, async t => {
  const world = await restartWorld(t, { method, workers: 1, deadline: '2s' })
  const [one, two] = world.nodes
  const first = await one.startZtunnel()
  await two.startZtunnel()
  await world.enrol()
  const traffic = await startTraffic(t, world.nodes, 50)
  const [outgoing, incoming] = traffic.loads
  await traffic.flowing()
  await first.stop('SIGKILL')
  const killed = performance.now()
  await one.startZtunnel()
  const ready = performance.now()
  await traffic.flowing()
  await traffic.stop()

  const inGap = ({ begun }: Failure): boolean => begun > killed && begun < ready
  t.strictSame(outgoing.failures.filter(inGap), [], 'clients of its pod wait')
  const refused = incoming.failures.filter(inGap).length
  t.comment(`a gap of ${Math.round(ready - killed)} ms; ${refused} clients of other nodes were refused in it`)
  const later = traffic.loads.flatMap(({ failures }) => failures.filter(({ begun }) => begun > ready))
  t.strictSame(later, [], 'then all is well')
})
