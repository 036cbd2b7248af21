import t, { type Test } from 'tap'
import { addressType, authorizationType, workloadType } from '../../../controlplane/desired/snapshot.ts'
import { message } from '../../../shared/xds/schema.ts'
import { decode, type DeltaClient } from './delta-client.ts'
import { next, ServedWorld } from './served-world.ts'

const pod = (name: string, address: string, more = 'labels: {app: web}'): string =>
  `kind: Pod\nmetadata: {name: ${name}, ${more}}\nspec: {nodeName: n1}\nstatus: {phase: Running, podIPs: [{ip: ${address}}], conditions: [{type: Ready, status: "True"}]}\n---\n`
const service =
  'kind: Service\nmetadata: {name: web}\nspec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{port: 80}]}\n---\n'
const policy = (name: string): string =>
  `kind: AuthorizationPolicy\nmetadata: {name: ${name}}\nspec: {selector: {matchLabels: {app: web}}}\n---\n`
const uid = (name: string): string => `Kubernetes//Pod/shop/${name}`
const host = 'shop/web.shop.svc.cluster.local'

const addresses = (names: readonly string[], removed: readonly string[] = []): unknown => ({
  type: 'Address',
  names: names.toSorted(),
  removed
})
const policies = (names: readonly string[], removed: readonly string[] = []): unknown => ({
  type: 'Authorization',
  names,
  removed
})

t.test('a wildcard gets everything, then what changes', async t => {
  const world = await new ServedWorld(t).start(pod('a', '10.0.0.1') + service + policy('p'))
  const client = world.client()
  client.subscribe(authorizationType)
  t.strictSame(await next(client), policies(['shop/p']))
  client.subscribe(addressType)
  t.strictSame(await next(client), addresses([uid('a'), host]))
  world.apply(pod('b', '10.0.0.2'))
  t.strictSame(await next(client), addresses([uid('b')]), 'one pod, one resource')
  world.desired.delete('Pod', 'shop/a')
  world.push()
  t.strictSame(await next(client), addresses([], [uid('a')]))
})

t.test('what is sent can be read', async t => {
  const world = await new ServedWorld(t).start(pod('a', '10.0.0.1'))
  const client = world.client()
  client.subscribe(addressType)
  const heard = await client.next()
  const [resource] = heard?.resources ?? []
  t.equal(resource?.resource.type_url, addressType)
  t.equal(resource?.version, world.desired.snapshot.table('address').get(uid('a'))?.version)
  t.match(decode(addressType, resource?.resource.value ?? Buffer.of()), {
    workload: { uid: uid('a'), name: 'a' }
  })
})

t.test('a request is answered, even with nothing', async t => {
  const world = await new ServedWorld(t).start('')
  const client = world.client()
  client.subscribe(addressType)
  client.subscribe(authorizationType)
  t.strictSame(await next(client), policies([]))
  t.strictSame(await next(client), addresses([]))
})

t.test('policies go before the addresses that name them, whatever is asked first', async t => {
  const world = await new ServedWorld(t, 60_000).start(pod('a', '10.0.0.1') + policy('p'))
  const client = world.client()
  client.subscribe(addressType)
  client.subscribe(authorizationType)
  t.strictSame(await next(client), policies(['shop/p']))
  t.strictSame(await next(client), addresses([uid('a')]))
  world.apply(policy('q'))
  t.strictSame(await next(client), policies(['shop/q']), 'a new one comes first')
  t.strictSame(await next(client), addresses([uid('a')]))
  world.desired.delete('AuthorizationPolicy', 'shop/q')
  world.push()
  t.strictSame(await next(client), addresses([uid('a')]), 'one that goes is taken from the addresses first')
  t.strictSame(await next(client), policies([], ['shop/q']))
})

