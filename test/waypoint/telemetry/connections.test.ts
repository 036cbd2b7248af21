/** What is told of connections that are carried as they are. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import net from 'node:net'
import { eventually } from '../../support/eventually.ts'
import { listen, startWorld, type Pod, type World } from '../world.ts'

const services = [{ name: 'db', vip: '10.96.0.2', port: 3306, speaks: 'TCP' }]
const pod = (last: number): Pod => ({
  name: 'db',
  address: `127.77.41.${last}`,
  port: 3306,
  services: ['db']
})

const series = (text: string, name: string): readonly string[] =>
  text.split('\n').filter(line => line.startsWith(`${name}{`))

const closedWith = (world: World, flag: string): Promise<void> =>
  eventually(`a connection is closed with ${flag}`, async () =>
    series(await world.metrics(), 'istio_tcp_connections_closed_total').some(line =>
      line.includes(`response_flags="${flag}"`)
    )
  )

t.test(
  'TM-03 to TM-07, TM-13, TM-14: a connection is counted when it opens, while it lasts, and at its end',
  async t => {
    const db = pod(1)
    await listen(
      t,
      net.createServer({ allowHalfOpen: true }, socket => {
        socket.on('data', () => socket.write('five!'))
        socket.on('end', () => socket.end())
      }),
      db
    )
    const world = await startWorld(t, { services, pods: [db], env: { UNDERPASS_ACCESS_LOG: 'all' } })
    const client = await world.connect('10.96.0.2:3306')
    client.write('four')
    await once(client, 'data')

    const during = await world.metrics()
    const [opened = '', ...more] = series(during, 'istio_tcp_connections_opened_total')
    t.strictSame(more, [])
    for (const label of [
      'reporter="waypoint"',
      'source_principal="spiffe://cluster.local/ns/shop/sa/client"',
      'destination_service="db.shop.svc.cluster.local"',
      'destination_service_name="db"',
      'destination_service_namespace="shop"',
      'destination_workload="db"',
      'destination_principal="spiffe://cluster.local/ns/shop/sa/db"',
      'request_protocol="tcp"',
      'response_flags="-"',
      'connection_security_policy="mutual_tls"'
    ]) {
      t.match(opened, label)
    }
    t.match(opened, /\} 1$/)
    t.notMatch(opened, 'response_code')
    t.match(series(during, 'istio_tcp_received_bytes_total')[0], /\} 4$/, 'from the client')
    t.match(series(during, 'istio_tcp_sent_bytes_total')[0], /\} 5$/, 'to the client')
    t.match(series(during, 'istio_tcp_connections_closed_total').join(), /^(?:.*\} 0)?$/)

    client.end()
    await closedWith(world, '-')
    await eventually('and logged', () => world.lines.length === 1)
    t.match(
      world.lines[0],
      /^\[[^\]]+\] "- - -" 0 - - - "-" 4 5 \d+ - "-" "-" "-" "-" "127\.77\.41\.1:3306" inbound-vip\|3306\|tcp\|db\.shop\.svc\.cluster\.local - 10\.96\.0\.2:3306 127\.0\.0\.1:\d+ - -$/
    )
    t.notMatch(await world.metrics(), /^istio_requests_total\{/m, 'it is no request')
  }
)

const refused = async (
  t: Test,
  { flag, line, pods, config = '' }: { flag: string; line: RegExp; pods: Pod[]; config?: string }
): Promise<void> => {
  const world = await startWorld(t, { services, pods, config })
  const client = await world.connect('10.96.0.2:3306')
  const closed = once(client, 'close').catch(() => undefined)
  client.resume()
  await closed
  await closedWith(world, flag)
  const told = await world.metrics()
  t.match(series(told, 'istio_tcp_connections_opened_total')[0], `response_flags="${flag}"`)
  await eventually('a failure is logged without being asked for', () => world.lines.length === 1)
  t.match(world.lines[0], line)
}

t.test('TM-08, TM-28: without a pod the destination is unknown, and the flag says UH', t =>
  refused(t, { flag: 'UH', line: /"- - -" 0 UH - no_healthy_upstream "no healthy upstream" 0 0/, pods: [] })
)

t.test('TM-28: a pod that takes no connections is UF, with the reason', async t => {
  const gone: Pod = { ...pod(2), protocol: 'TCP' }
  await refused(t, {
    flag: 'UF',
    line: /0 UF - upstream_connection_failure "[^"]*127\.77\.41\.2[^"]*" 0 0 .* "127\.77\.41\.2:3306"/,
    pods: [gone]
  })
})

t.test('TM-28: a full service is UO', async t => {
  const db = pod(3)
  await listen(
    t,
    net.createServer(socket => void socket.write('hello')),
    db
  )
  const config = `
kind: DestinationRule
metadata: {name: db, namespace: shop}
spec: {host: db, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}
`
  const world = await startWorld(t, { services, pods: [db], config })
  const first = await world.connect('10.96.0.2:3306')
  await once(first, 'data')
  const second = await world.connect('10.96.0.2:3306')
  second.resume()
  await closedWith(world, 'UO')
  await eventually('logged', () => world.lines.some(line => / 0 UO - overflow "as many/.test(line)))
})

t.test('a policy that refuses is named, and no fault of the network', t =>
  refused(t, {
    flag: '-',
    line: /0 - - rbac_access_denied_matched_policy\[.*nobody.*\] "-" 0 0/,
    pods: [pod(4)],
    config: `
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {targetRefs: [{kind: Service, name: db}], action: DENY, rules: [{}]}
`
  })
)

t.test('a reset is a way to leave; what the mesh lost on the way to the pod is UC', async t => {
  const db = pod(5)
  const world = await startWorld(t, { services, pods: [db] })
  await t.test('while the pod is there', async t => {
    await listen(
      t,
      net.createServer(socket => void socket.write('hello')),
      db
    )
    const leaving = await world.connect('10.96.0.2:3306')
    await once(leaving, 'data')
    leaving.destroy(new Error('the client crashed'))
    await closedWith(world, '-')
    const staying = await world.connect('10.96.0.2:3306')
    await once(staying, 'data')
  })
  await closedWith(world, 'UC')
  await eventually('logged', () => world.lines.length === 1)
  t.match(world.lines[0], / 0 UC - upstream_connection_cut "[^"]{5,}" 0 5 /)
})
