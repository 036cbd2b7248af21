import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import type { LoadBalancer, Locality, RoutingScope, Service, Workload } from '../../../shared/mesh/model.ts'
import { pickEndpoint, usableEndpoints, type PickContext, type PortMode } from '../../../shared/mesh/pick.ts'
import { addresses, endpointOf, gatewayTo, service, storeOf, workload } from '../../support/mesh.ts'

const place = (region: string, zone = '', subzone = ''): Locality => ({ region, zone, subzone })
const source = workload({
  name: 'client',
  addresses: addresses('10.0.0.1'),
  node: 'n1',
  locality: place('r1', 'z1', 's1')
})

const pod = (name: string, parts: Partial<Workload> = {}): Workload =>
  workload({
    name,
    addresses: addresses('10.1.0.1'),
    services: endpointOf('web'),
    node: 'n9',
    locality: place('r9', 'z9', 's9'),
    ...parts
  })

interface Given {
  readonly pods: readonly Workload[]
  readonly service?: Partial<Service>
  readonly port?: number
  readonly mode?: PortMode
  readonly context?: Partial<PickContext>
}

function pick({
  pods,
  service: parts = {},
  port = 80,
  mode = 'standard',
  context = {}
}: Given): string | undefined {
  const web = service({ name: 'web', ...parts })
  const view = storeOf({ services: [web], workloads: [source, ...pods] }).view()
  const picked = pickEndpoint(view, web, port, mode, {
    source,
    sourceIp: ip('10.0.0.1'),
    random: () => 0,
    ...context
  })
  return picked === undefined ? undefined : `${picked.workload.name}:${picked.port}`
}

/** Everyone who is picked for some random number. */
function everyone(given: Given): string[] {
  const found = new Set<string>()
  for (let step = 0; step < 100; step += 1) {
    const name = pick({ ...given, context: { ...given.context, random: () => step / 100 } })
    if (name !== undefined) found.add(name.replace(/:.*/, ''))
  }
  return [...found].toSorted()
}

const lb = (mode: LoadBalancer['mode'], ...routingPreferences: RoutingScope[]): Partial<Service> => ({
  loadBalancer: { mode, routingPreferences, healthPolicy: 'OnlyHealthy' }
})

t.test('who can be used at all', async t => {
  const table: readonly (readonly [string, Given, string | undefined])[] = [
    ['one endpoint', { pods: [pod('a')] }, 'a:8080'],
    ['none', { pods: [] }, undefined],
    ['an unhealthy one is not', { pods: [pod('a', { status: 'Unhealthy' })] }, undefined],
    [
      'unless the service takes all',
      {
        pods: [pod('a', { status: 'Unhealthy' })],
        service: { loadBalancer: { mode: 'Standard', routingPreferences: [], healthPolicy: 'AllowAll' } }
      },
      'a:8080'
    ],
    ['without an address', { pods: [pod('a', { addresses: [] })] }, undefined],
    ['a host name is one', { pods: [pod('a', { addresses: [], hostname: 'a.example' })] }, 'a:8080'],
    [
      'in another network a gateway is one',
      { pods: [pod('a', { addresses: [], network: 'net2', networkGateway: gatewayTo('x/y:1') })] },
      'a:8080'
    ],
    [
      'in our own network it is not',
      { pods: [pod('a', { addresses: [], networkGateway: gatewayTo('x/y:1') })] },
      undefined
    ],
    ['host network is an endpoint too', { pods: [pod('a', { networkMode: 'HostNetwork' })] }, 'a:8080'],
    ['no capacity, no traffic', { pods: [pod('a', { capacity: 0 })] }, undefined],
    ['no capacity beside some', { pods: [pod('a', { capacity: 0 }), pod('b')] }, 'b:8080']
  ]
  for (const [name, given, expected] of table) t.equal(pick(given), expected, name)
})

t.test('which port', async t => {
  const tunnel = { applicationTunnel: { protocol: 'PROXY', port: 15088 } } as const
  const portless = { applicationTunnel: { protocol: 'NONE', port: 0 } } as const
  const own = { services: endpointOf('web', [[80, 9090]]) }
  const named = { ports: new Map([[80, 0]]) }
  const table: readonly (readonly [string, Given, string | undefined])[] = [
    ['the endpoint’s own first', { pods: [pod('a', own)] }, 'a:9090'],
    ['then the service’s', { pods: [pod('a')] }, 'a:8080'],
    ['a named port that the endpoint knows', { pods: [pod('a', own)], service: named }, 'a:9090'],
    ['a named port that it does not', { pods: [pod('a')], service: named }, undefined],
    [
      'a named port behind an application tunnel passes',
      { pods: [pod('a', tunnel)], service: named },
      'a:80'
    ],
    ['only when the tunnel has a port', { pods: [pod('a', portless)], service: named }, undefined],
    [
      'a port that the service does not list',
      { pods: [pod('a', { services: endpointOf('web', [[81, 9]]) })], port: 81 },
      undefined
    ],
    ['not even behind a tunnel', { pods: [pod('a', tunnel)], port: 81 }, undefined],
    ['a gateway: mapped like any other', { pods: [pod('a', own)], mode: 'gateway' }, 'a:9090'],
    [
      'a gateway: a port that is not listed passes behind a tunnel',
      { pods: [pod('a', portless)], mode: 'gateway', port: 15008 },
      'a:15008'
    ],
    ['a gateway: and only there', { pods: [pod('a')], mode: 'gateway', port: 15008 }, undefined],
    [
      'an endpoint without the port is passed over',
      { pods: [pod('a'), pod('b', own)], service: named },
      'b:9090'
    ]
  ]
  for (const [name, given, expected] of table) t.equal(pick(given), expected, name)
})