t.test('addresses wait for a policy that is held up, and only for that', async t => {
  const world = await new ServedWorld(t).start(pod('a', '10.0.0.1') + policy('p'))
  const client = world.client()
  client.subscribe(authorizationType)
  const unanswered = await client.next()
  client.subscribe(addressType)
  t.strictSame(await next(client), addresses([uid('a')]))
  world.apply(policy('q'))
  world.apply(pod('b', '10.0.0.2'))
  t.equal(client.pending, 0)
  if (unanswered !== undefined) client.ack(unanswered)
  t.strictSame(await next(client), policies(['shop/q']), 'after the acknowledgement the policy comes')
  t.strictSame(await next(client), addresses([uid('a'), uid('b')]), 'and then both changes in one')
})

t.test('a client that never asks for policies gets its addresses', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const client = world.client()
  client.subscribe(addressType)
  t.strictSame(await next(client), addresses([uid('a')]))
})

t.test('one response is out at a time, and changes are merged meanwhile', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const client = world.client()
  client.subscribe(addressType)
  const first = await client.next()
  world.apply(pod('b', '10.0.0.2'))
  world.apply(pod('c', '10.0.0.3'))
  world.desired.delete('Pod', 'shop/b')
  world.push()
  client.send({ typeUrl: addressType, responseNonce: 'stale' })
  client.subscribe(authorizationType)
  t.strictSame(await next(client), policies([]), 'a stale nonce acknowledges nothing')
  if (first !== undefined) client.ack(first)
  t.strictSame(await next(client), addresses([uid('c')], [uid('b')]))
})

t.test('a refused response is logged and counted, and not sent again by itself', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const client = world.client()
  client.subscribe(addressType)
  const first = await client.next()
  if (first !== undefined) client.nack(first, `${uid('a')}: no good`)
  client.subscribe(authorizationType)
  t.strictSame(await next(client), policies([]), 'the stream goes on')
  t.match(world.lines.join(''), /error\txds\t.*no good/)
  t.equal(world.metrics.series('pilot_total_xds_rejects', addressType).value, 1)
  t.equal(
    world.xds.clients()[0]?.types.find(({ typeUrl }) => typeUrl === addressType)?.rejected,
    `${uid('a')}: no good`
  )
  world.apply(pod('b', '10.0.0.2'))
  t.strictSame(await next(client), addresses([uid('b')]), 'only the next change')
})

t.test('a client that comes back gets what it missed', async t => {
  const world = await new ServedWorld(t, 60_000).start(
    pod('a', '10.0.0.1') + pod('b', '10.0.0.2') + service + policy('p')
  )
  const version = (name: string): string => world.desired.snapshot.table('address').get(name)?.version ?? ''
  const held = { [uid('a')]: version(uid('a')), [uid('b')]: 'old', [uid('gone')]: 'x', [host]: version(host) }
  const client = world.client()
  client.subscribe(authorizationType, { initialResourceVersions: { 'shop/q': '1' } })
  t.strictSame(await next(client), policies(['shop/p']), 'new ones first')
  client.subscribe(addressType, { initialResourceVersions: held })
  t.strictSame(await next(client), addresses([uid('b')], [uid('gone')]))
  t.strictSame(await next(client), policies([], ['shop/q']), 'and last what policies are gone')
})

