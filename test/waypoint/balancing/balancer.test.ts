import t from 'tap'
import { Balancer } from '../../../waypoint/balancing/balancer.ts'
import type { Endpoint } from '../../../waypoint/balancing/endpoint.ts'
import { byName, slotsOf } from '../../../waypoint/balancing/slots.ts'
import type { Balancing, LocalityPolicy } from '../../../waypoint/traffic-policy.ts'
import {
  chiSquare,
  counts,
  endpoint,
  endpoints,
  leastRequest,
  nameOf,
  outliers,
  percents,
  place,
  policyOf,
  random,
  request,
  roundRobin,
  seeded,
  without
} from './world.ts'

const ring = {
  kind: 'consistent-hash',
  key: { from: 'source-ip' },
  table: { kind: 'ring', minimumSize: 1024 }
} as const
const maglev = {
  kind: 'consistent-hash',
  key: { from: 'source-ip' },
  table: { kind: 'maglev', size: 65_537 }
} as const
const kinds: readonly (readonly [name: string, balancing: Balancing])[] = [
  ['least-request', leastRequest],
  ['round-robin', roundRobin],
  ['random', random],
  ['ring', ring],
  ['maglev', maglev]
]

function balancerOf(balancing: Balancing, pods: readonly Endpoint[]): Balancer {
  const balancer = new Balancer(policyOf(balancing), place(''))
  balancer.update(pods, 0)
  return balancer
}

for (const [name, balancing] of kinds) {
  t.test(name, async t => {
    t.test('shares are as weights say while nobody is busy', async t => {
      const balancer = balancerOf(
        balancing,
        endpoints(10, index => (index % 2) * 3 + 1)
      )
      const expected = new Map(
        Array.from({ length: 10 }, (_, index) => [`pod-${index}`, index % 2 === 0 ? 1000 : 4000])
      )
      // For 10 names chance alone stays below 27.9 in 999 of 1000 runs; this one is always the same.
      t.ok(chiSquare(counts(balancer, 25_000), expected) < 27.9)
    })

    t.test('who weighs nothing takes nothing, nobody is chosen of none', async t => {
      const idle = endpoint('idle', { weight: 0 })
      t.strictSame(percents(counts(balancerOf(balancing, [idle, endpoint('a')]), 100)), { a: 100 })
      t.equal(balancerOf(balancing, [idle]).choose(request()), undefined)
      t.equal(balancerOf(balancing, []).choose(request()), undefined)
      t.equal(
        new Balancer(policyOf(balancing), place('')).choose(request()),
        undefined,
        'before any is known'
      )
    })

    t.test('who cannot be used is not, however many they are', async t => {
      const balancer = balancerOf(balancing, endpoints(4))
      const usable = without('pod-1', 'pod-2')
      t.strictSame(percents(counts(balancer, 20_000, { usable })), { 'pod-0': 50, 'pod-3': 50 })
      const many = balancerOf(
        balancing,
        endpoints(1000, index => (index < 999 ? 1000 : 1))
      )
      const last = ({ workload }: Endpoint): boolean => workload.name === 'pod-999'
      t.strictSame(percents(counts(many, 20, { usable: last })), { 'pod-999': 100 })
      t.equal(balancer.choose(request({ usable: () => false })), undefined)
    })

    t.test('those that were tried are avoided while there are others', async t => {
      const pods = endpoints(3)
      const balancer = balancerOf(balancing, pods)
      const tried = (...numbers: readonly number[]): Set<string> =>
        new Set(numbers.map(number => pods[number]?.workload.uid ?? ''))
      t.strictSame(percents(counts(balancer, 100, { tried: tried(0, 2) })), { 'pod-1': 100 })
      t.equal(Object.keys(percents(counts(balancer, 100, { tried: tried(0, 1, 2) }))).length, 3)
      t.strictSame(percents(counts(balancer, 100, { tried: tried(1), usable: without('pod-0', 'pod-2') })), {
        'pod-1': 100
      })
    })

    t.test('members come and go', async t => {
      const balancer = balancerOf(balancing, endpoints(3))
      counts(balancer, 10)
      balancer.update([endpoint('pod-1'), endpoint('new')], 1000)
      t.strictSame(Object.keys(percents(counts(balancer, 1000, { now: 1000 }))), ['new', 'pod-1'])
      balancer.update([endpoint('pod-1', { weight: 3 }), endpoint('new')], 2000)
      const { 'pod-1': heavy = 0 } = percents(counts(balancer, 10_000, { now: 2000 }))
      t.ok(Math.abs(heavy - 75) <= 1, 'a weight that changed counts')
      balancer.update([], 3000)
      t.equal(balancer.choose(request({ now: 3000 })), undefined)
      balancer.update(endpoints(1), 4000)
      t.equal(nameOf(balancer.choose(request({ now: 4000 }))), 'pod-0')
    })

    t.test('the endpoint given last is the one that is chosen', async t => {
      const balancer = balancerOf(balancing, [endpoint('a')])
      const fresh = endpoint('a', { at: 'r1' })
      balancer.update([fresh], 1)
      t.equal(balancer.choose(request({ hash: 7 })), fresh)
    })
  })
}