t.test('the best rank takes it all', async t => {
  const here = { node: 'n1', locality: place('r1', 'z1', 's1') }
  const table: readonly (readonly [string, Given, readonly string[]])[] = [
    ['no preference: everybody', { pods: [pod('a'), pod('b', here)] }, ['a', 'b']],
    [
      'preferences without a mode do not count',
      { pods: [pod('a'), pod('b', here)], service: lb('Standard', 'Node') },
      ['a', 'b']
    ],
    ['the node', { pods: [pod('a'), pod('b', here)], service: lb('Failover', 'Node') }, ['b']],
    ['nobody near: everybody', { pods: [pod('a'), pod('b')], service: lb('Failover', 'Node') }, ['a', 'b']],
    [
      'region and zone before region',
      {
        pods: [pod('a', { locality: place('r1', 'zx') }), pod('b', { locality: place('r1', 'z1') })],
        service: lb('Failover', 'Region', 'Zone')
      },
      ['b']
    ],
    [
      'counting stops at the first that does not hold',
      {
        pods: [
          pod('a', { locality: place('rx', 'z1', 's1') }),
          pod('b', { locality: place('r1', 'zx', 'sx') })
        ],
        service: lb('Failover', 'Region', 'Zone', 'Subzone')
      },
      ['b']
    ],
    [
      'equals share',
      {
        pods: [pod('a', { locality: place('r1') }), pod('b', { locality: place('r1') }), pod('c')],
        service: lb('Failover', 'Region')
      },
      ['a', 'b']
    ],
    [
      'cluster',
      { pods: [pod('a', { clusterId: 'c2' }), pod('b')], service: lb('Failover', 'Cluster') },
      ['b']
    ],
    [
      'our network before any nearness elsewhere',
      {
        pods: [pod('a', { network: 'net2', locality: place('r1', 'z1', 's1') }), pod('b')],
        service: lb('Failover', 'Network', 'Region', 'Zone')
      },
      ['b']
    ],
    [
      'within other networks nearness still counts',
      {
        pods: [
          pod('a', { network: 'net2', locality: place('r1', 'zx') }),
          pod('b', { network: 'net3', locality: place('r1', 'z1') }),
          pod('c', { network: 'net2' })
        ],
        service: lb('Failover', 'Network', 'Region', 'Zone')
      },
      ['b']
    ],
    [
      'the network later in the list is a place like others',
      {
        pods: [pod('a', { network: 'net2', locality: place('r1') }), pod('b')],
        service: lb('Failover', 'Region', 'Network')
      },
      ['a']
    ],
    [
      'an unhealthy near one does not count',
      { pods: [pod('a'), pod('b', { ...here, status: 'Unhealthy' })], service: lb('Failover', 'Node') },
      ['a']
    ],
    [
      'strict: only where every preference holds',
      {
        pods: [pod('a', { locality: place('r1') }), pod('b', { locality: place('r1', 'z1') })],
        service: lb('Strict', 'Region', 'Zone')
      },
      ['b']
    ],
    [
      'strict: else nobody',
      { pods: [pod('a', { locality: place('r1') })], service: lb('Strict', 'Region', 'Zone') },
      []
    ],
    ['strict on the node', { pods: [pod('a'), pod('b', here)], service: lb('Strict', 'Node') }, ['b']],
    [
      'strict without preferences: everybody',
      { pods: [pod('a'), pod('b')], service: lb('Strict') },
      ['a', 'b']
    ],
    [
      'strict on the network',
      {
        pods: [pod('a', { network: 'net2', networkGateway: gatewayTo('x/y:1') })],
        service: lb('Strict', 'Network')
      },
      []
    ]
  ]
  for (const [name, given, expected] of table) t.strictSame(everyone(given), expected, name)
})

t.test('capacity is weight', async t => {
  const given = { pods: [pod('a', { capacity: 1 }), pod('b', { capacity: 3 })] }
  let toB = 0
  for (let step = 0; step < 1000; step += 1) {
    if (pick({ ...given, context: { random: () => step / 1000 } })?.startsWith('b') === true) toB += 1
  }
  t.equal(toB, 750)
})

