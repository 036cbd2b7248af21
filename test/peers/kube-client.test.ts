/** The client and the informer against a real kube-apiserver: what the scripted one only assumes. */
import t from 'tap'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { KubeError, isNotFound } from '../../shared/kube/errors.ts'
import { informer, type Change } from '../../shared/kube/informer.ts'
import { configMaps, type ConfigMap, namespaces, pods, serviceAccounts } from '../../shared/kube/core-api.ts'
import { serviceEntries } from '../../shared/kube/istio-api.ts'
import { tokenReviews } from '../../shared/kube/review-api.ts'
import { needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'

t.setTimeout(180_000)

const configMap = (name: string, data: Record<string, string> = {}, namespace = 'default'): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace },
  data
})

t.test('a real kube-apiserver', { skip: needsKubeApiserver() }, async t => {
  const server = await startKubeApiserver(t, {
    flags: ['--etcd-compaction-interval=1s', '--watch-cache=false']
  })
  const client = new KubeClient(await loadKubeConfig({ kubeconfig: server.kubeconfig }))
  t.teardown(() => client.close())

  await t.test('objects are created, read, patched in every way, replaced and deleted', async t => {
    const created = await client.create(configMaps, configMap('one', { a: '1' }), { fieldManager: 'test' })
    t.ok(created.metadata.uid)
    const ref = { namespace: 'default', name: 'one' }
    await client.patch(configMaps, ref, { data: { b: '2' } }, { kind: 'merge' })
    await client.patch(configMaps, ref, { data: { c: '3' } }, { kind: 'strategic' })
    await client.patch(configMaps, ref, [{ op: 'remove', path: '/data/a' }], { kind: 'json' })
    const applied = await client.patch(configMaps, ref, configMap('one', { d: '4' }), {
      kind: 'apply',
      fieldManager: 'other',
      force: true
    })
    t.strictSame(applied.data, { b: '2', c: '3', d: '4' })
    const dry = await client.patch(configMaps, ref, { data: { x: 'y' } }, { kind: 'merge', dryRun: true })
    t.equal(dry.data?.['x'], 'y')
    t.strictSame(
      (await client.get(configMaps, ref)).data,
      { b: '2', c: '3', d: '4' },
      'a dry run changes nothing'
    )
    const replaced = await client.replace(configMaps, { ...applied, data: { e: '5' } })
    t.strictSame(replaced.data, { e: '5' })
    await t.rejects(client.replace(configMaps, { ...applied, data: {} }), {
      name: 'KubeError',
      status: 409,
      reason: 'Conflict'
    })
    await t.rejects(client.create(configMaps, configMap('one')), {
      name: 'KubeError',
      reason: 'AlreadyExists'
    })
    await t.rejects(client.delete(configMaps, ref, { uid: 'not-this-one' }), {
      name: 'KubeError',
      status: 409
    })
    await client.delete(configMaps, ref)
    t.equal(await client.find(configMaps, ref), undefined)
    await t.rejects(client.delete(configMaps, ref), { name: 'KubeError', status: 404, reason: 'NotFound' })
  })

  await t.test('lists come in pages with their kind; a kind that is not installed is not found', async t => {
    for (let index = 0; index < 5; index++) await client.create(configMaps, configMap(`page-${index}`))
    const first = await client.list(configMaps, { namespace: 'default', limit: 2 })
    t.equal(first.items.length, 2)
    t.match(first.items[0], { apiVersion: 'v1', kind: 'ConfigMap' })
    t.not(first.continue, '')
    const rest = await client.list(configMaps, { namespace: 'default', limit: 100, continue: first.continue })
    t.ok(rest.items.length >= 3)
    t.equal(rest.continue, '')
    await t.rejects(client.list(serviceEntries), { name: 'KubeError', status: 404 })
    const selected = await client.list(configMaps, {
      namespace: 'default',
      fieldSelector: 'metadata.name=page-3'
    })
    t.strictSame(
      selected.items.map(({ metadata }) => metadata.name),
      ['page-3']
    )
  })

  await t.test('a wrong token and a missing right are told apart', async t => {
    const access = await loadKubeConfig({ kubeconfig: server.kubeconfig })
    const stranger = new KubeClient({ ...access, authorization: async () => 'Bearer wrong' })
    t.teardown(() => stranger.close())
    await t.rejects(stranger.list(pods), { name: 'KubeError', status: 401, reason: 'Unauthorized' })
    await client.create(serviceAccounts, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'nobody', namespace: 'default' }
    })
    const token = (await client.raw('POST', '/api/v1/namespaces/default/serviceaccounts/nobody/token', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences: ['istio-ca'], expirationSeconds: 600 }
    })) as { status: { token: string } }
    const review = await client.create(tokenReviews, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      metadata: { name: '' },
      spec: { token: token.status.token, audiences: ['istio-ca'] }
    })
    t.match(review.status, {
      authenticated: true,
      user: { username: 'system:serviceaccount:default:nobody' }
    })
    const own = (await client.raw('POST', '/api/v1/namespaces/default/serviceaccounts/nobody/token', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {}
    })) as { status: { token: string } }
    const nobody = new KubeClient({ ...access, authorization: async () => `Bearer ${own.status.token}` })
    t.teardown(() => nobody.close())
    await t.rejects(nobody.list(pods, { namespace: 'default' }), {
      name: 'KubeError',
      status: 403,
      reason: 'Forbidden',
      needs: 'list pods in namespace default'
    })
  })

  await t.test('an informer sees what is there, what comes, changes and goes', async t => {
    const stop = new AbortController()
    t.teardown(() => stop.abort())
    const seen: string[] = []
    const waiting: (() => void)[] = []
    const onChange = ({ type, object }: Change<ConfigMap>): void => {
      seen.push(`${type} ${object.metadata.name}`)
      for (const wake of waiting.splice(0)) wake()
    }
    const until = async (line: string): Promise<void> => {
      while (!seen.includes(line)) await new Promise<void>(resolve => waiting.push(resolve))
    }
    await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'watched' } })
    await client.create(configMaps, configMap('there', {}, 'watched'))
    const copy = informer(client, configMaps, {
      namespace: 'watched',
      signal: stop.signal,
      onChange,
      pageSize: 1
    })
    await copy.synced
    await until('added there')
    await client.create(configMaps, configMap('came', { k: 'v' }, 'watched'))
    await until('added came')
    await client.patch(
      configMaps,
      { namespace: 'watched', name: 'came' },
      { data: { k: 'w' } },
      { kind: 'merge' }
    )
    await until('modified came')
    t.equal(copy.get('watched/came')?.data?.['k'], 'w')
    await client.delete(configMaps, { namespace: 'watched', name: 'there' })
    await until('deleted there')
    t.notOk(copy.items().has('watched/there'))
    t.equal(copy.problem, undefined)
  })

  await t.test('a version that is too old is refused as expired', async t => {
    const deadline = Date.now() + 60_000
    let answer = 0
    while (answer !== 410 && Date.now() < deadline) {
      await client.patch(
        configMaps,
        { namespace: 'default', name: 'page-0' },
        { data: { at: String(Date.now()) } },
        { kind: 'merge' }
      )
      answer = await firstAnswer(client.watch(configMaps, { resourceVersion: '1', timeoutSeconds: 1 }))
    }
    t.equal(answer, 410)
  })

  await t.test('a kind that is installed later is noticed', async t => {
    const stop = new AbortController()
    t.teardown(() => stop.abort())
    const added = Promise.withResolvers<string>()
    const copy = informer(client, serviceEntries, {
      signal: stop.signal,
      backoff: { initialMs: 100, maxMs: 500 },
      onChange: ({ object }) => added.resolve(object.metadata.name)
    })
    await copy.synced
    t.match(copy.problem, /has no serviceentries/)
    await client.raw(
      'POST',
      '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
      serviceEntryDefinition
    )
    await created(() =>
      client.create(serviceEntries, {
        apiVersion: 'networking.istio.io/v1',
        kind: 'ServiceEntry',
        metadata: { name: 'late', namespace: 'default' }
      })
    )
    t.equal(await added.promise, 'late')
    t.equal(copy.problem, undefined)
  })
})

/** The code of a refusal, as status or as the first event; 0 when there is another event, or none. */
async function firstAnswer(watch: Promise<AsyncIterable<unknown>>): Promise<number> {
  try {
    let text = ''
    for await (const chunk of await watch) {
      text += String(chunk)
      if (!text.includes('\n')) continue
      const { object } = JSON.parse(text.slice(0, text.indexOf('\n'))) as { object?: { code?: number } }
      return object?.code ?? 0
    }
    return 0
  } catch (error) {
    if (error instanceof KubeError) return error.status
    throw error
  }
}

/** A definition is served a moment after it was accepted. */
async function created(create: () => Promise<unknown>): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      await create()
      return
    } catch (error) {
      if (!isNotFound(error)) throw error
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
  throw new Error('the definition was not served within 10 s')
}

const serviceEntryDefinition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'serviceentries.networking.istio.io' },
  spec: {
    group: 'networking.istio.io',
    scope: 'Namespaced',
    names: {
      kind: 'ServiceEntry',
      listKind: 'ServiceEntryList',
      plural: 'serviceentries',
      singular: 'serviceentry'
    },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } }
      }
    ]
  }
}
