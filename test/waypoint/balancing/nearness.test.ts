import t from 'tap'
import type { LoadBalancer } from '../../../shared/mesh/model.ts'
import type { Endpoint, Place } from '../../../waypoint/balancing/endpoint.ts'
import { groupsOf } from '../../../waypoint/balancing/nearness.ts'
import type { LocalityPolicy } from '../../../waypoint/traffic-policy.ts'
import { endpoint, outliers, place } from './world.ts'

const here = place('r1/z1/s1', { network: 'n1', node: 'node-1' })

/** By name what differs from us. */
const everywhere: readonly Endpoint[] = [
  endpoint('far', { at: 'r3/z1/s1', network: 'n1' }),
  endpoint('neighbour', { at: 'r2/z1/s1', network: 'n1' }),
  endpoint('region', { at: 'r1/z2/s1', network: 'n1' }),
  endpoint('zone', { at: 'r1/z1/s2', network: 'n1' }),
  endpoint('subzone', { at: 'r1/z1/s1', network: 'n1' })
]

interface Given {
  readonly locality: LocalityPolicy | undefined
  readonly detects?: boolean
  readonly pods?: readonly Endpoint[]
  readonly service?: LoadBalancer
  readonly from?: Place
}

function grouped({ locality, detects = true, pods = everywhere, service, from = here }: Given): string {
  const policy = { locality, outliers: detects ? outliers : undefined }
  const { by, groups } = groupsOf(pods, policy, from, service)
  const named = groups.map(({ endpoints, weight }) => {
    const names = endpoints.map(({ workload: { name } }) => name).join('+')
    return by === 'weight' ? `${names}:${weight}` : names
  })
  return named.join(by === 'priority' ? ' > ' : ' | ')
}

const together = 'far+neighbour+region+zone+subzone'
const failover = (...pairs: readonly (readonly [string, string])[]): LocalityPolicy => ({
  kind: 'failover',
  failover: pairs.map(([from, to]) => ({ from, to }))
})
const distribute = (
  ...rules: readonly (readonly [from: string, to: Readonly<Record<string, number>>])[]
): LocalityPolicy => ({
  kind: 'distribute',
  rules: rules.map(([from, to]) => ({ from, to: Object.entries(to) }))
})
const labels = (...names: readonly string[]): LocalityPolicy => ({ kind: 'labels', labels: names })
const serviceSays = (
  mode: LoadBalancer['mode'],
  ...routingPreferences: LoadBalancer['routingPreferences']
): LoadBalancer => ({ mode, routingPreferences, healthPolicy: 'OnlyHealthy' })

const versions: readonly Endpoint[] = [
  endpoint('a', { labels: { version: 'v1', track: 'canary' } }),
  endpoint('b', { labels: { version: 'v1' } }),
  endpoint('c', { labels: { track: 'canary' } }),
  endpoint('d')
]
const v1 = place('', {
  labels: new Map([
    ['version', 'v1'],
    ['track', 'canary']
  ])
})