t.test('least request takes the less busy of two', async t => {
  const busy = new Map([
    ['pod-0', 5],
    ['pod-1', 2]
  ])
  const active = ({ workload }: Endpoint): number => busy.get(workload.name) ?? 0
  t.strictSame(percents(counts(balancerOf(leastRequest, endpoints(2)), 1000, { active })), { 'pod-1': 100 })
  t.strictSame(
    Object.keys(percents(counts(balancerOf(leastRequest, endpoints(4)), 1000, { active }))),
    ['pod-1', 'pod-2', 'pod-3'],
    'the busiest of all never'
  )
})

t.test('least request counts load by weight', async t => {
  const pods = [endpoint('heavy', { weight: 3 }), endpoint('light')]
  const chosen = (heavy: number, light: number): string[] => {
    const active = ({ workload }: Endpoint): number => (workload.name === 'heavy' ? heavy : light)
    return Object.keys(percents(counts(balancerOf(leastRequest, pods), 100, { active })))
  }
  t.strictSame(chosen(5, 2), ['heavy'])
  t.strictSame(chosen(7, 2), ['light'])
  t.strictSame(chosen(6, 2), ['heavy', 'light'])
})

t.test('least request keeps a service even in which requests last', async t => {
  const active = new Map<string, number>()
  const balancer = balancerOf(
    leastRequest,
    endpoints(20, index => (index % 2) + 1)
  )
  const asked = request({ active: ({ workload }) => active.get(workload.name) ?? 0 })
  for (let time = 0; time < 3000; time += 1) {
    const name = nameOf(balancer.choose(asked))
    active.set(name, (active.get(name) ?? 0) + 1)
  }
  const loads = [...active].map(([name, count]) => count / ((Number(name.slice(4)) % 2) + 1))
  t.ok(Math.max(...loads) - Math.min(...loads) <= 8, `100 by weight each: ${loads.join()}`)
})

t.test('round robin takes turns, evenly spread by weight', async t => {
  const sequence = (balancer: Balancer, times: number, now = 0): string => {
    const asked = request({ random: () => 0, now })
    return Array.from({ length: times }, () => nameOf(balancer.choose(asked))).join(' ')
  }
  t.equal(
    sequence(balancerOf(roundRobin, [endpoint('a'), endpoint('b'), endpoint('c')]), 9),
    'a b c a b c a b c'
  )
  t.equal(
    sequence(balancerOf(roundRobin, [endpoint('a', { weight: 4 }), endpoint('b'), endpoint('c')]), 12),
    'a a b a a c a a b a a c'
  )
  const balancer = balancerOf(roundRobin, [endpoint('a'), endpoint('b'), endpoint('c')])
  t.equal(sequence(balancer, 1), 'a')
  balancer.update([endpoint('a'), endpoint('b'), endpoint('c'), endpoint('d')], 1)
  t.equal(sequence(balancer, 8, 1), 'b c a d b c a d', 'who stays goes on where it was')
  balancer.update([endpoint('c'), endpoint('d')], 2)
  t.equal(sequence(balancer, 4, 2), 'c d c d')
})

t.test('round robin begins somewhere else in each process', async t => {
  const first = new Set<string>()
  for (let seed = 0; seed < 50; seed += 1) {
    first.add(nameOf(balancerOf(roundRobin, endpoints(4)).choose(request({ random: seeded(seed) }))))
  }
  t.equal(first.size, 4)
})

