/** Label and field selectors. */
import t from 'tap'
import type { ApiObject } from '../../lab/api-store/object.ts'
import {
  formatLabelSelector,
  matchesSelector,
  parseFieldSelector,
  parseLabelSelector
} from '../../lab/api-store/selectors.ts'

t.test('label selectors choose as kubectl -l does', async t => {
  const labels = { app: 'web', 'example.org/tier': 'front', empty: '', size: '5' }
  const cases: readonly [string, boolean][] = [
    ['', true],
    ['app=web', true],
    ['app==web', true],
    ['app=api', false],
    ['app!=api', true],
    ['other!=x', true],
    ['app', true],
    ['other', false],
    ['!other', true],
    ['! other', true],
    ['!app', false],
    ['empty=', true],
    ['empty', true],
    ['example.org/tier=front', true],
    ['app in (web,api)', true],
    ['app in (api)', false],
    ['app notin (api, db)', true],
    ['other notin (x)', true],
    ['app in (web),example.org/tier=front,!other', true],
    ['app in (web),example.org/tier=back', false],
    ['size>4', true],
    ['size<5', false],
    ['toString', false],
    ['constructor!=x', true]
  ]
  for (const [selector, expected] of cases) t.equal(parseLabelSelector(selector)(labels), expected, selector)
  for (const wrong of [
    'a b',
    'app=a=b',
    'app in web',
    'app in (web',
    '=x',
    'a!',
    'app in (a b)',
    '-a',
    'app=-x'
  ]) {
    t.throws(() => parseLabelSelector(wrong), { code: 400 }, wrong)
  }
})

t.test('selectors of specs choose by labels and expressions', async t => {
  const labels = { app: 'web', tier: 'front' }
  const expression = (key: string, operator: string, ...values: string[]): object => ({
    matchExpressions: [{ key, operator, values }]
  })
  const cases: readonly [object, boolean][] = [
    [{}, true],
    [{ matchLabels: { app: 'web' } }, true],
    [{ matchLabels: { app: 'web', tier: 'back' } }, false],
    [expression('app', 'In', 'web', 'api'), true],
    [expression('app', 'NotIn', 'web'), false],
    [expression('none', 'NotIn', 'web'), true],
    [expression('app', 'Exists'), true],
    [expression('app', 'DoesNotExist'), false],
    [expression('app', 'Resembles', 'web'), false]
  ]
  for (const [selector, expected] of cases)
    t.equal(matchesSelector(selector, labels), expected, JSON.stringify(selector))
  t.equal(
    formatLabelSelector({
      matchLabels: { b: '1', a: '2' },
      matchExpressions: [
        { key: 'c', operator: 'In', values: ['x', 'y'] },
        { key: 'd', operator: 'DoesNotExist' }
      ]
    }),
    'a=2,b=1,c in (x,y),!d'
  )
  t.equal(formatLabelSelector({ b: '1', a: '2' }), 'a=2,b=1')
})

t.test('field selectors choose by the fields that a kind offers', async t => {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'n', uid: '', resourceVersion: '', creationTimestamp: '' },
    spec: { nodeName: 'n1' },
    status: { phase: 'Running' }
  } satisfies ApiObject
  const fields = ['spec.nodeName', 'status.phase', 'spec.hostNetwork']
  const cases: readonly [string, boolean][] = [
    ['metadata.name=p', true],
    ['metadata.name=p,metadata.namespace=n', true],
    ['metadata.name!=p', false],
    ['spec.nodeName==n1', true],
    ['spec.nodeName=', false],
    ['spec.hostNetwork=', true],
    ['status.phase!=Succeeded,status.phase!=Failed', true]
  ]
  for (const [selector, expected] of cases)
    t.equal(parseFieldSelector(selector, fields)(pod), expected, selector)
  t.throws(() => parseFieldSelector('spec.image=x', fields), {
    code: 400,
    message: 'field label not supported: spec.image'
  })
  t.throws(() => parseFieldSelector('nonsense', fields), { code: 400 })
})
