/** Custom resources by their definition. */
import type { Test } from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import type { Body } from './api.ts'
import type { Context } from './context.ts'

function definition(group: string): Body {
  const spec = {
    type: 'object',
    required: ['size'],
    properties: {
      size: { type: 'integer', minimum: 1, maximum: 10 },
      color: { type: 'string', enum: ['red', 'blue'], default: 'red' },
      code: { type: 'string', pattern: '^[a-z]+$', maxLength: 5 },
      replicas: { type: 'integer', default: 1 },
      limit: { 'x-kubernetes-int-or-string': true, anyOf: [{ type: 'integer' }, { type: 'string' }] },
      free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
      parts: {
        type: 'array',
        maxItems: 3,
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['name'],
        items: {
          type: 'object',
          required: ['name'],
          properties: { name: { type: 'string' }, on: { type: 'boolean', default: true } }
        }
      },
      names: { type: 'array', 'x-kubernetes-list-type': 'set', items: { type: 'string' } },
      tags: { type: 'object', additionalProperties: { type: 'string' } },
      one: {
        type: 'object',
        oneOf: [{ required: ['a'] }, { required: ['b'] }],
        properties: { a: { type: 'string' }, b: { type: 'string' } }
      }
    }
  }
  const status = {
    type: 'object',
    properties: { replicas: { type: 'integer' }, selector: { type: 'string' }, phase: { type: 'string' } }
  }
  const openAPIV3Schema = { type: 'object', properties: { spec, status } }
  const version = {
    schema: { openAPIV3Schema },
    served: true,
    subresources: {
      status: {},
      scale: { specReplicasPath: '.spec.replicas', statusReplicasPath: '.status.replicas' }
    },
    additionalPrinterColumns: [
      { name: 'Size', type: 'integer', jsonPath: '.spec.size' },
      { name: 'First', type: 'string', jsonPath: '.spec.parts[0].name', priority: 1 },
      { name: 'On', type: 'string', jsonPath: '.spec.parts[?(@.name=="b")].on' }
    ]
  }
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `widgets.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: {
        plural: 'widgets',
        singular: 'widget',
        kind: 'Widget',
        shortNames: ['wd'],
        categories: ['all']
      },
      versions: [
        { name: 'v1', storage: true, ...version },
        { name: 'v1beta1', storage: false, ...version, deprecated: true }
      ]
    }
  }
}

export async function customResourceBehaviours(t: Test, { api, namespace }: Context): Promise<void> {
  const group = `c${process.pid}.example.org`
  const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
  const widgets = `/apis/${group}/v1/namespaces/${namespace}/widgets`
  const widget = (name: string, spec: object): Body => ({
    apiVersion: `${group}/v1`,
    kind: 'Widget',
    metadata: { name },
    spec
  })
  t.teardown(async () => api.delete(`${definitions}/widgets.${group}`))

  await t.test('a definition becomes a served resource', async t => {
    t.equal((await api.get(widgets)).status, 404)
    t.equal((await api.post(definitions, definition(group))).status, 201)
    let served = await api.get(widgets)
    for (let attempt = 0; attempt < 100 && served.status !== 200; attempt += 1) {
      await delay(50)
      served = await api.get(widgets)
    }
    t.match(served, { status: 200, body: { kind: 'WidgetList', apiVersion: `${group}/v1`, items: [] } })
    const { body } = await api.get(`${definitions}/widgets.${group}`)
    t.match(body['status'].conditions, [
      { type: 'NamesAccepted', status: 'True' },
      { type: 'Established', status: 'True' }
    ])
    t.match(body['status'], { acceptedNames: { kind: 'Widget', shortNames: ['wd'] }, storedVersions: ['v1'] })
  })

  await t.test('defaults are filled in and unknown fields pruned', async t => {
    const spec = {
      size: 3,
      unknown: 1,
      parts: [{ name: 'a', odd: 1 }],
      free: { any: { thing: [1] } },
      limit: '10%',
      tags: { a: 'b' }
    }
    const { status, body } = await api.post(widgets, widget('full', spec))
    t.equal(status, 201)
    t.strictSame(body['spec'], {
      color: 'red',
      free: { any: { thing: [1] } },
      limit: '10%',
      parts: [{ name: 'a', on: true }],
      replicas: 1,
      size: 3,
      tags: { a: 'b' }
    })
    t.equal(body['metadata'].generation, 1)
  })

  await t.test('what breaks the schema is refused with its fields', async t => {
    const wrong: readonly [string, object, string][] = [
      ['a missing field', {}, 'spec.size'],
      ['a wrong type', { size: 'big' }, 'spec.size'],
      ['a number too small', { size: 0 }, 'spec.size'],
      ['a number too large', { size: 11 }, 'spec.size'],
      ['a value outside of its choices', { size: 1, color: 'green' }, 'spec.color'],
      ['a text that does not match', { size: 1, code: 'A1' }, 'spec.code'],
      ['a text too long', { size: 1, code: 'abcdef' }, 'spec.code'],
      ['neither number nor text', { size: 1, limit: true }, 'spec.limit'],
      [
        'a nested field of a wrong type',
        { size: 1, parts: [{ name: 'a' }, { name: 'b', on: 'yes' }] },
        'spec.parts[1].on'
      ],
      ['a nested field that is missing', { size: 1, parts: [{ on: true }] }, 'spec.parts[0].name'],
      ['too many items', { size: 1, parts: ['a', 'b', 'c', 'd'].map(name => ({ name })) }, 'spec.parts'],
      ['a key twice', { size: 1, parts: [{ name: 'a' }, { name: 'a' }] }, 'spec.parts[1]'],
      ['a set item twice', { size: 1, names: ['x', 'x'] }, 'spec.names[1]'],
      ['a map value of a wrong type', { size: 1, tags: { a: 1 } }, 'spec.tags.a'],
      ['none of two alternatives', { size: 1, one: {} }, 'spec.one'],
      ['both of two alternatives', { size: 1, one: { a: '', b: '' } }, 'spec.one'],
      ['a null', { size: null }, 'spec.size']
    ]
    for (const [name, spec, field] of wrong) {
      const { status, body } = await api.post(widgets, widget('wrong', spec))
      t.match({ status, reason: body['reason'] }, { status: 422, reason: 'Invalid' }, name)
      if (field === 'spec.one') {
        t.match(body['message'], /spec\.one/, name)
        continue
      }
      const fields = (body['details']?.causes ?? []).map((cause: { field: string }) => cause.field)
      t.ok(fields.includes(field), `${name}: ${fields.join(' ')} names ${field}`)
    }
  })

  await t.test('it is replaced only by those who say which version they replace', async t => {
    const path = `${widgets}/full`
    const { body } = await api.get(path)
    const { resourceVersion: _left, ...metadata } = body['metadata']
    const unversioned = await api.put(path, { ...body, metadata })
    t.match(unversioned, {
      status: 422,
      body: { details: { causes: [{ field: 'metadata.resourceVersion' }] } }
    })
    t.equal((await api.put(path, { ...body, metadata: { ...metadata, resourceVersion: '1' } })).status, 409)
    t.equal((await api.put(path, body)).status, 200)
    const marked = await api.patch(`${path}/status`, 'merge', { metadata: { labels: { a: 'b' } } })
    t.match(
      marked,
      { status: 200, body: { metadata: { labels: undefined } } },
      'its status carries no labels'
    )
  })

  await t.test('its status and scale are sub-resources', async t => {
    const path = `${widgets}/full`
    t.match(await api.patch(path, 'merge', { status: { phase: 'x' } }), {
      status: 200,
      body: { status: undefined }
    })
    t.match(
      await api.patch(`${path}/status`, 'merge', { status: { phase: 'Up', replicas: 2 }, spec: { size: 9 } }),
      { status: 200, body: { spec: { size: 3 }, status: { phase: 'Up' } } }
    )
    t.match((await api.get(`${path}/scale`)).body, {
      kind: 'Scale',
      spec: { replicas: 1 },
      status: { replicas: 2 }
    })
    t.match(await api.patch(`${path}/scale`, 'merge', { spec: { replicas: 4 } }), {
      body: { spec: { replicas: 4 } }
    })
    t.match((await api.get(path)).body, { spec: { replicas: 4 }, metadata: { generation: 2 } })
  })

  await t.test('every version serves the same objects; a deprecated one warns', async t => {
    const beta = await api.get(`/apis/${group}/v1beta1/namespaces/${namespace}/widgets/full`)
    t.match(beta, {
      status: 200,
      headers: { warning: /deprecated/ },
      body: { apiVersion: `${group}/v1beta1`, spec: { size: 3 } }
    })
  })

  await t.test('its table has the columns of the definition', async t => {
    await api.post(widgets, widget('table', { size: 2, parts: [{ name: 'b', on: false }] }))
    const { body } = await api.get(`${widgets}/table`, {
      headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' }
    })
    t.strictSame(
      body['columnDefinitions'].map((column: { name: string }) => column.name),
      ['Name', 'Size', 'First', 'On']
    )
    t.strictSame(body['rows'][0].cells, ['table', 2, 'b', 'false'])
  })

  await t.test('it takes merge, JSON and apply patches, not strategic ones', async t => {
    const path = `${widgets}/full`
    t.equal((await api.patch(path, 'json', [{ op: 'replace', path: '/spec/size', value: 5 }])).status, 200)
    t.equal((await api.patch(path, 'strategic', { spec: { size: 6 } })).status, 415)
    const part = {
      apiVersion: `${group}/v1`,
      kind: 'Widget',
      metadata: { name: 'full' },
      spec: { parts: [{ name: 'c' }] }
    }
    const applied = await api.patch(path, 'apply', part, { query: { fieldManager: 'one' } })
    t.strictSame(
      applied.body['spec'].parts.map((item: { name: string }) => item.name),
      ['a', 'c']
    )
  })

  await t.test('a definition that is deleted takes its objects along', async t => {
    t.equal((await api.delete(`${definitions}/widgets.${group}`)).status, 200)
    let after = await api.get(widgets)
    for (let attempt = 0; attempt < 100 && after.status !== 404; attempt += 1) {
      await delay(50)
      after = await api.get(widgets)
    }
    t.equal(after.status, 404)
  })
}
