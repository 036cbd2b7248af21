/** Creating, reading, listing, updating and deleting objects. */
import type { Test } from 'tap'
import { configMap, deployment, pod, type Context } from './context.ts'

export async function objectBehaviours(t: Test, { api, namespace }: Context): Promise<void> {
  const maps = `/api/v1/namespaces/${namespace}/configmaps`
  const pods = `/api/v1/namespaces/${namespace}/pods`
  const deployments = `/apis/apps/v1/namespaces/${namespace}/deployments`

  await t.test('a created object has uid, version, creation time and who wrote what', async t => {
    const { status, body } = await api.post(maps, configMap('made', { a: '1' }), {
      query: { fieldManager: 'maker' }
    })
    t.equal(status, 201)
    t.match(body['metadata'].uid, /^[0-9a-f-]{36}$/)
    t.match(body['metadata'].resourceVersion, /^\d+$/)
    t.match(body['metadata'].creationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
    t.match(body['metadata'].managedFields, [
      { manager: 'maker', operation: 'Update', apiVersion: 'v1', fieldsType: 'FieldsV1' }
    ])
    t.has(body['metadata'].managedFields[0].fieldsV1, { 'f:data': { 'f:a': {} } })
    t.strictSame((await api.get(`${maps}/made`)).body, body)
  })

  await t.test('a name is taken once', async t => {
    const again = await api.post(maps, configMap('made', {}))
    t.match(again, {
      status: 409,
      body: { kind: 'Status', reason: 'AlreadyExists', details: { name: 'made', kind: 'configmaps' } }
    })
    t.equal(again.body['message'], 'configmaps "made" already exists')
  })

  await t.test('generateName gives names that differ', async t => {
    const one = await api.post(maps, configMap('', {}, { name: undefined, generateName: 'x-' }))
    const two = await api.post(maps, configMap('', {}, { name: undefined, generateName: 'x-' }))
    t.match(one.body['metadata'].name, /^x-[a-z0-9]{5}$/)
    t.not(one.body['metadata'].name, two.body['metadata'].name)
  })

  await t.test('what is not there is answered with 404 and its name', async t => {
    const missing = await api.get(`${maps}/nothing`)
    t.match(missing, {
      status: 404,
      body: { reason: 'NotFound', message: 'configmaps "nothing" not found', details: { name: 'nothing' } }
    })
    t.match(await api.get('/apis/nothing.example/v1/things'), { status: 404 })
    t.match(await api.post('/api/v1/namespaces/nowhere/configmaps', configMap('x', {})), {
      status: 404,
      body: { details: { kind: 'namespaces' } }
    })
  })

  await t.test('an update of an old version is refused, one without version is not', async t => {
    const { body } = await api.post(maps, configMap('versions', { a: '1' }))
    const next = await api.put(`${maps}/versions`, { ...body, data: { a: '2' } })
    t.equal(next.status, 200)
    t.ok(Number(next.body['metadata'].resourceVersion) > Number(body['metadata'].resourceVersion))
    const old = await api.put(`${maps}/versions`, { ...body, data: { a: '3' } })
    t.match(old, { status: 409, body: { reason: 'Conflict' } })
    t.match(
      old.body['message'],
      /the object has been modified; please apply your changes to the latest version/
    )
    t.equal((await api.put(`${maps}/versions`, configMap('versions', { a: '4' }))).status, 200)
  })

  await t.test('an update that changes nothing keeps the version', async t => {
    const { body } = await api.get(`${maps}/versions`)
    const same = await api.put(`${maps}/versions`, body)
    t.equal(same.body['metadata'].resourceVersion, body['metadata'].resourceVersion)
  })

  await t.test('a dry run validates and answers but stores nothing', async t => {
    const dry = { query: { dryRun: 'All' } }
    t.equal((await api.post(maps, configMap('dry', {}), dry)).status, 201)
    t.equal((await api.get(`${maps}/dry`)).status, 404)
    t.equal((await api.post(maps, configMap('Dry', {}), dry)).status, 422)
    t.equal((await api.delete(`${maps}/made`, undefined, dry)).status, 200)
    t.equal((await api.get(`${maps}/made`)).status, 200)
  })

  await t.test('unknown fields are refused, warned of or dropped, as the client asks', async t => {
    const body = { ...configMap('strict', {}), surplus: 1 }
    const strict = await api.post(maps, body, { query: { fieldValidation: 'Strict' } })
    t.match(strict, { status: 400, body: { reason: 'BadRequest' } })
    t.match(strict.body['message'], /unknown field "surplus"/)
    const warned = await api.post(maps, body, { query: { fieldValidation: 'Warn' } })
    t.match(warned, { status: 201, headers: { warning: '299 - "unknown field \\"surplus\\""' } })
    t.notOk('surplus' in warned.body)
    const ignored = await api.put(`${maps}/strict`, body, { query: { fieldValidation: 'Ignore' } })
    t.match(ignored, { status: 200, headers: { warning: undefined } })
  })

  await t.test('the generation counts changes of the spec only', async t => {
    await api.post(deployments, deployment('counted'))
    const path = `${deployments}/counted`
    const generation = async (): Promise<number> => (await api.get(path)).body['metadata'].generation
    t.equal(await generation(), 1)
    await api.patch(path, 'merge', { metadata: { labels: { a: 'b' } } })
    t.equal(await generation(), 1)
    await api.patch(path, 'merge', { spec: { replicas: 4 } })
    t.equal(await generation(), 2)
  })

  await t.test('status is written through its sub-resource and by nothing else', async t => {
    const path = `${deployments}/counted`
    await api.patch(path, 'merge', { status: { replicas: 9 } })
    t.notMatch((await api.get(path)).body, { status: { replicas: 9 } })
    const written = await api.patch(`${path}/status`, 'merge', {
      status: { replicas: 2 },
      spec: { replicas: 7 }
    })
    t.match(written, { status: 200, body: { spec: { replicas: 4 }, status: { replicas: 2 } } })
    t.equal(written.body['metadata'].generation, 2)
  })

  await t.test('a write of the status may mark a builtin object with labels and annotations', async t => {
    await api.post(pods, pod('marked', { labels: { kept: 'yes' } }))
    const marks = { metadata: { labels: { a: 'b' }, annotations: { c: 'd' } }, status: { podIP: '10.1.2.3' } }
    const marked = await api.patch(`${pods}/marked/status`, 'strategic', marks)
    t.match(marked.body, {
      metadata: { labels: { kept: 'yes', a: 'b' }, annotations: { c: 'd' } },
      status: { podIP: '10.1.2.3', phase: 'Pending' }
    })
    const removal = { metadata: { annotations: { c: null } } }
    const unmarked = await api.patch(`${pods}/marked/status`, 'merge', removal)
    t.equal(unmarked.body['metadata'].annotations?.c, undefined, 'and take them away again, the last one too')
  })

  await t.test('an update creates Endpoints and Leases where there are none, and nothing else', async t => {
    const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'new' } }
    t.equal(
      (await api.put(`/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/new`, lease)).status,
      201
    )
    const endpoints = { apiVersion: 'v1', kind: 'Endpoints', metadata: { name: 'new' } }
    t.equal((await api.put(`/api/v1/namespaces/${namespace}/endpoints/new`, endpoints)).status, 201)
    t.equal((await api.put(`${maps}/new`, configMap('new', {}))).status, 404)
  })

  await t.test('scale reads and writes the replicas', async t => {
    const path = `${deployments}/counted/scale`
    const scale = await api.get(path)
    t.match(scale.body, {
      kind: 'Scale',
      apiVersion: 'autoscaling/v1',
      spec: { replicas: 4 },
      status: { replicas: 2, selector: 'app=counted' }
    })
    t.match(await api.put(path, { ...scale.body, spec: { replicas: 1 } }), {
      status: 200,
      body: { spec: { replicas: 1 } }
    })
    t.match(await api.patch(path, 'merge', { spec: { replicas: 3 } }), {
      status: 200,
      body: { spec: { replicas: 3 } }
    })
    t.equal((await api.get(`${deployments}/counted`)).body['spec'].replicas, 3)
  })

  await t.test('fields that are fixed at creation stay', async t => {
    const changed = await api.patch(`${deployments}/counted`, 'merge', {
      spec: {
        selector: { matchLabels: { app: 'other' } },
        template: { metadata: { labels: { app: 'other' } } }
      }
    })
    t.match(changed, {
      status: 422,
      body: { reason: 'Invalid', details: { causes: [{ field: 'spec.selector' }] } }
    })
    await api.post(pods, pod('fixed'))
    t.match(await api.patch(`${pods}/fixed`, 'merge', { spec: { restartPolicy: 'Never' } }), {
      status: 422,
      body: { details: { causes: [{ field: 'spec', reason: 'FieldValueForbidden' }] } }
    })
    t.equal(
      (await api.patch(`${pods}/fixed`, 'strategic', { spec: { containers: [{ name: 'c', image: 'i:2' }] } }))
        .status,
      200
    )
    const services = `/api/v1/namespaces/${namespace}/services`
    await api.post(services, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'fixed' },
      spec: { ports: [{ port: 80 }] }
    })
    t.match(
      await api.patch(`${services}/fixed`, 'merge', {
        spec: { clusterIP: '10.96.3.4', clusterIPs: ['10.96.3.4'] }
      }),
      { status: 422, body: { details: { causes: [{ field: 'spec.clusterIPs[0]' }] } } }
    )
  })

  await t.test('an immutable ConfigMap cannot be changed', async t => {
    await api.post(maps, { ...configMap('frozen', { a: '1' }), immutable: true })
    t.match(await api.patch(`${maps}/frozen`, 'merge', { data: { a: '2' } }), {
      status: 422,
      body: { details: { causes: [{ field: 'data' }] } }
    })
  })

  await t.test('lists are chosen by labels and fields', async t => {
    for (const [name, labels] of [
      ['l1', { app: 'a', tier: 'x' }],
      ['l2', { app: 'a' }],
      ['l3', { app: 'b', tier: 'y' }]
    ] as const) {
      await api.post(pods, pod(name, { labels }))
    }
    const names = async (query: Record<string, string>): Promise<string[]> =>
      (await api.get(pods, { query })).body['items'].map(
        (item: { metadata: { name: string } }) => item.metadata.name
      )
    t.strictSame(await names({ labelSelector: 'app=a' }), ['l1', 'l2'])
    t.strictSame(await names({ labelSelector: 'app!=a,app' }), ['l3'])
    t.strictSame(await names({ labelSelector: 'app in (a, b),tier notin (y)' }), ['l1', 'l2'])
    t.strictSame(await names({ labelSelector: 'app,!tier' }), ['l2'])
    t.strictSame(await names({ fieldSelector: 'metadata.name=l3' }), ['l3'])
    t.strictSame(await names({ fieldSelector: 'status.phase!=Pending' }), [])
    t.strictSame(await names({ fieldSelector: 'spec.nodeName=', labelSelector: 'tier=y' }), ['l3'])
    t.equal((await api.get(pods, { query: { labelSelector: 'a b' } })).status, 400)
    t.equal((await api.get(pods, { query: { fieldSelector: 'spec.unknown=1' } })).status, 400)
  })

  await t.test('a list comes in pages that show one moment', async t => {
    for (const name of ['p1', 'p2', 'p3', 'p4'])
      await api.post(maps, configMap(name, {}, { labels: { paged: 'yes' } }))
    const query = { labelSelector: 'paged=yes', limit: '2' }
    const first = await api.get(maps, { query })
    t.strictSame(
      first.body['items'].map((item: { metadata: { name: string } }) => item.metadata.name),
      ['p1', 'p2']
    )
    await api.delete(`${maps}/p3`)
    await api.post(maps, configMap('p5', {}, { labels: { paged: 'yes' } }))
    const second = await api.get(maps, {
      query: { ...query, limit: '9', continue: first.body['metadata'].continue }
    })
    t.strictSame(
      second.body['items'].map((item: { metadata: { name: string } }) => item.metadata.name),
      ['p3', 'p4']
    )
    t.equal(second.body['metadata'].resourceVersion, first.body['metadata'].resourceVersion)
    t.notOk(second.body['metadata'].continue)
    t.equal((await api.get(maps, { query: { ...query, continue: 'nonsense' } })).status, 400)
  })

  await t.test('a deletion can name the uid that it means', async t => {
    const { body } = await api.get(`${maps}/p1`)
    t.match(
      await api.delete(`${maps}/p1`, { preconditions: { uid: '00000000-0000-0000-0000-000000000000' } }),
      { status: 409 }
    )
    t.match(await api.delete(`${maps}/p1`, { preconditions: { uid: body['metadata'].uid } }), {
      status: 200,
      body: { kind: 'Status', status: 'Success', details: { name: 'p1', uid: body['metadata'].uid } }
    })
    t.match(await api.delete(`${maps}/p1`), { status: 404 })
  })

  await t.test('finalizers hold an object until the last is gone', async t => {
    await api.post(maps, configMap('held', {}, { finalizers: ['example.org/hold'] }))
    const deleted = await api.delete(`${maps}/held`)
    t.match(deleted, {
      status: 200,
      body: { metadata: { deletionTimestamp: String, deletionGracePeriodSeconds: 0 } }
    })
    t.match(
      await api.patch(`${maps}/held`, 'merge', {
        metadata: { finalizers: ['example.org/hold', 'example.org/more'] }
      }),
      { status: 422 }
    )
    t.equal((await api.get(`${maps}/held`)).status, 200)
    t.equal((await api.patch(`${maps}/held`, 'merge', { metadata: { finalizers: null } })).status, 200)
    t.equal((await api.get(`${maps}/held`)).status, 404)
  })

  await t.test('a pod on a node ends gracefully, one on none at once', async t => {
    await api.post(pods, pod('unplaced'))
    t.match(await api.delete(`${pods}/unplaced`), { status: 200, body: { kind: 'Pod' } })
    t.equal((await api.get(`${pods}/unplaced`)).status, 404)
    await api.post(pods, pod('placed', {}, { nodeName: 'node1', terminationGracePeriodSeconds: 45 }))
    t.match(await api.delete(`${pods}/placed`), {
      status: 200,
      body: { metadata: { deletionGracePeriodSeconds: 45 } }
    })
    t.match(await api.get(`${pods}/placed`), {
      status: 200,
      body: { metadata: { deletionTimestamp: String } }
    })
    t.match(await api.delete(`${pods}/placed`, { gracePeriodSeconds: 7 }), {
      body: { metadata: { deletionGracePeriodSeconds: 7 } }
    })
    t.equal((await api.delete(`${pods}/placed`, { gracePeriodSeconds: 0 })).status, 200)
    t.equal((await api.get(`${pods}/placed`)).status, 404)
  })

  await t.test('a Binding places a pod once', async t => {
    await api.post(pods, pod('bound'))
    const binding = {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: 'bound' },
      target: { apiVersion: 'v1', kind: 'Node', name: 'node1' }
    }
    t.equal((await api.post(`${pods}/bound/binding`, binding)).status, 201)
    t.match((await api.get(`${pods}/bound`)).body, {
      spec: { nodeName: 'node1' },
      status: { conditions: [{ type: 'PodScheduled', status: 'True' }] }
    })
    t.equal((await api.post(`${pods}/bound/binding`, binding)).status, 409)
  })

  await t.test('a collection can be deleted by labels', async t => {
    t.equal((await api.delete(maps, undefined, { query: { labelSelector: 'paged=yes' } })).status, 200)
    t.strictSame((await api.get(maps, { query: { labelSelector: 'paged=yes' } })).body['items'], [])
    t.equal((await api.get(`${maps}/made`)).status, 200)
  })

  await t.test('a namespace that is being deleted takes nothing new', async t => {
    const name = `${namespace}-ends`
    await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
    await api.post(
      `/api/v1/namespaces/${name}/configmaps`,
      configMap('held', {}, { finalizers: ['example.org/hold'] })
    )
    t.match(await api.delete(`/api/v1/namespaces/${name}`), {
      status: 200,
      body: { status: { phase: 'Terminating' } }
    })
    t.match(await api.post(`/api/v1/namespaces/${name}/configmaps`, configMap('late', {})), {
      status: 403,
      body: { reason: 'Forbidden' }
    })
    await api.patch(`/api/v1/namespaces/${name}/configmaps/held`, 'merge', { metadata: { finalizers: null } })
  })

  await t.test('objects are also answered as metadata and as tables', async t => {
    const accept = (as: string): { headers: Record<string, string> } => ({
      headers: { accept: `application/json;as=${as};v=v1;g=meta.k8s.io` }
    })
    const metadata = await api.get(`${pods}/l1`, accept('PartialObjectMetadata'))
    t.match(metadata.body, {
      kind: 'PartialObjectMetadata',
      apiVersion: 'meta.k8s.io/v1',
      metadata: { name: 'l1' }
    })
    t.notOk('spec' in metadata.body)
    t.match((await api.get(pods, accept('PartialObjectMetadataList'))).body, {
      kind: 'PartialObjectMetadataList',
      items: [{ kind: 'PartialObjectMetadata' }]
    })
    const table = await api.get(pods, { ...accept('Table'), query: { labelSelector: 'app=b' } })
    t.match(table.body, {
      kind: 'Table',
      rows: [
        {
          cells: ['l3', '0/1', 'Pending', '0', /^\d+s$/, '<none>'],
          object: { kind: 'PartialObjectMetadata' }
        }
      ]
    })
    t.equal((await api.get(pods, { headers: { accept: 'application/xml' } })).status, 406)
  })
}