t.test('least-request takes the less loaded of two', async t => {
  const pods = [pod('a'), pod('b')]
  const load = new Map([
    [pods[0]?.uid, 5],
    [pods[1]?.uid, 2]
  ])
  const draws =
    (values: number[]): (() => number) =>
    () =>
      values.shift() ?? 0
  const picked = (values: number[]): string | undefined =>
    pick({
      pods,
      context: { loadBalancing: 'least-request', load: uid => load.get(uid) ?? 0, random: draws(values) }
    })
  t.equal(picked([0, 0.9]), 'b:8080')
  t.equal(picked([0.9, 0]), 'b:8080')
  t.equal(picked([0, 0]), 'a:8080', 'two draws of the same endpoint leave no choice')
})

t.test('excluded endpoints are left out while there are others', async t => {
  const pods = ['a', 'b', 'c'].map(name => pod(name))
  const without = (...names: string[]): string[] =>
    everyone({
      pods,
      context: { exclude: new Set(pods.filter(({ name }) => names.includes(name)).map(({ uid }) => uid)) }
    })
  t.strictSame(without('a'), ['b', 'c'])
  t.strictSame(without('a', 'c'), ['b'])
  t.strictSame(without('a', 'b', 'c'), ['a', 'b', 'c'], 'all of them: better the same again than nobody')
})

t.test('client-IP affinity', async t => {
  const pods = Array.from({ length: 10 }, (_, index) => pod(`p${index}`))
  const sticky = { traffic: { clientIpAffinitySeconds: 60 } }
  const clients = Array.from({ length: 400 }, (_, index) => ip(`10.2.${index >> 8}.${index & 255}`))
  const view = (some: readonly Workload[]): ReturnType<ReturnType<typeof storeOf>['view']> =>
    storeOf({ services: [service({ name: 'web', ...sticky })], workloads: [source, ...some] }).view()
  const placesOf = (some: readonly Workload[]): (string | undefined)[] => {
    const mesh = view(some)
    return clients.map(
      sourceIp =>
        pickEndpoint(mesh, service({ name: 'web', ...sticky }), 80, 'standard', {
          source,
          sourceIp,
          random: Math.random
        })?.workload.name
    )
  }
  const before = placesOf(pods)
  t.strictSame(placesOf(pods), before, 'a client keeps its endpoint')
  t.strictSame(placesOf(pods.toReversed()), before, 'whatever order they came in')
  const counts = Map.groupBy(before, name => name)
  t.equal(counts.size, 10, 'everybody has clients')
  t.ok(
    [...counts.values()].every(({ length }) => length > 15 && length < 75),
    'about as many'
  )
  const after = placesOf(pods.slice(1))
  const moved = before.filter((name, index) => name !== 'p0' && name !== after[index])
  t.equal(moved.length, 0, 'when an endpoint goes, only its clients move')
  const heavy = placesOf([...pods.slice(1), pod('p0', { capacity: 10 })])
  t.ok(heavy.filter(name => name === 'p0').length > 120, 'capacity is weight here too')
})

t.test('all that can be used, for those who choose themselves', async t => {
  const near = pod('near', { locality: place('r1', 'z1', 's1'), capacity: 3 })
  const far = pod('far', { services: endpointOf('web', [[80, 9090]]) })
  const ill = pod('ill', { status: 'Unhealthy' })
  const loadBalancer: LoadBalancer = {
    mode: 'Failover',
    routingPreferences: ['Region'],
    healthPolicy: 'OnlyHealthy'
  }
  const web = service({ name: 'web', loadBalancer })
  const store = storeOf({ services: [web], workloads: [source, near, far, ill] })
  const listed = (port: number): string[] =>
    usableEndpoints(store.view(), web, port, source)
      .map(({ workload, port, capacity }) => `${workload.name}:${port} x${capacity}`)
      .toSorted()
  t.strictSame(listed(80), ['far:9090 x1', 'near:8080 x3'])
  t.strictSame(listed(81), [], 'a port that it does not have')
  const again = usableEndpoints(store.view(), web, 80, source)
  t.equal(usableEndpoints(store.view(), web, 80, source), again, 'the same while nothing changes')
})

t.test('the load that is asked for is that of the port that the endpoint has', async t => {
  const asked = new Set<string>()
  const load = (uid: string, port: number): number => {
    asked.add(`${uid}:${port}`)
    return 0
  }
  const pods = [pod('a'), pod('b', { services: endpointOf('web', [[80, 9090]]) })]
  everyone({ pods, context: { loadBalancing: 'least-request', load } })
  t.strictSame([...asked].map(each => each.replace(/^.*\//, '')).toSorted(), ['a:8080', 'b:9090'])
})