t.test('a key has its pod while that one can be used', async t => {
  for (const balancing of [ring, maglev]) {
    const pods = endpoints(10)
    const balancer = balancerOf(balancing, pods)
    const replica = balancerOf(balancing, pods.toReversed())
    const wrong: string[] = []
    for (let key = 0; key < 200; key += 1) {
      const hash = Math.imul(key, 0x9e3779b1) >>> 0
      const chosen = balancer.choose(request({ hash }))
      const tried = new Set([chosen?.workload.uid ?? ''])
      if (balancer.choose(request({ hash, random: seeded(key) })) !== chosen) wrong.push(`${key} by chance`)
      if (replica.choose(request({ hash })) !== chosen) wrong.push(`${key} in another replica`)
      if (balancer.choose(request({ hash, tried })) !== chosen) wrong.push(`${key} at the second try`)
    }
    t.strictSame(wrong, [], balancing.table.kind)
  }
})

t.test('in place of one that cannot be used comes the next of the table', async t => {
  for (const [name, balancing] of [
    ['ring', ring],
    ['maglev', maglev]
  ] as const) {
    const pods = endpoints(10).toSorted(byName)
    const slots = slotsOf(balancing.table, pods)
    const { rows } = slots
    const balancer = balancerOf(balancing, pods)
    const wrong: number[] = []
    for (let key = 0; key < 200; key += 1) {
      const hash = Math.imul(key, 0x9e3779b1) >>> 0
      const slot = slots.slotOf(hash)
      const ill = rows[slot]
      const next = rows.subarray(slot).find(row => row !== ill) ?? rows.find(row => row !== ill) ?? -1
      const usable = without(nameOf(pods[ill ?? -1]))
      if (balancer.choose(request({ hash, usable })) !== pods[next]) wrong.push(key)
    }
    t.strictSame(wrong, [], name)
  }
})

t.test('a table is made anew only where members or weights changed', async t => {
  const table = { kind: 'maglev', size: 999_983 } as const
  const balancer = balancerOf({ ...ring, table }, endpoints(10))
  const timeOf = (pods: readonly Endpoint[]): number => {
    const start = performance.now()
    balancer.update(pods, 0)
    return performance.now() - start
  }
  const made = timeOf(endpoints(11))
  const kept = Math.min(...[1, 2, 3, 4, 5].map(() => timeOf(endpoints(11))))
  t.ok(kept < made / 10, `${kept} ms instead of ${made} ms`)
})

const threeZones = [
  ...Array.from({ length: 4 }, (_, index) => endpoint(`near-${index}`, { at: 'r1/z1' })),
  ...Array.from({ length: 4 }, (_, index) => endpoint(`zone-${index}`, { at: 'r1/z2' })),
  ...Array.from({ length: 4 }, (_, index) => endpoint(`far-${index}`, { at: 'r2/z1' }))
]

/** Percent of requests by the first part of names. */
function byPlace(
  balancing: Balancing,
  locality: LocalityPolicy | undefined,
  ill: readonly string[]
): Record<string, number> {
  const balancer = new Balancer(policyOf(balancing, locality, outliers), place('r1/z1'))
  balancer.update(threeZones, 0)
  const found = new Map<string, number>()
  const asked = { random: seeded(3), usable: without(...ill) }
  const sequence = seeded(4)
  for (let time = 0; time < 20_000; time += 1) {
    const hash = balancing.kind === 'consistent-hash' ? Math.floor(sequence() * 2 ** 32) : undefined
    const name = nameOf(balancer.choose(request({ ...asked, hash }))).replace(/-.*/, '')
    found.set(name, (found.get(name) ?? 0) + 1)
  }
  return percents(found)
}

const near = ['near-0', 'near-1', 'near-2', 'near-3']
const failover: LocalityPolicy = { kind: 'failover', failover: [] }
const distribute: LocalityPolicy = {
  kind: 'distribute',
  rules: [
    {
      from: '*',
      to: [
        ['r1/z1', 80],
        ['r2', 20]
      ]
    }
  ]
}

