/** The four kinds of patch, by the vectors of their specifications and by their laws. */
import t from 'tap'
import { equal, isObject, type JsonObject } from '../../lab/api-store/json.ts'
import { compare, fieldsOf, fromFieldsV1, paths, toFieldsV1 } from '../../lab/api-store/patch/field-set.ts'
import { applyJsonPatch } from '../../lab/api-store/patch/json-patch.ts'
import { writeOwners, type Manager, type Owners } from '../../lab/api-store/patch/managed-fields.ts'
import { applyMergePatch } from '../../lab/api-store/patch/merge-patch.ts'
import { applyConfiguration } from '../../lab/api-store/patch/server-side-apply.ts'
import { applyStrategicMerge } from '../../lab/api-store/patch/strategic-merge.ts'
import { FieldTypes } from '../../lab/api-store/schema/field-types.ts'
import { loadBuiltinSchemas } from '../../lab/api-store/schema/schema.ts'

const types = new FieldTypes(loadBuiltinSchemas())
const podType = types.named('io.k8s.api.core.v1.Pod')
const serviceType = types.named('io.k8s.api.core.v1.Service')

t.test('JSON patch does what RFC 6902, appendix A, says', async t => {
  const cases: readonly [string, unknown, unknown, unknown][] = [
    [
      'A.1 adding a member',
      { foo: 'bar' },
      [{ op: 'add', path: '/baz', value: 'qux' }],
      { baz: 'qux', foo: 'bar' }
    ],
    [
      'A.2 adding an item',
      { foo: ['bar', 'baz'] },
      [{ op: 'add', path: '/foo/1', value: 'qux' }],
      { foo: ['bar', 'qux', 'baz'] }
    ],
    ['A.3 removing a member', { baz: 'qux', foo: 'bar' }, [{ op: 'remove', path: '/baz' }], { foo: 'bar' }],
    [
      'A.4 removing an item',
      { foo: ['bar', 'qux', 'baz'] },
      [{ op: 'remove', path: '/foo/1' }],
      { foo: ['bar', 'baz'] }
    ],
    [
      'A.5 replacing a value',
      { baz: 'qux', foo: 'bar' },
      [{ op: 'replace', path: '/baz', value: 'boo' }],
      { baz: 'boo', foo: 'bar' }
    ],
    [
      'A.6 moving a value',
      { foo: { bar: 'baz', waldo: 'fred' }, qux: { corge: 'grault' } },
      [{ op: 'move', from: '/foo/waldo', path: '/qux/thud' }],
      { foo: { bar: 'baz' }, qux: { corge: 'grault', thud: 'fred' } }
    ],
    [
      'A.7 moving an item',
      { foo: ['all', 'grass', 'cows', 'eat'] },
      [{ op: 'move', from: '/foo/1', path: '/foo/3' }],
      { foo: ['all', 'cows', 'eat', 'grass'] }
    ],
    [
      'A.8 testing',
      { baz: 'qux', foo: ['a', 2, 'c'] },
      [
        { op: 'test', path: '/baz', value: 'qux' },
        { op: 'test', path: '/foo/1', value: 2 }
      ],
      { baz: 'qux', foo: ['a', 2, 'c'] }
    ],
    [
      'A.10 adding a nested object',
      { foo: 'bar' },
      [{ op: 'add', path: '/child', value: { grandchild: {} } }],
      { foo: 'bar', child: { grandchild: {} } }
    ],
    [
      'A.11 ignoring unknown elements',
      { foo: 'bar' },
      [{ op: 'add', path: '/baz', value: 'qux', xyz: 123 }],
      { foo: 'bar', baz: 'qux' }
    ],
    ['A.14 escapes', { '/': 9, '~1': 10 }, [{ op: 'test', path: '/~01', value: 10 }], { '/': 9, '~1': 10 }],
    [
      'A.16 adding an array',
      { foo: ['bar'] },
      [{ op: 'add', path: '/foo/-', value: ['abc', 'def'] }],
      { foo: ['bar', ['abc', 'def']] }
    ],
    ['the whole document', { foo: 'bar' }, [{ op: 'replace', path: '', value: { a: 1 } }], { a: 1 }]
  ]
  for (const [name, document, patch, expected] of cases) {
    const before = structuredClone(document)
    t.strictSame(applyJsonPatch(document, patch), expected, name)
    t.strictSame(document, before, 'the original is left alone')
  }
  const errors: readonly [string, unknown, unknown, number][] = [
    ['A.9 a test that fails', { baz: 'qux' }, [{ op: 'test', path: '/baz', value: 'bar' }], 422],
    ['A.12 a parent that is not there', { foo: 'bar' }, [{ op: 'add', path: '/baz/bat', value: 'qux' }], 422],
    ['A.15 a number is no text', { '/': 9, '~1': 10 }, [{ op: 'test', path: '/~01', value: '10' }], 422],
    ['an index behind the end', { foo: ['a'] }, [{ op: 'add', path: '/foo/5', value: 1 }], 422],
    ['a leading zero', { foo: ['a', 'b'] }, [{ op: 'remove', path: '/foo/01' }], 422],
    ['a move below itself', { a: { b: 1 } }, [{ op: 'move', from: '/a', path: '/a/b' }], 422],
    ['no operation', {}, [{ op: 'jump', path: '/a' }], 400],
    ['no pointer', {}, [{ op: 'remove', path: 'a' }], 400],
    ['no value', {}, [{ op: 'add', path: '/a' }], 400],
    ['no list', {}, {}, 400],
    ['too many operations', {}, Array.from({ length: 10_001 }, () => ({ op: 'remove', path: '/a' })), 413]
  ]
  for (const [name, document, patch, code] of errors)
    t.throws(() => applyJsonPatch(document, patch), { code }, name)
})

