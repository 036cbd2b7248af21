/** Watches at their limits: slow readers, forgotten versions, the end of the store. */
import t from 'tap'
import { once } from 'node:events'
import tls from 'node:tls'
import { maxWaiting } from '../../lab/api-store/rest/watch.ts'
import { historyLimit } from '../../lab/api-store/storage.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import { configMap } from '../contract/context.ts'
import { startStore } from './api-store-start.ts'

const configMaps: ResourceType = {
  group: '',
  version: 'v1',
  plural: 'configmaps',
  kind: 'ConfigMap',
  namespaced: true
}
const path = '/api/v1/namespaces/default/configmaps'

t.test('a version that is forgotten is answered with 410 in the stream', async t => {
  const { api, store } = await startStore(t)
  const { body } = await api.post(path, configMap('a', {}))
  for (let count = 0; count < historyLimit * 1.3; count += 1) {
    store.objects.edit(
      configMaps,
      { namespace: 'default', name: 'a' },
      current => ({ ...current, data: { count: String(count) } }) as KubeObject
    )
  }
  const watch = await api.watch(path, { resourceVersion: body['metadata'].resourceVersion })
  t.match(await watch.next(), { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } })
  await watch.ended()
  const now = (await api.get(path)).body['metadata'].resourceVersion
  const exact = await api.get(path, {
    query: { resourceVersion: body['metadata'].resourceVersion, resourceVersionMatch: 'Exact' }
  })
  t.match(exact, { status: 410, body: { reason: 'Expired' } })
  const resumed = await api.watch(path, { resourceVersion: now })
  t.teardown(() => resumed.close())
  await api.post(path, configMap('b', {}))
  t.match(
    await resumed.next(),
    { type: 'ADDED', object: { metadata: { name: 'b' } } },
    'the current one can be watched'
  )
})

t.test('a client that does not read is sent off with 410, others are not held up', async t => {
  const { access, api, store } = await startStore(t)
  await api.post(path, configMap('big', {}))
  const { hostname, port } = new URL(access.server)
  const socket = tls.connect({
    host: hostname,
    port: Number(port),
    ca: access.caPem,
    servername: 'localhost'
  })
  t.teardown(() => socket.destroy())
  await once(socket, 'secureConnect')
  socket.write(
    `GET ${path}?watch=true&resourceVersion=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access.token}\r\n\r\n`
  )
  await once(socket, 'readable')
  const fast = await api.watch(path, { resourceVersion: '0' })
  t.teardown(() => fast.close())
  t.match(await fast.next(), { type: 'ADDED' })

  const text = 'x'.repeat(30_000)
  const change = (count: number): void => {
    store.objects.edit(
      configMaps,
      { namespace: 'default', name: 'big' },
      current => ({ ...current, data: { text, count: String(count) } }) as KubeObject
    )
  }
  const before = process.memoryUsage().rss
  // more than kernel buffers and the queue hold together
  let last = ''
  const batch = 50
  for (let count = 0; count < maxWaiting * 2; count += batch) {
    for (let offset = 0; offset < batch; offset += 1) change(count + offset)
    for (let offset = 0; offset < batch; offset += 1) last = (await fast.next()).object['data'].count
  }
  t.equal(last, String(maxWaiting * 2 - 1), 'the other client has seen all')
  const grown = (process.memoryUsage().rss - before) / 1e6
  t.ok(grown < 600, `the store kept ${grown.toFixed(0)} MB`)

  let received = ''
  socket.setEncoding('latin1')
  socket.on('data', (chunk: string) => {
    received = (received + chunk).slice(-4000)
  })
  await once(socket, 'end')
  t.match(received, /"type":"ERROR".*"code":410/)
})

t.test('bookmarks tell a quiet watch how far the store is', async t => {
  const { api } = await startStore(t, { bookmarkMs: 50 })
  const query = { resourceVersion: '0', allowWatchBookmarks: 'true', labelSelector: 'none=matches' }
  const watch = await api.watch(path, query)
  t.teardown(() => watch.close())
  const silent = await api.watch(path, { resourceVersion: '0', labelSelector: 'none=matches' })
  t.teardown(() => silent.close())
  const { body } = await api.post(path, configMap('elsewhere', {}))
  const wanted = Number(body['metadata'].resourceVersion)
  let bookmark = await watch.nextOfAny()
  while (Number(bookmark.object['metadata'].resourceVersion) < wanted) bookmark = await watch.nextOfAny()
  t.match(bookmark, { type: 'BOOKMARK', object: { kind: 'ConfigMap', apiVersion: 'v1' } })
  const resumed = await api.watch(path, { resourceVersion: bookmark.object['metadata'].resourceVersion })
  t.teardown(() => resumed.close())
  await api.post(path, configMap('after', {}, { labels: { none: 'matches' } }))
  t.match(await resumed.next(), { object: { metadata: { name: 'after' } } })
  t.match(await silent.nextOfAny(), { type: 'ADDED' }, 'who did not ask gets none')
})

t.test('closing the store ends its watches and refuses new requests', async t => {
  const { api, store } = await startStore(t)
  const watch = await api.watch(path, { resourceVersion: '0' })
  await store.close()
  await watch.ended()
  await t.rejects(api.get(path))
  await store.close()
})

t.test('a definition that goes ends the watches of its objects', async t => {
  const { api } = await startStore(t)
  const watch = await api.watch('/apis/telemetry.istio.io/v1/telemetries')
  t.equal(
    (
      await api.delete(
        '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/telemetries.telemetry.istio.io'
      )
    ).status,
    200
  )
  await watch.ended()
  t.equal((await api.get('/apis/telemetry.istio.io/v1/telemetries')).status, 404)
})
