import t from 'tap'
import { Balancer } from '../../../waypoint/balancing/balancer.ts'
import { warmth } from '../../../waypoint/balancing/warmup.ts'
import type { Balancing } from '../../../waypoint/traffic-policy.ts'
import { counts, endpoint, endpoints, percents, place, policyOf, request } from './world.ts'

t.test('the part of its share that a new pod takes', async t => {
  const minute = { durationMs: 60_000, minimumPercent: 10, aggression: 1 }
  const table: readonly (readonly [name: string, warmup: typeof minute, ageMs: number, expected: number])[] =
    [
      ['the minimum at first', minute, 0, 0.1],
      ['until time has caught up with it', minute, 6000, 0.1],
      ['then by time', minute, 15_000, 0.25],
      ['half', minute, 30_000, 0.5],
      ['all of it at the end', minute, 60_000, 1],
      ['and for good', minute, 6e9, 1],
      ['without a minimum the first second counts at once', { ...minute, minimumPercent: 0 }, 0, 1 / 60],
      ['and as long as it lasts', { ...minute, minimumPercent: 0 }, 999, 1 / 60],
      ['faster at the beginning: the root of a quarter', { ...minute, aggression: 2 }, 15_000, 0.5],
      ['slower at the beginning: the square of a half', { ...minute, aggression: 0.5 }, 30_000, 0.25],
      ['a minimum of everything', { ...minute, minimumPercent: 100 }, 0, 1],
      [
        'next to nothing, but never nothing',
        { ...minute, minimumPercent: 0, aggression: 1e-4 },
        30_000,
        0.001
      ],
      ['shorter than a second', { ...minute, durationMs: 500 }, 0, 1]
    ]
  for (const [name, warmup, ageMs, expected] of table) {
    t.equal(Math.round(warmth(warmup, ageMs) * 1e9), Math.round(expected * 1e9), name)
  }
})

for (const kind of ['least-request', 'round-robin'] as const) {
  t.test(`${kind}: a new pod beside three takes more and more`, async t => {
    const balancing: Balancing = { kind, warmup: { durationMs: 60_000, minimumPercent: 10, aggression: 1 } }
    const balancer = new Balancer(policyOf(balancing), place(''))
    balancer.update(endpoints(3), 0)
    const together = Object.values(percents(counts(balancer, 30_000, { now: 1000 })))
    t.ok(
      together.every(percent => Math.abs(percent - 33) <= 1),
      `who is new together is alike: ${together.join()}`
    )
    balancer.update([...endpoints(3), endpoint('young')], 100_000)
    const curve = [0, 15_000, 30_000, 45_000, 60_000, 90_000].map(
      age => percents(counts(balancer, 40_000, { now: 100_000 + age }))['young']
    )
    // Of 3.1, 3.25, 3.5, 3.75, 4 and 4: 3.2, 7.7, 14.3, 20, 25 and 25 %.
    t.strictSame(curve, [3, 8, 14, 20, 25, 25])

    balancer.update(endpoints(3), 200_000)
    balancer.update([...endpoints(3), endpoint('young')], 201_000)
    t.equal(percents(counts(balancer, 40_000, { now: 201_000 }))['young'], 3, 'who comes back is new')
  })
}

t.test('round robin: who began with next to nothing does not wait for a turn of that time', async t => {
  const warmup = { durationMs: 86_400_000, minimumPercent: 0, aggression: 1 }
  const balancer = new Balancer(policyOf({ kind: 'round-robin', warmup }), place(''))
  balancer.update(endpoints(3), 0)
  balancer.choose(request({ now: 86_400_000 }))
  balancer.update([...endpoints(3), endpoint('young')], 86_400_000)
  counts(balancer, 10, { now: 86_400_000 }) // a turn in a thousand
  const later = { now: 86_400_000 + 43_200_000 }
  t.equal(percents(counts(balancer, 1000, later))['young'], 14, 'half a share')
})