t.test('merge patch does what RFC 7396, appendix A, says', async t => {
  const cases: readonly [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd']
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }]
  ]
  for (const [target, patch, expected] of cases) {
    t.strictSame(
      applyMergePatch(target, patch),
      expected,
      `${JSON.stringify(target)} with ${JSON.stringify(patch)}`
    )
  }
})

t.test('strategic merge patch refuses what it cannot do', async t => {
  const pod = { spec: { containers: [{ name: 'a' }] } }
  t.throws(() => applyStrategicMerge(pod, { spec: { containers: [{ image: 'x' }] } }, podType), {
    code: 400,
    message: /does not contain declared merge key: name/
  })
  t.throws(() => applyStrategicMerge(pod, { spec: { containers: ['x'] } }, podType), { code: 400 })
  t.throws(() => applyStrategicMerge(pod, { spec: { $patch: 'melt' } }, podType), {
    code: 400,
    message: /Unknown patch type/
  })
  t.strictSame(
    applyStrategicMerge(pod, { spec: { containers: [{ $patch: 'replace' }, { name: 'b' }] } }, podType),
    { spec: { containers: [{ name: 'b' }] } }
  )
  const service = { spec: { ports: [{ port: 80, protocol: 'TCP' }] } }
  t.strictSame(applyStrategicMerge(service, { spec: { ports: [{ port: 81 }] } }, serviceType), {
    spec: { ports: [{ port: 81 }, { port: 80, protocol: 'TCP' }] }
  })
})

t.test('a set of fields survives its written form', async t => {
  const pod = {
    metadata: { labels: { app: 'a' }, finalizers: ['x/y'] },
    spec: { containers: [{ name: 'a', ports: [{ containerPort: 80 }] }], nodeSelector: { disk: 'ssd' } }
  }
  const set = fieldsOf(pod, podType)
  t.strictSame(toFieldsV1(set), {
    'f:metadata': { 'f:labels': { 'f:app': {} }, 'f:finalizers': { 'v:"x/y"': {} } },
    'f:spec': {
      'f:containers': {
        'k:{"name":"a"}': {
          '.': {},
          'f:name': {},
          'f:ports': { 'k:{"containerPort":80,"protocol":"TCP"}': { '.': {}, 'f:containerPort': {} } }
        }
      },
      'f:nodeSelector': {}
    }
  })
  t.strictSame(toFieldsV1(fromFieldsV1(toFieldsV1(set))), toFieldsV1(set))
  t.strictSame(paths(set), [
    '.metadata.labels.app',
    '.metadata.finalizers[="x/y"]',
    '.spec.containers[name="a"]',
    '.spec.containers[name="a"].name',
    '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"]',
    '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].containerPort',
    '.spec.nodeSelector'
  ])
})

