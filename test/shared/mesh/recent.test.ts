import t from 'tap'
import { Recent } from '../../../shared/mesh/recent.ts'

t.test('what is in use stays, what is not goes, and there are never more than twice the limit', async t => {
  const recent = new Recent<number, string>(100)
  for (let key = 0; key < 10_000; key += 1) {
    recent.set(key, `v${key}`)
    if (key % 50 === 0) t.equal(recent.get(0), 'v0', 'asked for every fifty others')
    if (recent.size > 200) t.fail(`${recent.size} values`)
  }
  t.equal(recent.get(9999), 'v9999')
  t.equal(recent.get(5000), undefined)
  recent.delete(9999)
  recent.delete(0)
  t.equal(recent.get(9999), undefined)
  t.equal(recent.get(0), undefined)
})