t.test('on demand', async t => {
  const start = async (t: Test, nodeName = ''): Promise<{ world: ServedWorld; client: DeltaClient }> => {
    const world = await new ServedWorld(t, 1).start(
      pod('a', '10.0.0.1') + pod('b', '10.0.0.2') + pod('c', '10.0.0.3', 'labels: {app: db}') + service
    )
    const client = world.client({ nodeName })
    client.subscribe(addressType, { resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] })
    return { world, client }
  }
  const ask = (client: DeltaClient, ...names: string[]): void =>
    client.send({ typeUrl: addressType, resourceNamesSubscribe: names })

  t.test('nothing comes unasked', async t => {
    const { world, client } = await start(t)
    t.strictSame(await next(client), addresses([]))
    world.apply(pod('d', '10.0.0.4'))
    ask(client, uid('c'))
    t.strictSame(await next(client), addresses([uid('c')]))
  })

  t.test('but the workloads of its own node', async t => {
    const { world, client } = await start(t, 'n1')
    t.strictSame(await next(client), addresses([uid('a'), uid('b'), uid('c')]))
    world.apply(pod('d', '10.0.0.4'))
    t.strictSame(await next(client), addresses([uid('d')]), 'new ones too')
  })

  t.test('an address stands for its workload', async t => {
    const { client } = await start(t)
    await next(client)
    ask(client, '/10.0.0.3')
    const heard = await client.next()
    t.strictSame(
      heard?.resources.map(({ name, aliases }) => ({ name, aliases })),
      [{ name: uid('c'), aliases: ['/10.0.0.3'] }]
    )
  })

  t.test('a service stands for its workloads too', async t => {
    const { world, client } = await start(t)
    await next(client)
    ask(client, '/10.96.0.1')
    const heard = await client.next()
    if (heard !== undefined) client.ack(heard)
    t.strictSame(
      heard?.resources
        .map(({ name, aliases }) => ({ name, aliases }))
        .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      [
        { name: uid('a'), aliases: [] },
        { name: uid('b'), aliases: [] },
        { name: host, aliases: ['/10.96.0.1'] }
      ]
    )
    world.apply(pod('d', '10.0.0.4'))
    t.strictSame(await next(client), addresses([uid('d')]), 'and those that join it')
    world.apply(pod('e', '10.0.0.5', 'labels: {app: db}'))
    world.desired.delete('Pod', 'shop/a')
    world.push()
    t.strictSame(await next(client), addresses([], [uid('a')]), 'and leave it, but no others')
  })

  t.test('by its name as well', async t => {
    const { client } = await start(t)
    await next(client)
    ask(client, host)
    t.strictSame(await next(client), addresses([uid('a'), uid('b'), host]))
  })

  t.test('a name that nobody has is removed, until somebody has it', async t => {
    const { world, client } = await start(t)
    await next(client)
    ask(client, '/10.0.0.9', 'shop/unknown.example')
    t.strictSame(await next(client), addresses([], ['/10.0.0.9', 'shop/unknown.example']))
    world.apply(pod('z', '10.0.0.9'))
    const heard = await client.next()
    t.strictSame(
      heard?.resources.map(({ name, aliases }) => [name, aliases]),
      [[uid('z'), ['/10.0.0.9']]]
    )
  })

  t.test('what is not wanted any more is not sent', async t => {
    const { world, client } = await start(t)
    await next(client)
    ask(client, uid('c'))
    await next(client)
    client.send({
      typeUrl: addressType,
      resourceNamesUnsubscribe: [uid('c')],
      resourceNamesSubscribe: [uid('b')]
    })
    t.strictSame(await next(client), addresses([uid('b')]))
    world.apply(pod('c', '10.0.0.33', 'labels: {app: db}'))
    ask(client, uid('a'))
    t.strictSame(await next(client), addresses([uid('a')]))
  })

  t.test('a client that comes back goes on with what it held', async t => {
    const { world } = await start(t)
    const version = world.desired.snapshot.table('address').get(uid('c'))?.version ?? ''
    const client = world.client()
    client.subscribe(addressType, {
      resourceNamesSubscribe: ['*'],
      resourceNamesUnsubscribe: ['*'],
      initialResourceVersions: { [uid('c')]: version, [uid('a')]: 'old', [uid('gone')]: 'x', '/10.0.0.2': '' }
    })
    t.strictSame(await next(client), addresses([uid('a'), uid('b')], [uid('gone')]))
    world.apply(pod('c', '10.0.0.33', 'labels: {app: db}'))
    t.strictSame(await next(client), addresses([uid('c')]))
  })
})

