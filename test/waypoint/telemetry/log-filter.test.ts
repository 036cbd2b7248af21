/** TM-20: which requests an expression means. */
import t from 'tap'
import { readLogFilter } from '../../../waypoint/telemetry/rules/log-filter.ts'

const meant: readonly (readonly [expression: string, yes: readonly number[], no: readonly number[]])[] = [
  ['response.code >= 400', [400, 503], [200, 0]],
  ['response.code>=400&&response.code<500', [404], [200, 500]],
  ['response.code < 200 || response.code > 299', [0, 101, 404], [200, 299]],
  ['response.code == 200', [200], [201]],
  ['response.code != 200', [201], [200]],
  ['response.code <= 200', [200], [201]],
  ['response.code > 499 || response.code == 404 && response.code < 405', [500, 404], [403]]
]
for (const [expression, yes, no] of meant) {
  t.test(expression, async t => {
    const test = readLogFilter(expression)
    for (const status of yes) t.ok(test?.(status), String(status))
    for (const status of no) t.notOk(test?.(status), String(status))
  })
}

for (const expression of [
  '',
  'response.code',
  '(response.code > 1)',
  'request.host == "a"',
  'response.code > 1 &&'
]) {
  t.test(`not understood: ${expression}`, async t => t.equal(readLogFilter(expression), undefined))
}
