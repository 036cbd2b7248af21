/** JSON patch, merge patch, strategic merge patch, server-side apply. */
import type { Test } from 'tap'
import { configMap, deployment, type Context } from './context.ts'

export async function patchBehaviours(t: Test, { api, namespace }: Context): Promise<void> {
  const maps = `/api/v1/namespaces/${namespace}/configmaps`
  const deployments = `/apis/apps/v1/namespaces/${namespace}/deployments`

  await t.test('a JSON patch adds, replaces, moves, copies, tests and removes', async t => {
    await api.post(maps, configMap('json', { a: '1', b: '2' }))
    const patched = await api.patch(`${maps}/json`, 'json', [
      { op: 'test', path: '/data/a', value: '1' },
      { op: 'add', path: '/data/c', value: '3' },
      { op: 'replace', path: '/data/a', value: '4' },
      { op: 'copy', from: '/data/a', path: '/data/e' },
      { op: 'move', from: '/data/b', path: '/data/f' },
      { op: 'remove', path: '/data/e' }
    ])
    t.strictSame(patched.body['data'], { a: '4', c: '3', f: '2' })
  })

  await t.test('a JSON patch that does not fit changes nothing', async t => {
    for (const operations of [
      [{ op: 'test', path: '/data/a', value: 'other' }],
      [{ op: 'remove', path: '/data/none' }]
    ]) {
      t.equal((await api.patch(`${maps}/json`, 'json', operations)).status, 422, JSON.stringify(operations))
    }
    t.equal((await api.patch(`${maps}/json`, 'json', { op: 'add' })).status, 400)
    t.equal((await api.get(`${maps}/json`)).body['data'].a, '4')
  })

  await t.test('a merge patch removes what is null and replaces lists', async t => {
    await api.post(deployments, deployment('merge'))
    await api.patch(`${deployments}/merge`, 'merge', { metadata: { labels: { a: '1', b: '2' } } })
    const patched = await api.patch(`${deployments}/merge`, 'merge', {
      metadata: { labels: { a: null } },
      spec: { template: { spec: { containers: [{ name: 'other', image: 'o:1' }] } } }
    })
    t.strictSame(patched.body['metadata'].labels, { b: '2' })
    t.match(patched.body['spec'].template.spec.containers, [{ name: 'other' }])
    t.equal(patched.body['spec'].template.spec.containers.length, 1)
  })

  await t.test('a strategic merge patch joins lists by their keys', async t => {
    await api.post(deployments, deployment('strategic'))
    const path = `${deployments}/strategic`
    const containers = async (patch: unknown): Promise<unknown[]> => {
      const { status, body } = await api.patch(path, 'strategic', { spec: { template: { spec: patch } } })
      t.equal(status, 200)
      return body['spec'].template.spec.containers.map(
        (c: { name: string; image: string; env?: unknown; ports?: unknown }) => ({
          name: c.name,
          image: c.image,
          ...(c.env === undefined ? {} : { env: c.env }),
          ...(c.ports === undefined ? {} : { ports: c.ports })
        })
      )
    }
    t.strictSame(await containers({ containers: [{ name: 'side', image: 's:1' }] }), [
      { name: 'side', image: 's:1' },
      { name: 'web', image: 'web:1' }
    ])
    t.strictSame(
      await containers({
        containers: [
          { name: 'web', image: 'web:2', env: [{ name: 'A', value: '1' }], ports: [{ containerPort: 80 }] }
        ]
      }),
      [
        { name: 'side', image: 's:1' },
        {
          name: 'web',
          image: 'web:2',
          env: [{ name: 'A', value: '1' }],
          ports: [{ containerPort: 80, protocol: 'TCP' }]
        }
      ]
    )
    t.strictSame(
      await containers({
        containers: [
          { name: 'web', env: [{ name: 'B', value: '2' }], ports: [{ containerPort: 80, name: 'http' }] }
        ],
        $setElementOrder: undefined
      }),
      [
        { name: 'side', image: 's:1' },
        {
          name: 'web',
          image: 'web:2',
          env: [
            { name: 'B', value: '2' },
            { name: 'A', value: '1' }
          ],
          ports: [{ containerPort: 80, name: 'http', protocol: 'TCP' }]
        }
      ]
    )
    t.strictSame(
      await containers({
        '$setElementOrder/containers': [{ name: 'web' }, { name: 'side' }],
        containers: [{ name: 'web', env: [{ name: 'A', $patch: 'delete' }] }]
      }),
      [
        {
          name: 'web',
          image: 'web:2',
          env: [{ name: 'B', value: '2' }],
          ports: [{ containerPort: 80, name: 'http', protocol: 'TCP' }]
        },
        { name: 'side', image: 's:1' }
      ]
    )
    t.strictSame(
      await containers({
        containers: [
          { name: 'side', $patch: 'delete' },
          { name: 'web', env: null }
        ]
      }),
      [{ name: 'web', image: 'web:2', ports: [{ containerPort: 80, name: 'http', protocol: 'TCP' }] }]
    )
  })

  await t.test('a strategic merge patch knows finalizers, volumes and directives', async t => {
    const path = `${deployments}/strategic`
    await api.patch(path, 'strategic', { metadata: { finalizers: ['example.org/a'] } })
    const two = await api.patch(path, 'strategic', { metadata: { finalizers: ['example.org/b'] } })
    t.strictSame(new Set(two.body['metadata'].finalizers), new Set(['example.org/a', 'example.org/b']))
    const none = await api.patch(path, 'strategic', {
      metadata: { '$deleteFromPrimitiveList/finalizers': ['example.org/a', 'example.org/b'] }
    })
    t.notOk(none.body['metadata'].finalizers)
    await api.patch(path, 'strategic', {
      spec: { template: { spec: { volumes: [{ name: 'v', emptyDir: {} }] } } }
    })
    const union = { name: 'v', $retainKeys: ['name', 'configMap'], configMap: { name: 'm' } }
    const changed = await api.patch(path, 'strategic', { spec: { template: { spec: { volumes: [union] } } } })
    t.strictSame(changed.body['spec'].template.spec.volumes, [
      { name: 'v', configMap: { name: 'm', defaultMode: 420 } }
    ])
    const replaced = await api.patch(path, 'strategic', {
      spec: { strategy: { $patch: 'replace', type: 'Recreate' } }
    })
    t.strictSame(replaced.body['spec'].strategy, { type: 'Recreate' })
  })

  await t.test('a patch of an unknown kind is refused', async t => {
    const wrong = await api.request(
      'PATCH',
      `${maps}/json`,
      {},
      { headers: { 'content-type': 'application/json' } }
    )
    t.match(wrong, { status: 415, body: { reason: 'UnsupportedMediaType' } })
  })
}