t.test('old clients get workloads alone', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1') + service)
  const client = world.client()
  client.subscribe(workloadType)
  const heard = await client.next()
  if (heard !== undefined) client.ack(heard)
  t.strictSame(
    heard?.resources.map(({ name }) => name),
    [uid('a')]
  )
  const workload = message<object>('istio.workload.Workload').decode(
    heard?.resources[0]?.resource.value ?? Buffer.of()
  )
  t.match(workload, { uid: uid('a'), services: { [host]: { ports: [{ servicePort: 80, targetPort: 80 }] } } })
  world.apply(pod('b', '10.0.0.2'))
  const later = await client.next()
  t.strictSame(
    later?.resources.map(({ name, resource }) => [name, resource.type_url]),
    [[uid('b'), workloadType]]
  )
})

t.test('who does not say who it is, or lies, is refused', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const nobody = world.client()
  nobody.send({ typeUrl: addressType })
  t.match(await nobody.ended(), { code: 3, details: /node/ })
  const shapeless = world.client()
  shapeless.send({ typeUrl: addressType, node: { id: 'me' } })
  t.match(await shapeless.ended(), { code: 3 })
  world.caller = { namespace: 'istio-system', serviceAccount: 'ztunnel', podName: '', podUid: '' }
  const stranger = world.client({ namespace: 'shop' })
  stranger.subscribe(addressType)
  t.match(await stranger.ended(), { code: 7, details: /namespace shop/ })
  const impostor = world.client({ serviceAccount: 'admin' })
  impostor.subscribe(addressType)
  t.match(await impostor.ended(), { code: 7, details: /admin/ })
  const honest = world.client({ serviceAccount: 'ztunnel' })
  honest.subscribe(addressType)
  t.strictSame(await next(honest), addresses([uid('a')]))
})

t.test('a type that is not served is not answered, and the others are', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const client = world.client()
  client.subscribe('type.googleapis.com/envoy.config.cluster.v3.Cluster')
  for (const typeUrl of ['constructor', '__proto__', '']) client.subscribe(typeUrl)
  client.subscribe(addressType)
  t.strictSame(await next(client), addresses([uid('a')]))
})

t.test('one slow client holds nobody up', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const slow = world.client()
  slow.subscribe(addressType)
  const held = await slow.next()
  const quick = world.client()
  quick.subscribe(addressType)
  await next(quick)
  for (let round = 0; round < 50; round += 1) {
    world.apply(pod('a', `10.0.1.${round}`))
    t.strictSame(await next(quick), addresses([uid('a')]))
  }
  t.equal(slow.pending, 0, 'nothing piles up for it')
  if (held !== undefined) slow.ack(held)
  t.strictSame(await next(slow), addresses([uid('a')]), 'it gets the last state')
})

t.test('many clients', async t => {
  const world = await new ServedWorld(t, 1).start(
    Array.from({ length: 100 }, (_, index) => pod(`p${index}`, `10.0.0.${index}`)).join('') + service
  )
  const clients = Array.from({ length: 60 }, () => world.client())
  for (const client of clients) client.subscribe(addressType)
  const first = await Promise.all(clients.map(async client => client.next()))
  t.ok(
    first.every(heard => heard?.resources.length === 101),
    'everybody gets everything'
  )
  t.equal(new Set(first.map(heard => heard?.nonce)).size, clients.length, 'every nonce is another')
  first.forEach((heard, index) => {
    if (heard !== undefined) clients[index]?.ack(heard)
  })
  world.apply(pod('new', '10.0.1.1'))
  const later = await Promise.all(clients.map(async client => next(client)))
  t.ok(later.every(heard => JSON.stringify(heard) === JSON.stringify(addresses([uid('new')]))))
  t.equal(world.xds.clients().length, clients.length)
})

t.test('a stream that ends is forgotten; at the end of the program streams end with a reason', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const client = world.client()
  client.subscribe(addressType)
  await next(client)
  const other = world.client()
  other.subscribe(addressType)
  await next(other)
  client.close()
  while (world.xds.clients().length > 1) await new Promise(resolve => setImmediate(resolve))
  world.xds.close()
  t.match(await other.ended(), { code: 14, details: /shutting down/ })
})

