import t from 'tap'
import type { ServerResponse } from 'node:http'
import { KubeClient } from '../../../shared/kube/client.ts'
import { informer, type Change, type Informer, type InformerOptions } from '../../../shared/kube/informer.ts'
import { pods, type Pod } from '../../../shared/kube/core-api.ts'
import { serviceEntries } from '../../../shared/kube/istio-api.ts'
import type { KubeObject, ResourceType } from '../../../shared/kube/object.ts'
import { LogOutput } from '../../../shared/telemetry/logger.ts'
import { answerJson, answerStatus, scriptedServer, type Asked } from './scripted-server.ts'

const quick = { initialMs: 5, maxMs: 20 }

function pod(name: string, version: number, uid = `uid-${name}`): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop', uid, resourceVersion: String(version) }
  }
}

const listOf = (version: number, ...items: Pod[]): unknown => ({
  metadata: { resourceVersion: String(version) },
  items
})
const event = (type: string, object: unknown): string => `${JSON.stringify({ type, object })}\n`
const isWatch = (asked: Asked): boolean => asked.url.includes('watch=1')
const parameter = (asked: Asked, name: string): string | null =>
  new URL(asked.url, 'https://x').searchParams.get(name)

/** A watch that stays open and says nothing. */
function quiet(response: ServerResponse): void {
  response.writeHead(200).flushHeaders()
}

/** An informer against a scripted server; `seen` is what its handler was told, one line a change. */
async function follow<T extends KubeObject>(
  t: { teardown(fn: () => void): unknown },
  type: ResourceType<T>,
  answer: (asked: Asked, response: ServerResponse) => void,
  options: Partial<InformerOptions<T>> = {}
) {
  const server = await scriptedServer(t, answer)
  const client = new KubeClient(server.access)
  const stop = new AbortController()
  const seen: string[] = []
  const waiting: { readonly count: number; readonly resolve: () => void }[] = []
  const onChange = (change: Change<T>): void => {
    const was = change.type === 'modified' ? ` was ${change.previous.metadata.resourceVersion}` : ''
    seen.push(`${change.type} ${change.object.metadata.name} ${change.object.metadata.resourceVersion}${was}`)
    for (const { count, resolve } of waiting) if (seen.length >= count) resolve()
    options.onChange?.(change)
  }
  const copy: Informer<T> = informer(client, type, {
    signal: stop.signal,
    backoff: quick,
    ...options,
    onChange
  })
  t.teardown(() => {
    stop.abort()
    client.close()
  })
  const changes = (count: number): Promise<void> =>
    seen.length >= count ? Promise.resolve() : new Promise(resolve => waiting.push({ count, resolve }))
  return { server, copy, seen, changes, stop }
}

t.test('it lists in pages, then watches from the version of the list', async t => {
  const { server, copy, seen, changes } = await follow(
    t,
    pods,
    (asked, response) => {
      if (!isWatch(asked)) {
        const page = parameter(asked, 'continue')
        const metadata = { resourceVersion: '10', ...(page === null ? { continue: 'next' } : {}) }
        return answerJson(response, { metadata, items: [page === null ? pod('a', 1) : pod('b', 2)] })
      }
      response.writeHead(200)
      const text =
        event('ADDED', pod('c', 11)) + event('MODIFIED', pod('a', 12)) + event('DELETED', pod('b', 13))
      // in pieces that end inside events
      response.write(text.slice(0, 30))
      setImmediate(() => response.write(text.slice(30, 31)))
      setTimeout(() => response.write(text.slice(31)), 5)
    },
    { pageSize: 1, namespace: 'shop', labelSelector: 'app' }
  )
  await copy.synced
  t.ok(copy.isSynced)
  await changes(5)
  t.strictSame(seen, ['added a 1', 'added b 2', 'added c 11', 'modified a 12 was 1', 'deleted b 13'])
  t.strictSame([...copy.items().keys()], ['shop/a', 'shop/c'])
  const watch = server.asked.find(isWatch)
  t.match(server.asked[0]?.url, '/api/v1/namespaces/shop/pods?labelSelector=app&limit=1')
  t.equal(watch && parameter(watch, 'resourceVersion'), '10')
  t.equal(watch && parameter(watch, 'allowWatchBookmarks'), 'true')
  t.equal(watch && parameter(watch, 'labelSelector'), 'app')
  t.ok(copy.ageMs() < 60_000)
})

t.test('a watch that ends or breaks resumes from the last version, bookmarks included', async t => {
  let watches = 0
  const { server, seen, changes } = await follow(t, pods, (asked, response) => {
    if (!isWatch(asked)) return answerJson(response, listOf(10, pod('a', 1)))
    response.writeHead(200)
    watches += 1
    if (watches === 1) return void response.end(event('MODIFIED', pod('a', 11)))
    if (watches === 2) {
      response.write(event('BOOKMARK', { metadata: { resourceVersion: '50' } }) + '{"type":"ADDED","obj')
      return void setTimeout(() => response.destroy(), 5)
    }
    return void response.write(event('MODIFIED', pod('a', 51)))
  })
  await changes(3)
  t.strictSame(seen, ['added a 1', 'modified a 11 was 1', 'modified a 51 was 11'])
  t.equal(server.asked.filter(asked => !isWatch(asked)).length, 1, 'listed once')
  const versions = server.asked.filter(isWatch).map(asked => parameter(asked, 'resourceVersion'))
  t.strictSame(versions, ['10', '11', '50'])
})