t.test('what changed and what is gone is found item by item', async t => {
  const before = { spec: { containers: [{ name: 'a', image: '1' }, { name: 'b' }] } }
  const after = { spec: { containers: [{ name: 'a', image: '2' }, { name: 'c' }] } }
  const { changed, removed } = compare(before, after, podType)
  t.strictSame(paths(changed), [
    '.spec.containers[name="a"].image',
    '.spec.containers[name="c"]',
    '.spec.containers[name="c"].name'
  ])
  t.strictSame(paths(removed), ['.spec.containers[name="b"]', '.spec.containers[name="b"].name'])
})

t.test('apply keeps its laws for whatever is applied', async t => {
  const seed = Date.now() % 1_000_000
  let state = seed
  const random = (below: number): number => {
    state = (state * 1103515245 + 12345) & 0x7fffffff
    return (state >> 8) % below
  }
  const some = <T>(items: readonly T[]): T[] => items.filter(() => random(2) === 0)
  const configuration = (): JsonObject => ({
    metadata: { labels: Object.fromEntries(some(['a', 'b', 'c']).map(key => [key, String(random(2))])) },
    spec: {
      containers: some(['x', 'y', 'z']).map(name => ({
        name,
        ...(random(2) === 0 ? { image: String(random(2)) } : {}),
        env: some(['A', 'B']).map(variable => ({ name: variable, value: String(random(2)) }))
      })),
      ...(random(2) === 0 ? { nodeSelector: { disk: String(random(2)) } } : {})
    }
  })
  const manager = (name: string): Manager => ({ name, operation: 'Apply', apiVersion: 'v1', subresource: '' })
  for (let round = 0; round < 300; round += 1) {
    let object: JsonObject = {}
    let owners: Owners = new Map()
    const latest = new Map<string, JsonObject>()
    for (let step = 0; step < 6; step += 1) {
      const name = ['one', 'two', 'three'][random(3)] ?? ''
      const wanted = configuration()
      const writing = { manager: manager(name), type: podType, time: '2026-01-01T00:00:00Z' }
      const applied = applyConfiguration(object, wanted, owners, writing, true)
      const again = applyConfiguration(applied.object, wanted, applied.owners, writing, false)
      t.ok(equal(again.object, applied.object), `seed ${seed}: the same again changes nothing`)
      t.strictSame(writeOwners(again.owners), writeOwners(applied.owners))
      t.ok(contains(applied.object, wanted), `seed ${seed}: what is applied is there`)
      ;({ object, owners } = applied)
      latest.set(name, wanted)
    }
    for (const name of latest.keys()) {
      const writing = { manager: manager(name), type: podType, time: '2026-01-01T00:00:00Z' }
      ;({ object, owners } = applyConfiguration(object, {}, owners, writing, false))
    }
    t.strictSame(leaves(object), [], `seed ${seed}: when everyone lets go nothing is left`)
  }
})

/** Whether everything of `part` is in `whole`; keyed lists by their names. */
function contains(whole: unknown, part: unknown): boolean {
  if (Array.isArray(part)) {
    return part.every(
      item =>
        Array.isArray(whole) &&
        whole.some(
          other =>
            isObject(item) && isObject(other) && other['name'] === item['name'] && contains(other, item)
        )
    )
  }
  if (!isObject(part)) return equal(whole, part)
  return (
    isObject(whole) &&
    Object.entries(part).every(([key, value]) => contains(whole[key], value) || isNothing(value))
  )
}

function isNothing(value: unknown): boolean {
  return (Array.isArray(value) && value.length === 0) || (isObject(value) && Object.keys(value).length === 0)
}

function leaves(value: unknown): unknown[] {
  if (Array.isArray(value)) return value.flatMap(leaves)
  return isObject(value) ? Object.values(value).flatMap(leaves) : [value]
}
