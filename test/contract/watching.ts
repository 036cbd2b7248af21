/** Watches: start, order, selectors, bookmarks, the past. */
import type { Test } from 'tap'
import { configMap, type Context } from './context.ts'

export async function watchBehaviours(t: Test, { api, namespace }: Context): Promise<void> {
  const maps = `/api/v1/namespaces/${namespace}/configmaps`
  const summary = ({ type, object }: { type: string; object: { [field: string]: unknown } }): string =>
    `${type} ${(object['metadata'] as { name: string }).name}`

  await t.test('a watch from a version sends every later change once, in order', async t => {
    const { body } = await api.post(maps, configMap('w0', {}))
    const watch = await api.watch(maps, { resourceVersion: body['metadata'].resourceVersion })
    t.teardown(() => watch.close())
    await api.post(maps, configMap('w1', {}))
    await api.patch(`${maps}/w1`, 'merge', { data: { a: '1' } })
    await api.patch(`${maps}/w1`, 'merge', { data: { a: '1' } })
    await api.delete(`${maps}/w1`)
    await api.post(maps, configMap('w2', {}))
    const events = [await watch.next(), await watch.next(), await watch.next(), await watch.next()]
    t.strictSame(events.map(summary), ['ADDED w1', 'MODIFIED w1', 'DELETED w1', 'ADDED w2'])
    const versions = events.map(({ object }) => Number(object['metadata'].resourceVersion))
    t.strictSame(
      versions,
      versions.toSorted((a, b) => a - b)
    )
  })

  await t.test('a watch without version starts with what is there', async t => {
    const watch = await api.watch(maps, { labelSelector: '!missing', fieldSelector: 'metadata.name=w2' })
    t.teardown(() => watch.close())
    t.equal(summary(await watch.next()), 'ADDED w2')
    await api.delete(`${maps}/w2`)
    t.equal(summary(await watch.next()), 'DELETED w2')
  })

  await t.test('an object that starts or stops to match comes and goes', async t => {
    const { body } = await api.post(maps, configMap('turns', {}))
    const watch = await api.watch(maps, {
      labelSelector: 'on=yes',
      resourceVersion: body['metadata'].resourceVersion
    })
    t.teardown(() => watch.close())
    await api.patch(`${maps}/turns`, 'merge', { metadata: { labels: { on: 'yes' } } })
    t.equal(summary(await watch.next()), 'ADDED turns')
    await api.patch(`${maps}/turns`, 'merge', { data: { a: '1' } })
    t.equal(summary(await watch.next()), 'MODIFIED turns')
    await api.patch(`${maps}/turns`, 'merge', { metadata: { labels: { on: 'no' } } })
    const gone = await watch.next()
    t.equal(summary(gone), 'DELETED turns')
    t.same(gone.object['metadata'].labels, { on: 'yes' }, 'as it was when it last matched')
  })

  await t.test('initial events end with a bookmark that says so', async t => {
    const query = {
      sendInitialEvents: 'true',
      resourceVersionMatch: 'NotOlderThan',
      allowWatchBookmarks: 'true'
    }
    const watch = await api.watch(maps, { ...query, fieldSelector: 'metadata.name=turns' })
    t.teardown(() => watch.close())
    const first = await watch.nextOfAny()
    if (first.type === 'ERROR') {
      // etcd before 3.4.31 cannot confirm how far it is; then the real server refuses
      t.match(first.object['message'], /required storage feature RequestWatchProgress is disabled/)
      return
    }
    t.equal(summary(first), 'ADDED turns')
    const bookmark = await watch.nextOfAny()
    t.match(bookmark, {
      type: 'BOOKMARK',
      object: {
        kind: 'ConfigMap',
        metadata: { resourceVersion: /^\d+$/, annotations: { 'k8s.io/initial-events-end': 'true' } }
      }
    })
  })

  await t.test('a watch of one object, in all namespaces, as metadata, and as a table', async t => {
    const one = await api.watch(maps, { fieldSelector: 'metadata.name=turns' })
    t.teardown(() => one.close())
    t.equal(summary(await one.next()), 'ADDED turns')
    const all = await api.watch('/api/v1/configmaps', {
      fieldSelector: `metadata.namespace=${namespace},metadata.name=turns`
    })
    t.teardown(() => all.close())
    t.equal(summary(await all.next()), 'ADDED turns')
    const form = (as: string): Record<string, string> => ({
      accept: `application/json;as=${as};v=v1;g=meta.k8s.io`
    })
    const metadata = await api.watch(
      maps,
      { fieldSelector: 'metadata.name=turns' },
      form('PartialObjectMetadata')
    )
    t.teardown(() => metadata.close())
    t.match(await metadata.next(), {
      type: 'ADDED',
      object: { kind: 'PartialObjectMetadata', metadata: { name: 'turns' } }
    })
    const table = await api.watch(maps, { fieldSelector: 'metadata.name=turns' }, form('Table'))
    t.teardown(() => table.close())
    t.match(await table.next(), {
      type: 'ADDED',
      object: { kind: 'Table', columnDefinitions: [{ name: 'Name' }], rows: [{ cells: ['turns'] }] }
    })
    await api.patch(`${maps}/turns`, 'merge', { data: { b: '1' } })
    const second = await table.next()
    t.equal(second.object['columnDefinitions'] ?? null, null, 'columns are described once')
  })

  await t.test('a watch ends after timeoutSeconds', async t => {
    const watch = await api.watch(maps, { timeoutSeconds: '1', resourceVersion: '0' })
    await watch.ended()
    t.pass('the server ended it')
  })

  await t.test('a version of the future is not served', async t => {
    const { body } = await api.get(maps)
    const future = String(Number(body['metadata'].resourceVersion) + 1_000_000)
    const list = await api.get(maps, { query: { resourceVersion: future } })
    t.match(list, { status: 504, body: { reason: 'Timeout' } })
    t.match(list.body['message'], /Too large resource version/)
  })

  await t.test('a version that is none is refused', async t => {
    const list = await api.get(maps, { query: { resourceVersion: 'latest' } })
    t.equal(list.status, 400)
  })
}