export async function applyBehaviours(t: Test, { api, namespace }: Context): Promise<void> {
  const maps = `/api/v1/namespaces/${namespace}/configmaps`
  const deployments = `/apis/apps/v1/namespaces/${namespace}/deployments`
  const by = (fieldManager: string, force = false): { query: Record<string, string> } => ({
    query: { fieldManager, ...(force ? { force: 'true' } : {}) }
  })

  await t.test('an apply creates, then owns exactly what it sends', async t => {
    const applied = await api.patch(
      `${maps}/shared`,
      'apply',
      configMap('shared', { a: '1', b: '1' }),
      by('one')
    )
    t.equal(applied.status, 201)
    t.strictSame(
      applied.body['metadata'].managedFields.map((entry: Record<string, unknown>) => [
        entry['manager'],
        entry['operation'],
        entry['fieldsV1']
      ]),
      [['one', 'Apply', { 'f:data': { 'f:a': {}, 'f:b': {} } }]]
    )
    const again = await api.patch(
      `${maps}/shared`,
      'apply',
      configMap('shared', { a: '1', b: '1' }),
      by('one')
    )
    t.equal(again.status, 200)
    t.equal(
      again.body['metadata'].resourceVersion,
      applied.body['metadata'].resourceVersion,
      'the same again changes nothing'
    )
  })

  await t.test('two appliers share an object; each takes away only what it brought', async t => {
    const two = await api.patch(`${maps}/shared`, 'apply', configMap('shared', { c: '2' }), by('two'))
    t.strictSame(two.body['data'], { a: '1', b: '1', c: '2' })
    const less = await api.patch(`${maps}/shared`, 'apply', configMap('shared', { a: '1' }), by('one'))
    t.strictSame(less.body['data'], { a: '1', c: '2' })
  })

  await t.test('a field of another is a conflict that names owner and field', async t => {
    const conflict = await api.patch(`${maps}/shared`, 'apply', configMap('shared', { a: '9' }), by('two'))
    t.match(conflict, {
      status: 409,
      body: {
        reason: 'Conflict',
        message: 'Apply failed with 1 conflict: conflict with "one": .data.a',
        details: { causes: [{ reason: 'FieldManagerConflict', field: '.data.a' }] }
      }
    })
    const forced = await api.patch(
      `${maps}/shared`,
      'apply',
      configMap('shared', { a: '9' }),
      by('two', true)
    )
    t.strictSame(forced.body['data'], { a: '9' })
    const owners = forced.body['metadata'].managedFields.filter(
      (entry: { fieldsV1: object }) => 'f:data' in entry.fieldsV1
    )
    t.strictSame(
      owners.map((entry: { manager: string }) => entry.manager),
      ['two']
    )
  })

  await t.test('two that want the same own it together', async t => {
    await api.patch(`${maps}/shared`, 'apply', configMap('shared', { a: '9' }), by('one'))
    const kept = await api.patch(`${maps}/shared`, 'apply', configMap('shared', {}), by('two'))
    t.strictSame(kept.body['data'], { a: '9' })
  })

  await t.test('who updates a field owns it from then on', async t => {
    await api.patch(`${maps}/shared`, 'merge', { data: { a: '10' } }, by('editor'))
    const conflict = await api.patch(`${maps}/shared`, 'apply', configMap('shared', { a: '11' }), by('one'))
    t.match(conflict, { status: 409, body: { details: { causes: [{ field: '.data.a' }] } } })
    t.match(conflict.body['message'], /conflict with "editor" using v1: \.data\.a/)
  })

  await t.test('keyed lists are owned item by item', async t => {
    const path = `${deployments}/applied`
    t.equal((await api.patch(path, 'apply', deployment('applied'), by('one'))).status, 201)
    const side = { spec: { template: { spec: { containers: [{ name: 'side', image: 's:1' }] } } } }
    const head = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'applied' } }
    const two = await api.patch(path, 'apply', { ...head, ...side }, by('two'))
    t.strictSame(
      two.body['spec'].template.spec.containers.map((c: { name: string }) => c.name),
      ['web', 'side']
    )
    const conflict = await api.patch(
      path,
      'apply',
      { ...head, spec: { template: { spec: { containers: [{ name: 'web', image: 'web:9' }] } } } },
      by('two')
    )
    t.match(conflict, {
      status: 409,
      body: { details: { causes: [{ field: '.spec.template.spec.containers[name="web"].image' }] } }
    })
    const gone = await api.patch(path, 'apply', head, by('two'))
    t.strictSame(
      gone.body['spec'].template.spec.containers.map((c: { name: string }) => c.name),
      ['web']
    )
  })

  await t.test('defaults stay when their applier lets go of nothing else', async t => {
    const path = `${deployments}/applied`
    const { body } = await api.get(path)
    t.equal(body['spec'].replicas, 1)
    const scaled = await api.patch(path, 'merge', { spec: { replicas: 5 } }, by('scaler'))
    t.equal(scaled.body['spec'].replicas, 5)
    const again = await api.patch(path, 'apply', deployment('applied'), by('one'))
    t.equal(again.body['spec'].replicas, 5, 'a field that the applier never sent is left alone')
  })

  await t.test('status is applied through its sub-resource, with an owner of its own', async t => {
    const path = `${deployments}/applied/status`
    const head = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'applied' } }
    const conditions = [{ type: 'Available', status: 'True', reason: 'x', message: 'y' }]
    const applied = await api.patch(path, 'apply', { ...head, status: { conditions } }, by('controller'))
    t.match(applied, { status: 200, body: { status: { conditions: [{ type: 'Available' }] } } })
    t.match(
      applied.body['metadata'].managedFields.find(
        (entry: { manager: string }) => entry.manager === 'controller'
      ),
      { subresource: 'status' }
    )
  })

  await t.test('an apply needs a manager and leaves managedFields to the server', async t => {
    t.equal((await api.patch(`${maps}/x`, 'apply', configMap('x', {}))).status, 422)
    const managedFields = [
      { manager: 'x', operation: 'Apply', apiVersion: 'v1', fieldsType: 'FieldsV1', fieldsV1: {} }
    ]
    t.equal(
      (await api.patch(`${maps}/x`, 'apply', configMap('x', {}, { managedFields }), by('one'))).status,
      400
    )
  })

  await t.test('an apply may be YAML', async t => {
    const yaml = Buffer.from(`apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  a: "1"\n`)
    t.match(await api.patch(`${maps}/yaml`, 'apply', yaml, by('one')), {
      status: 201,
      body: { data: { a: '1' } }
    })
  })
}
