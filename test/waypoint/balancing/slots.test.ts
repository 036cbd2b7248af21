import t from 'tap'
import { hashOf } from '../../../shared/mesh/hash.ts'
import type { Endpoint } from '../../../waypoint/balancing/endpoint.ts'
import { byName, slotsOf, type Slots } from '../../../waypoint/balancing/slots.ts'
import type { HashTable } from '../../../waypoint/traffic-policy.ts'
import { chiSquare, endpoint, endpoints } from './world.ts'

const keys = Array.from({ length: 20_000 }, (_, index) => hashOf(`user-${index}`))
const ring = (minimumSize: number): HashTable => ({ kind: 'ring', minimumSize })
const maglev = (size: number): HashTable => ({ kind: 'maglev', size })

function tableOf(
  table: HashTable,
  pods: readonly Endpoint[]
): { slots: Slots; owner: (key: number) => string } {
  const sorted = pods.toSorted(byName)
  const slots = slotsOf(table, sorted)
  return { slots, owner: key => sorted[slots.rows[slots.slotOf(key)] ?? -1]?.workload.name ?? 'nobody' }
}

function sharesOf(table: HashTable, pods: readonly Endpoint[]): Map<string, number> {
  const { owner } = tableOf(table, pods)
  const found = new Map<string, number>()
  for (const key of keys) found.set(owner(key), (found.get(owner(key)) ?? 0) + 1)
  return found
}

t.test('a ring has at least the points that were asked for, and whole ones for the lightest', async t => {
  const sizes: readonly (readonly [
    name: string,
    minimumSize: number,
    pods: readonly Endpoint[],
    expected: number
  ])[] = [
    ['1024 by four', 1024, endpoints(4), 1024],
    ['1024 by three: 342 each', 1024, endpoints(3), 1026],
    ['more pods than points: one each', 1024, endpoints(2000), 2000],
    ['of 1 and 3: 2.5, so 3 and 9', 10, endpoints(2, index => index * 2 + 1), 12],
    ['one pod', 1, endpoints(1), 1],
    ['as large as that', 100_000, endpoints(7), 100_002],
    [
      'not larger for a very light one: a million, and one point for it',
      1024,
      endpoints(2, index => (index === 0 ? 1 : 1e9)),
      1_048_577
    ],
    ['of 0.5 and 1.5', 8, endpoints(2, index => index + 0.5), 8]
  ]
  for (const [name, minimumSize, pods, expected] of sizes) {
    t.equal(tableOf(ring(minimumSize), pods).slots.rows.length, expected, name)
  }
})

t.test('a key belongs to the next point, after the last to the first', async t => {
  const { slots } = tableOf(ring(8), endpoints(2))
  const found = Array.from({ length: 256 }, (_, index) => slots.slotOf(index * 2 ** 24))
  t.strictSame(
    found.slice(0, found.lastIndexOf(7) + 1),
    found.slice(0, found.lastIndexOf(7) + 1).toSorted((a, b) => a - b)
  )
  t.strictSame(
    [...new Set(found)].toSorted((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6, 7]
  )
  t.equal(slots.slotOf(2 ** 32 - 1), 0)
})

t.test('Maglev: every slot has an owner, by weight', async t => {
  const table: readonly (readonly [size: number, pods: readonly Endpoint[], expected: readonly number[]])[] =
    [
      [7, endpoints(1), [7]],
      [7, endpoints(3), [3, 2, 2]],
      [65_537, endpoints(4), [16_385, 16_384, 16_384, 16_384]],
      [11, endpoints(2, index => index * 9 + 1), [1, 10]], // of 1.1 and 9.9
      [2, endpoints(2), [1, 1]]
    ]
  for (const [size, pods, expected] of table) {
    const { slots } = tableOf(maglev(size), pods)
    t.equal(slots.rows.length, size)
    t.strictSame(
      pods.map((_, row) => slots.rows.filter(owner => owner === row).length),
      expected,
      `${size} slots`
    )
  }
  const crowded = tableOf(maglev(7), endpoints(10)).slots.rows
  t.equal(new Set(crowded).size, 7, 'with more pods than slots some have none')
})

t.test('keys are spread as weights say', async t => {
  const pods = endpoints(10, index => (index % 2) + 1)
  const expected = new Map(pods.map(({ workload: { name }, weight }) => [name, (20_000 / 15) * weight]))
  t.ok(chiSquare(sharesOf(maglev(65_537), pods), expected) < 27.9, 'Maglev: as if by chance')
  for (const [name, count] of sharesOf(ring(65_536), pods)) {
    const share = count / (expected.get(name) ?? 0)
    t.ok(Math.abs(share - 1) < 0.08, `ring: ${name} has ${share} of its part`)
  }
})

t.test('a pod that comes or goes moves few other keys than its own', async t => {
  const before = endpoints(20)
  const changes: readonly (readonly [name: string, after: readonly Endpoint[]])[] = [
    ['one goes', before.filter((_, index) => index !== 7)],
    ['one comes', [...before, endpoint('new')]]
  ]
  const most: readonly (readonly [HashTable, number])[] = [
    [ring(1024), 0.05], // 52 points each become 54 or 49
    [ring(10), 0], // one each, before and after
    [maglev(65_537), 0.02]
  ]
  for (const [table, allowed] of most) {
    for (const [name, after] of changes) {
      const [old, fresh] = [tableOf(table, before), tableOf(table, after)]
      const moved = keys.filter(key => old.owner(key) !== fresh.owner(key))
      const others = moved.filter(key => old.owner(key) !== 'pod-7' && fresh.owner(key) !== 'new')
      t.ok(others.length <= allowed * keys.length, `${table.kind}, ${name}: ${others.length} of other pods`)
      t.ok(moved.length > 0 && moved.length < 0.1 * keys.length, `${moved.length} in all`)
    }
  }
})
