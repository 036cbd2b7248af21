import t from 'tap'
import { WeightedRows } from '../../../waypoint/balancing/weighted-rows.ts'

const weights = Float64Array.of(1, 2, 0, 1)

t.test('a chance falls into the part of one row', async t => {
  const rows = new WeightedRows(weights)
  const table: readonly (readonly [chance: number, row: number])[] = [
    [0, 0],
    [0.2499, 0],
    [0.25, 1],
    [0.7499, 1],
    [0.75, 3],
    [0.9999, 3]
  ]
  for (const [chance, row] of table) t.equal(rows.draw(chance), row, `${chance}`)
})

t.test('another row than the first, by weight among the others', async t => {
  const rows = new WeightedRows(weights)
  const table: readonly (readonly [first: number, chance: number, row: number])[] = [
    [0, 0, 1],
    [0, 0.66, 1],
    [0, 0.67, 3],
    [1, 0.49, 0],
    [1, 0.5, 3],
    [3, 0.3, 0],
    [3, 0.9999, 1]
  ]
  for (const [first, chance, row] of table)
    t.equal(rows.drawOther(chance, first), row, `${chance} beside ${first}`)
})

t.test('there is no other', async t => {
  t.equal(new WeightedRows(Float64Array.of(2)).drawOther(0.5, 0), -1)
  t.equal(new WeightedRows(Float64Array.of(2, 0)).drawOther(0.5, 0), -1)
})

t.test('never the same, whatever fractions add up to', async t => {
  const rows = new WeightedRows(Float64Array.from({ length: 100 }, (_, row) => 0.1 + row / 7))
  const wrong: string[] = []
  for (let first = 0; first < 100; first += 1) {
    for (const chance of [0, 0.1, 1 / 3, 0.7, 1 - 2 ** -53]) {
      const other = rows.drawOther(chance, first)
      if (other === first || other < 0 || other > 99) wrong.push(`${chance} beside ${first}: ${other}`)
    }
  }
  t.strictSame(wrong, [])
})

t.test('weights change', async t => {
  const rows = new WeightedRows(weights)
  rows.weigh(Float64Array.of(0, 0, 1, 0))
  t.equal(rows.draw(0), 2)
  t.equal(rows.draw(0.99), 2)
})
