import t from 'tap'
import { matches } from '../../../shared/kube/label-selector.ts'

t.test('operators of selectors', async t => {
  const labels = { tier: 'web' }
  const rows: readonly [string, 'In' | 'NotIn' | 'Exists' | 'DoesNotExist', string[], boolean][] = [
    ['tier', 'In', ['web', 'api'], true],
    ['tier', 'In', ['api'], false],
    ['tier', 'NotIn', ['web'], false],
    ['other', 'NotIn', ['web'], true],
    ['tier', 'Exists', [], true],
    ['other', 'Exists', [], false],
    ['tier', 'DoesNotExist', [], false],
    ['other', 'DoesNotExist', [], true]
  ]
  for (const [key, operator, values, expected] of rows) {
    t.equal(
      matches({ matchExpressions: [{ key, operator, values }] }, labels),
      expected,
      `${key} ${operator}`
    )
  }
  t.ok(matches({}, {}), 'an empty one matches everything')
  const both = {
    matchLabels: { tier: 'web' },
    matchExpressions: [{ key: 'other', operator: 'Exists' as const }]
  }
  t.notOk(matches(both, labels), 'labels and expressions both have to match')
  t.ok(matches(both, { ...labels, other: '' }))
})