t.test('a client of another cluster is warned about', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const client = world.client()
  client.send({
    typeUrl: addressType,
    node: {
      id: 'ztunnel~1.1.1.1~z.istio-system~x',
      metadata: { fields: { CLUSTER_ID: { stringValue: 'east' } } }
    }
  })
  await next(client)
  t.match(world.lines.join(''), /warn\txds\t.*another cluster.*east/)
})

t.test('a waypoint is sent what goes through it', async t => {
  const gateway = (address: string): string =>
    `kind: Gateway\nmetadata: {name: wp, labels: {istio.io/waypoint-for: all}}\nspec: {gatewayClassName: c}\nstatus: {addresses: [${address}]}\n---\n`
  const named = '{type: Hostname, value: wp.shop.svc.cluster.local}'
  const use = 'labels: {app: web, istio.io/use-waypoint: wp}'
  const web = service.replace('{name: web}', '{name: web, labels: {istio.io/use-waypoint: wp}}')
  const world = await new ServedWorld(t, 1).start(
    gateway(named) +
      pod('wp-1', '10.0.0.9', 'labels: {gateway.networking.k8s.io/gateway-name: wp}') +
      pod('a', '10.0.0.1') +
      pod('c', '10.0.0.3', 'labels: {app: db}')
  )
  const node = { id: 'waypoint~10.0.0.9~wp-1.shop~shop.svc.cluster.local' }
  const client = world.client()
  client.send({ typeUrl: addressType, node })
  t.strictSame(await next(client), addresses([]), 'nothing yet')
  world.apply(web)
  t.strictSame(await next(client), addresses([uid('a'), host]), 'a service with its workloads')
  world.apply(pod('b', '10.0.0.2'))
  t.strictSame(await next(client), addresses([uid('b')]), 'those that join it')
  world.apply(pod('c', '10.0.0.3', use.replace('app: web', 'app: db')))
  t.strictSame(await next(client), addresses([uid('c')]), 'workloads that name it')
  world.apply(pod('x', '10.0.0.4', 'labels: {app: other}'))
  world.apply(service)
  t.strictSame(
    await next(client),
    addresses([], [uid('a'), uid('b'), host]),
    'what leaves it goes, and others never come'
  )
  client.send({ typeUrl: addressType, resourceNamesSubscribe: ['/10.0.0.4'] })
  t.strictSame(await next(client), addresses([uid('x')]), 'but may be asked for')
  const back = world.client()
  const version = world.desired.snapshot.table('address').get(uid('c'))?.version ?? ''
  back.send({ typeUrl: addressType, node, initialResourceVersions: { [uid('c')]: version, [uid('a')]: 'x' } })
  t.strictSame(await next(back), addresses([], [uid('a')]), 'who comes back gets what it missed')
  const stranger = world.client()
  stranger.send({ typeUrl: addressType, node: { id: 'waypoint~10.0.0.8~unknown.shop~x' } })
  const everything = (await next(stranger)) as { names: readonly string[] }
  t.equal(
    everything.names.length,
    world.desired.snapshot.table('address').size,
    'a pod that is not known gets everything'
  )
})

t.test('workloads that join while a service is on its way come too', async t => {
  const world = await new ServedWorld(t, 1).start(pod('a', '10.0.0.1'))
  const client = world.client()
  client.subscribe(addressType, { resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] })
  const first = await client.next()
  client.send({ typeUrl: addressType, resourceNamesSubscribe: ['/10.96.0.1'] })
  client.subscribe(authorizationType)
  await next(client)
  world.apply(service)
  world.apply(pod('b', '10.0.0.2'))
  if (first !== undefined) client.ack(first)
  t.strictSame(await next(client), addresses([uid('a'), uid('b'), host]))
})
