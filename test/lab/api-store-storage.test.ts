/** Revisions, history and the past. */
import t from 'tap'
import { ApiError } from '../../lab/api-store/api-error.ts'
import type { ApiObject } from '../../lab/api-store/object.ts'
import { Storage, type Change } from '../../lab/api-store/storage.ts'

function object(name: string, namespace = 'ns', data = 0): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Thing',
    metadata: { name, namespace, uid: name, resourceVersion: '', creationTimestamp: '' },
    data
  }
}

const names = (objects: Iterable<ApiObject>): string[] =>
  [...objects].map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)

t.test('objects are sorted by namespace, then name, and frozen', async t => {
  const things = new Storage().collection('x/things')
  for (const [name, namespace] of [
    ['b', 'ns'],
    ['a', 'ns'],
    ['z', 'n'],
    ['a', 'ns-1']
  ] as const)
    things.put(object(name, namespace))
  t.strictSame(names(things.all()), ['n/z', 'ns/a', 'ns/b', 'ns-1/a'])
  const kept = things.get({ namespace: 'ns', name: 'a' })
  t.throws(() => Object.assign(kept?.metadata ?? {}, { name: 'other' }), TypeError)
})

t.test('every write of any collection has its own, larger revision', async t => {
  const storage = new Storage()
  const one = storage.collection('x/ones').put(object('a'))
  const two = storage.collection('x/twos').put(object('a'))
  const gone = storage.collection('x/ones').remove(one)
  const revisions = [one, two, gone].map(({ metadata }) => Number(metadata.resourceVersion))
  t.strictSame(revisions, [2, 3, 4])
  t.equal(storage.revision, 4)
})

t.test('the past can be listed as far as history reaches', async t => {
  const storage = new Storage()
  const things = storage.collection('x/things')
  things.put(object('a', 'ns', 1))
  things.put(object('b'))
  const then = storage.revision
  things.put(object('a', 'ns', 2))
  things.put(object('c'))
  const b = things.get({ namespace: 'ns', name: 'b' })
  if (b !== undefined) things.remove(b)
  t.strictSame(names(things.all()), ['ns/a', 'ns/c'])
  const past = things.allAt(then)
  t.strictSame(names(past), ['ns/a', 'ns/b'])
  t.equal(past[0]?.['data'], 1)
})

t.test('changes since a revision come in order; forgotten ones are said to be gone', async t => {
  const storage = new Storage()
  const things = storage.collection('x/things')
  for (const name of ['a', 'b', 'c']) things.put(object(name))
  t.strictSame(
    things.since(2).map(({ object }) => object.metadata.name),
    ['b', 'c']
  )
  t.strictSame(things.since(4), [])
  things.compact(3)
  t.throws(() => things.since(2), {
    code: 410,
    reason: 'Expired',
    message: 'too old resource version: 2 (3)'
  })
  t.throws(() => things.allAt(2), { code: 410 })
  t.strictSame(
    things.since(3).map(({ object }) => object.metadata.name),
    ['c']
  )
})

t.test('history is bounded by forgetting the oldest', async t => {
  const things = new Storage(100).collection('x/things')
  for (let count = 0; count < 1000; count += 1) things.put(object('a', 'ns', count))
  t.ok(things.compacted >= 870, `compacted up to ${things.compacted}`)
  t.throws(() => things.since(things.compacted - 1), ApiError)
  const kept = things.since(things.compacted)
  t.ok(kept.length >= 100 && kept.length <= 126, `${kept.length} changes are kept`)
  t.equal(kept.at(-1)?.object['data'], 999)
})

t.test('a collection that is dropped ends its listeners', async t => {
  const storage = new Storage()
  const things = storage.collection('x/things')
  const seen: string[] = []
  const stop = things.listen({
    onChange: ({ type }: Change) => seen.push(type),
    onEnd: () => seen.push('end')
  })
  things.put(object('a'))
  things.put(object('a', 'ns', 1))
  storage.drop('x/things')
  stop()
  t.strictSame(seen, ['ADDED', 'MODIFIED', 'end'])
  t.equal(storage.collection('x/things').size, 0)
})
