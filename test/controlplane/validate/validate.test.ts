import t from 'tap'
import { findingText } from '../../../controlplane/validate/finding.ts'
import { validatedKinds, validateObject } from '../../../controlplane/validate/validate.ts'
import { samples } from './samples.ts'

t.test('good objects are accepted, bad ones refused at the field that is wrong', async t => {
  for (const { object, title, good, field } of samples()) {
    const errors = (validateObject(object) ?? []).filter(({ severity }) => severity === 'error')
    if (good) t.strictSame(errors.map(findingText), [], title)
    else t.equal(errors[0]?.field, field, `${title}: ${errors.map(findingText).join('; ')}`)
  }
})

t.test('every finding says what is wrong and what to do', async t => {
  for (const { object, title } of samples()) {
    for (const { field, message, remedy } of validateObject(object) ?? []) {
      t.ok(field.startsWith('spec') || field.startsWith('metadata'), `${title}: ${field}`)
      t.ok(message.length > 4 && remedy.length > 4, `${title}: ${message}; ${remedy}`)
    }
  }
})

t.test('there are samples of every kind', async t => {
  const kinds = new Set(samples().map(({ object }) => object.kind))
  const missing = validatedKinds.map(kind => kind.split('/')[1] ?? '').filter(kind => !kinds.has(kind))
  t.strictSame(missing, ['TrafficExtension'], 'but of this one, which older clusters do not have')
})

t.test('whatever stands in a field, an answer is given', async t => {
  const wrong = [null, 'text', 7, -1.5, true, [], [null], ['x'], {}, { a: null }, { a: { b: [{}] } }]
  for (const { object, title } of samples()) {
    for (const [path, value] of mutations(object, wrong)) {
      try {
        validateObject(value)
      } catch (error) {
        t.fail(`${title} ${path}: ${String(error)}`)
      }
    }
  }
  t.pass('none threw')
})

t.test('what is no object of a known kind is not validated', async t => {
  for (const value of [
    undefined,
    {},
    { apiVersion: 'v1', kind: 'Pod' },
    { apiVersion: 'a/b', kind: 'Gateway' }
  ]) {
    t.equal(validateObject(value), undefined)
  }
})

t.test('a deeply nested expression is refused, not followed', async t => {
  const expression = '('.repeat(100_000)
  const found = validateObject({
    apiVersion: 'telemetry.istio.io/v1',
    kind: 'Telemetry',
    metadata: { name: 'a' },
    spec: { accessLogging: [{ filter: { expression } }] }
  })
  t.match(found?.[0], { severity: 'error', field: 'spec.accessLogging[0].filter.expression' })
})

/** The object with each of its parts replaced by each of the values. */
function* mutations(
  value: unknown,
  by: readonly unknown[],
  path = ''
): Generator<readonly [string, unknown]> {
  if (typeof value !== 'object' || value === null) return
  for (const [key, part] of Object.entries(value)) {
    const put = (other: unknown): unknown =>
      Array.isArray(value)
        ? value.map((each, at) => (String(at) === key ? other : each))
        : { ...value, [key]: other }
    if (path === '' && (key === 'apiVersion' || key === 'kind')) continue
    for (const other of by) yield [`${path}.${key}`, put(other)]
    for (const [at, other] of mutations(part, by, `${path}.${key}`)) yield [at, put(other)]
  }
}