const spills: readonly (readonly [
  name: string,
  locality: LocalityPolicy | undefined,
  ill: readonly string[],
  expected: Record<string, number>
])[] = [
  ['all near ones while they are well', failover, [], { near: 100 }],
  ['three of four: 105 %', failover, near.slice(1, 2), { near: 100 }],
  ['two of four: 70 %', failover, near.slice(2), { near: 70, zone: 30 }],
  ['one of four: 35 %', undefined, near.slice(1), { near: 35, zone: 65 }],
  ['none: the next', failover, near, { zone: 100 }],
  [
    'then the one after it: 35 and 35 %, 30 % are left',
    failover,
    [...near.slice(1), 'zone-0', 'zone-1', 'zone-2'],
    { near: 35, zone: 35, far: 30 }
  ],
  ['off: all alike', { kind: 'off' }, [], { near: 33, zone: 33, far: 33 }],
  ['by weight of places', distribute, [], { near: 80, far: 20 }],
  ['of which half is ill: 56 to 20', distribute, near.slice(2), { near: 74, far: 26 }],
  ['of which one is ill in full', distribute, near, { far: 100 }]
]
for (const [name, balancing] of kinds) {
  t.test(`${name}: near ones first, others for what they lack`, async t => {
    const tolerance = name === 'ring' ? 4 : 1 // 1024 points are no more even than that
    for (const [situation, locality, ill, expected] of spills) {
      const found = byPlace(balancing, locality, ill)
      t.strictSame(Object.keys(found).toSorted(), Object.keys(expected).toSorted(), situation)
      for (const [where, percent] of Object.entries(expected)) {
        t.ok(
          Math.abs((found[where] ?? 0) - percent) <= tolerance,
          `${situation}: ${percent} % ${where}, ${found[where]}`
        )
      }
    }
  })
}

t.test('a place that fails between two counts is left at once', async t => {
  const balancer = new Balancer(policyOf(random, failover, outliers), place('r1/z1'))
  balancer.update(threeZones, 0)
  t.match(nameOf(balancer.choose(request())), /^near/)
  t.strictSame(
    [...counts(balancer, 100, { now: 1, usable: without(...near) }).keys()].filter(
      name => !name.startsWith('zone')
    ),
    []
  )
  const back = counts(balancer, 100, { now: 2 })
  t.ok(
    [...back.keys()].every(name => name.startsWith('near')),
    'and is there again'
  )
})

t.test('a hash says nothing where the policy does not hash', async t => {
  const balancer = new Balancer(policyOf(random, failover, outliers), place('r1/z1'))
  balancer.update(threeZones, 0)
  const found = counts(balancer, 2000, { hash: 7, usable: without(...near.slice(2)) })
  t.equal(found.size, 6)
})

t.test('members that changed count at once', async t => {
  const balancer = new Balancer(policyOf(random, failover, outliers), place('r1/z1'))
  balancer.update(threeZones, 0)
  counts(balancer, 10, { usable: without(...near.slice(1)) })
  balancer.update([...threeZones, endpoint('near-4', { at: 'r1/z1' })], 1)
  const found = counts(balancer, 1000, { now: 1 })
  t.ok([...found.keys()].every(name => name.startsWith('near')))
})

t.test('shares follow within half a second', async t => {
  const balancer = new Balancer(policyOf(random, failover, outliers), place('r1/z1'))
  balancer.update(threeZones, 0)
  balancer.choose(request())
  const usable = without(...near.slice(2))
  const far = (now: number): number =>
    [...counts(balancer, 1000, { now, usable })].reduce(
      (sum, [name, count]) => (name.startsWith('zone') ? sum + count : sum),
      0
    )
  t.equal(far(499), 0)
  t.ok(far(500) > 250)
})

t.test('a retry goes to another place rather than to the pod that was tried', async t => {
  const pods = [endpoint('near', { at: 'r1/z1' }), endpoint('far', { at: 'r2' })]
  const balancer = new Balancer(policyOf(leastRequest, failover, outliers), place('r1/z1'))
  balancer.update(pods, 0)
  const [first] = pods
  t.equal(nameOf(balancer.choose(request())), 'near')
  t.equal(nameOf(balancer.choose(request({ tried: new Set([first?.workload.uid ?? '']) }))), 'far')
})

t.test('a choice among ten thousand looks at a few', async t => {
  for (const [name, balancing] of kinds) {
    const balancer = balancerOf(
      balancing,
      endpoints(10_000, index => (index % 3) + 1)
    )
    let looks = 0
    const usable = (): boolean => {
      looks += 1
      return true
    }
    const chance = seeded(5)
    for (let time = 0; time < 1000; time += 1) {
      balancer.choose(request({ random: chance, usable, hash: Math.floor(chance() * 2 ** 32) }))
    }
    t.ok(looks <= 2000, `${name}: ${looks / 1000} on average`)
  }
})