const situations: readonly (readonly [name: string, given: Given, expected: string])[] = [
  ['nothing said, nobody found ill: all are alike', { locality: undefined, detects: false }, together],
  [
    'nothing said: the nearest first where ill ones are found',
    { locality: undefined },
    'subzone > zone > region > far+neighbour'
  ],
  ['off', { locality: { kind: 'off' } }, together],
  ['failover needs to know who is ill', { locality: failover(), detects: false }, together],
  ['failover by nearness', { locality: failover() }, 'subzone > zone > region > far+neighbour'],
  [
    'a region that is named for ours comes before others',
    { locality: failover(['r1', 'r2']) },
    'subzone > zone > region > neighbour > far'
  ],
  [
    'several in their order',
    { locality: failover(['r1', 'r3'], ['r1', 'r2']) },
    'subzone > zone > region > far > neighbour'
  ],
  [
    'what is named for another region is not for us',
    { locality: failover(['r2', 'r3']) },
    'subzone > zone > region > far+neighbour'
  ],
  [
    'a zone of the same name in another region is not ours',
    {
      locality: failover(),
      pods: [
        endpoint('other', { at: 'r2/z1', network: 'n1' }),
        endpoint('near', { at: 'r1/z9', network: 'n1' })
      ]
    },
    'near > other'
  ],
  [
    'any of our network comes before any of another',
    {
      locality: failover(['r1', 'r2']),
      pods: [
        ...everywhere,
        endpoint('away', { at: 'r1/z1/s1', network: 'n2' }),
        endpoint('farther', { at: 'r9', network: 'n2' })
      ]
    },
    'subzone > zone > region > neighbour > far > away > farther'
  ],
  [
    'groups without anybody are left out, as is who weighs nothing',
    {
      locality: failover(),
      pods: [endpoint('idle', { at: 'r1/z1/s1', network: 'n1', weight: 0 }), ...everywhere.slice(0, 1)]
    },
    'far'
  ],
  ['nobody at all', { locality: failover(), pods: [] }, ''],

  [
    'labels: who agrees in all of them first',
    { locality: labels('version', 'track'), pods: versions, from: v1 },
    'a > b > c+d'
  ],
  ['from the first on', { locality: labels('track', 'version'), pods: versions, from: v1 }, 'a > c > b+d'],
  ['with a value of their own', { locality: labels('version='), pods: versions, from: v1 }, 'c+d > a+b'],
  [
    'a value, though we have none',
    { locality: labels('version=v1'), pods: versions, from: place('') },
    'a+b > c+d'
  ],
  [
    'what both lack they agree in',
    { locality: labels('absent', 'version'), pods: versions, from: v1 },
    'a+b > c+d'
  ],
  [
    'labels need to know who is ill',
    { locality: labels('version'), pods: versions, from: v1, detects: false },
    'a+b+c+d'
  ],
  [
    'labels of places',
    {
      locality: labels(
        'topology.kubernetes.io/region',
        'topology.kubernetes.io/zone',
        'topology.istio.io/subzone'
      )
    },
    'subzone > zone > region > far+neighbour'
  ],
  [
    'labels of the network, the cluster and the node',
    {
      locality: labels('topology.istio.io/network', 'topology.istio.io/cluster', 'kubernetes.io/hostname'),
      pods: [
        endpoint('away', { network: 'n2', node: 'node-1' }),
        endpoint('near', { network: 'n1', node: 'node-2' }),
        endpoint('same', { network: 'n1', node: 'node-1' })
      ]
    },
    'same > near > away'
  ],

  [
    'distribute by the first rule for us; the rest takes nothing',
    {
      locality: distribute(
        ['r9/*', { 'r1/*': 1 }],
        ['r1/z1/*', { 'r1/z1/*': 80, 'r2/*': 20 }],
        ['*', { '*': 1 }]
      )
    },
    'zone+subzone:80 | neighbour:20'
  ],
  [
    'it needs nobody to be found ill',
    { locality: distribute(['r1', { r1: 70, r3: 30 }]), detects: false },
    'region+zone+subzone:70 | far:30'
  ],
  ['a place in full', { locality: distribute(['r1/z1/s1', { 'r1/z1/s2': 1 }]) }, 'zone:1'],
  [
    'a star in the middle',
    { locality: distribute(['*', { 'r1/*/s1': 1, '*': 2 }]) },
    'region+subzone:1 | far+neighbour+zone:2'
  ],
  [
    'who is in two places is in the first',
    { locality: distribute(['*', { 'r1/z1': 60, r1: 40 }]) },
    'zone+subzone:60 | region:40'
  ],
  ['weight 0 takes nothing', { locality: distribute(['*', { r1: 0, r2: 5 }]) }, 'neighbour:5'],
  ['no rule for us: all are alike', { locality: distribute(['r2', { r2: 100 }]) }, together],

  [
    'what the Service says holds where the policy says nothing',
    { locality: undefined, detects: false, service: serviceSays('Failover', 'Network', 'Region', 'Zone') },
    'zone+subzone > region > far+neighbour'
  ],
  [
    'our network first, then what else it prefers',
    {
      locality: undefined,
      service: serviceSays('Failover', 'Network', 'Region'),
      pods: [
        endpoint('away', { at: 'r1', network: 'n2' }),
        endpoint('farther', { at: 'r2', network: 'n2' }),
        endpoint('far', { at: 'r2', network: 'n1' })
      ]
    },
    'far > away > farther'
  ],
  [
    'the policy is stronger',
    { locality: { kind: 'off' }, service: serviceSays('Failover', 'Region') },
    together
  ],
  [
    'a Service of the same zone only stays so',
    { locality: { kind: 'off' }, service: serviceSays('Strict', 'Region', 'Zone') },
    'zone+subzone'
  ],
  [
    'a Service that says nothing',
    { locality: undefined, service: serviceSays('Standard') },
    'subzone > zone > region > far+neighbour'
  ]
]
for (const [name, given, expected] of situations) {
  t.test(name, async t => {
    t.equal(grouped(given), expected)
  })
}