for (const how of ['status 410', 'an ERROR event with code 410'] as const) {
  t.test(`after ${how} it lists again and tells only the differences`, async t => {
    let lists = 0
    const { seen, changes, copy } = await follow(t, pods, (asked, response) => {
      if (!isWatch(asked)) {
        lists += 1
        return answerJson(
          response,
          lists === 1
            ? listOf(10, pod('same', 1), pod('changed', 2), pod('gone', 3), pod('renewed', 4))
            : listOf(20, pod('same', 1), pod('changed', 12), pod('renewed', 14, 'uid-other'), pod('new', 15))
        )
      }
      if (lists === 2) return quiet(response)
      if (how === 'status 410') return answerStatus(response, 410, 'Expired', 'too old resource version')
      return void response
        .writeHead(200)
        .end(event('ERROR', { kind: 'Status', code: 410, reason: 'Expired' }))
    })
    await changes(9)
    t.strictSame(seen.slice(4), [
      'deleted gone 3',
      'modified changed 12 was 2',
      'deleted renewed 4',
      'added renewed 14',
      'added new 15'
    ])
    t.equal(copy.items().size, 4)
    t.equal(copy.problem, undefined)
  })
}

t.test(
  'a kind that the cluster lacks counts as empty, quietly, until it appears and after it went',
  async t => {
    let installed = false
    const lines: string[] = []
    const log = new LogOutput({
      filter: { fallback: 'warn', targets: new Map() },
      format: 'plain',
      sink: { write: line => lines.push(line) }
    }).logger('test')
    const opened = Promise.withResolvers<ServerResponse>()
    const { copy, changes, seen } = await follow(
      t,
      serviceEntries,
      (asked, response) => {
        if (!installed)
          return answerStatus(response, 404, 'NotFound', 'the server could not find the requested resource')
        if (!isWatch(asked)) return answerJson(response, listOf(5, pod('entry', 1)))
        quiet(response)
        opened.resolve(response)
      },
      { log }
    )
    await copy.synced
    t.equal(copy.items().size, 0)
    t.match(copy.problem, /no serviceentries\.networking\.istio\.io/)
    installed = true
    await changes(1)
    t.strictSame(seen, ['added entry 1'])
    t.equal(copy.problem, undefined)
    const watch = await opened.promise
    installed = false
    watch.end()
    await changes(2)
    t.strictSame(seen, ['added entry 1', 'deleted entry 1'])
    t.strictSame(lines, [], 'nothing worth a warning')
  }
)

t.test('a refusal is logged once with the permission that is missing, and tried again', async t => {
  const lines: string[] = []
  const log = new LogOutput({
    filter: { fallback: 'warn', targets: new Map() },
    format: 'plain',
    sink: { write: line => lines.push(line) }
  }).logger('test')
  let refusals = 0
  const { copy } = await follow(
    t,
    pods,
    (asked, response) => {
      if (isWatch(asked)) return quiet(response)
      if (++refusals < 4) return answerStatus(response, 403, 'Forbidden', 'pods is forbidden')
      return answerJson(response, listOf(5))
    },
    { log }
  )
  t.notOk(copy.isSynced)
  await copy.synced
  t.equal(lines.length, 1)
  t.match(lines[0], /watching pods failed.*needs: list pods in all namespaces/)
})

t.test('trim decides what is kept, and a handler that throws stops nothing', async t => {
  const { copy, seen } = await follow(
    t,
    pods,
    (asked, response) => {
      if (isWatch(asked)) return quiet(response)
      return answerJson(response, listOf(5, { ...pod('a', 1), spec: { nodeName: 'n' } }, pod('b', 2)))
    },
    {
      trim: ({ apiVersion, kind, metadata }) => ({ apiVersion, kind, metadata }),
      onChange: change => {
        if (change.object.metadata.name === 'a') throw new Error('this object is too much for me')
      },
      onSynced: () => {
        throw new Error('nor this')
      }
    }
  )
  await copy.synced
  t.strictSame(seen, ['added a 1', 'added b 2'])
  t.strictSame(copy.get('shop/a'), pod('a', 1))
})

t.test('it stops with its signal, and asks no more', async t => {
  const { server, copy, stop } = await follow(t, pods, (asked, response) => {
    if (isWatch(asked)) return quiet(response)
    return answerJson(response, listOf(5))
  })
  await copy.synced
  stop.abort()
  const before = server.asked.length
  await new Promise(resolve => setTimeout(resolve, 60))
  t.ok(server.asked.length <= before + 1)
})

t.test('a server that ends every watch at once is not asked in a tight loop', async t => {
  const { server, copy } = await follow(
    t,
    pods,
    (asked, response) => {
      if (isWatch(asked)) response.writeHead(200).end()
      else answerJson(response, listOf(5))
    },
    { backoff: { initialMs: 20, maxMs: 1000 } }
  )
  await copy.synced
  await new Promise(resolve => setTimeout(resolve, 300))
  t.ok(server.asked.length < 10, `asked ${server.asked.length} times in 300 ms`)
})
