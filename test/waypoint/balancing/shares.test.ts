import t from 'tap'
import {
  availability,
  indexByShare,
  sharesByPriority,
  sharesByWeight
} from '../../../waypoint/balancing/shares.ts'

t.test('a group takes its share until more than two of seven are out of use', async t => {
  const table: readonly (readonly [usable: number, total: number, expected: number])[] = [
    [10, 10, 1],
    [8, 10, 1], // 1.12
    [5, 7, 1], // 1.0 exactly
    [7, 10, 0.98],
    [5, 10, 0.7],
    [1, 10, 0.14],
    [0, 10, 0],
    [0, 0, 0]
  ]
  for (const [usable, total, expected] of table) {
    t.equal(round(availability(usable, total)), expected, `${usable} of ${total}`)
  }
})

t.test('by priority: what the first cannot take is the next one’s', async t => {
  const table: readonly (readonly [
    name: string,
    available: readonly number[],
    expected: readonly number[]
  ])[] = [
    ['one group takes all', [1], [1]],
    ['also where hardly any of it is left', [0.14], [1]],
    ['the first alone', [1, 1, 1], [1, 0, 0]],
    ['half of the first is out of use', [0.7, 1], [0.7, 0.3]],
    ['the third comes after the second', [0.7, 0.14, 1], [0.7, 0.14, 0.16]],
    ['the first is gone', [0, 1], [0, 1]],
    ['both are ill in the same way', [0.35, 0.35], [0.5, 0.5]], // 35 of 70
    ['all of them are ill', [0.28, 0.14, 0.14], [0.5, 0.25, 0.25]], // of 56
    ['together more than enough', [0.7, 0.7], [0.7, 0.3]],
    ['nobody', [0, 0], [0, 0]],
    ['no group', [], []]
  ]
  for (const [name, available, expected] of table) {
    t.strictSame(sharesByPriority(available).map(round), expected, name)
  }
})

t.test('by weight: what is out of use goes to the others', async t => {
  const table: readonly (readonly [
    name: string,
    available: readonly number[],
    weights: readonly number[],
    expected: readonly number[]
  ])[] = [
    ['all well', [1, 1], [80, 20], [0.8, 0.2]],
    ['weights need not add up to 100', [1, 1], [3, 1], [0.75, 0.25]],
    ['half of the heavy one is out of use', [0.7, 1], [80, 20], [0.7368, 0.2632]], // 56 of 76, 20 of 76
    ['one is gone', [0, 1], [80, 20], [0, 1]],
    ['nobody', [0, 0], [80, 20], [0, 0]]
  ]
  for (const [name, available, weights, expected] of table) {
    t.strictSame(sharesByWeight(available, weights).map(round), expected, name)
  }
})

t.test('a chance falls into one share', async t => {
  const table: readonly (readonly [shares: readonly number[], chance: number, expected: number])[] = [
    [[0.7, 0.3], 0, 0],
    [[0.7, 0.3], 0.699, 0],
    [[0.7, 0.3], 0.7, 1],
    [[0, 1], 0, 1],
    [[0.5, 0, 0.5], 0.5, 2],
    [[0.5, 0.4999], 0.99999, 1], // what is missing belongs to the last
    [[1, 0], 0.9999, 0],
    [[0, 0], 0.5, 0]
  ]
  for (const [shares, chance, expected] of table) {
    t.equal(indexByShare(shares, chance), expected, `${chance} in ${shares.join()}`)
  }
})

function round(number: number): number {
  return Math.round(number * 1e4) / 1e4
}
