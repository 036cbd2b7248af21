/** Token buckets against simulated time. */
import t from 'tap'
import { Buckets } from '../../../waypoint/rate-limit/buckets.ts'

const takes = (buckets: Buckets, key: string, now: number, tries: number): number =>
  Array.from({ length: tries }, () => buckets.take(key, now)).filter(Boolean).length

t.test('a bucket begins full, gives no more than it holds, and fills evenly', async t => {
  for (const [rate, steps] of [
    [
      { requests: 10, perMs: 1000, burst: 10 },
      [
        [0, 10],
        [0, 0],
        [99, 0],
        [100, 1],
        [450, 3],
        [500, 1],
        [60_000, 10]
      ]
    ],
    [
      { requests: 1, perMs: 60_000, burst: 3 },
      [
        [5, 3],
        [60_004, 0],
        [60_005, 1],
        [180_005, 2]
      ]
    ],
    [
      { requests: 100, perMs: 1000, burst: 1 },
      [
        [0, 1],
        [9, 0],
        [10, 1]
      ]
    ]
  ] as const) {
    const buckets = new Buckets(rate)
    for (const [now, expected] of steps) {
      t.equal(takes(buckets, 'k', now, 20), expected, `${JSON.stringify(rate)} at ${now} ms`)
    }
  }
})

t.test('fractions of a millisecond cost nobody a request', async t => {
  const rate = { requests: 3, perMs: 1000, burst: 3 }
  const buckets = new Buckets(rate)
  let now = 8_640_000_000.1 // a hundred days after the start
  for (let round = 0; round < 100; round++, now += 1000) t.equal(takes(buckets, 'k', now, 5), 3)
})

t.test('over a long time as many pass as the rate says, whatever the moments at which they come', async t => {
  const buckets = new Buckets({ requests: 7, perMs: 1000, burst: 20 })
  let [now, passed, state] = [0, 0, 1]
  while (now < 100_000) {
    state = (state * 48_271) % 2_147_483_647
    now += state % 40
    if (buckets.take('k', now)) passed += 1
  }
  t.ok(passed >= 700 && passed <= 721, `${passed} in 100 s`)
})

t.test('the level tells what may come, and when', async t => {
  const buckets = new Buckets({ requests: 2, perMs: 1000, burst: 2 })
  t.match(buckets.level('k', 0), { remaining: 2, waitMs: 0, fullMs: 0 })
  takes(buckets, 'k', 0, 1)
  t.match(buckets.level('k', 0), { remaining: 1, waitMs: 0, fullMs: 500 })
  takes(buckets, 'k', 0, 1)
  const { remaining, waitMs, fullMs } = buckets.level('k', 100)
  t.strictSame([remaining, Math.round(waitMs), fullMs], [0, 400, 900])
})

t.test(
  'keys have buckets of their own; of too many the one that was used longest ago begins again',
  async t => {
    const buckets = new Buckets({ requests: 1, perMs: 3_600_000, burst: 1 }, 3)
    for (const key of ['a', 'b', 'c']) t.equal(takes(buckets, key, 0, 2), 1, key)
    buckets.level('a', 1) // asks in vain, and is not forgotten for it
    t.equal(takes(buckets, 'd', 2, 2), 1)
    t.equal(buckets.size, 3)
    t.equal(takes(buckets, 'a', 3, 1), 0)
    t.equal(takes(buckets, 'b', 3, 1), 1, 'dropped: full again')
    for (let key = 0; key < 1000; key++) buckets.take(String(key), 4)
    t.equal(buckets.size, 3)
  }
)
