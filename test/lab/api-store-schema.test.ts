/** Types, defaults and validation by schema, beyond what the contract suite compares. */
import t from 'tap'
import { conform } from '../../lab/api-store/schema/conform.ts'
import { FieldTypes } from '../../lab/api-store/schema/field-types.ts'
import { matchesPattern } from '../../lab/api-store/schema/pattern.ts'
import { loadBuiltinSchemas, reachable, schemaNames, type Schema } from '../../lab/api-store/schema/schema.ts'
import { checkSchema, setSchemaDefaults } from '../../lab/api-store/schema/structural.ts'

const schemas = loadBuiltinSchemas()
const types = new FieldTypes(schemas)

t.test('builtin kinds are taken in their shape: the rest is dropped and named', async t => {
  const pod = types.named('io.k8s.api.core.v1.Pod')
  const body = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'x', labels: {}, annotations: { a: null }, creationTimestamp: null, odd: 1 },
    spec: {
      containers: [{ name: 'c', resources: { limits: { cpu: 2, memory: '1Gi' } }, imagee: 'x' }],
      volumes: [],
      nodeSelector: null
    }
  }
  const { value, unknown, mistyped } = conform(body, pod, 'builtin')
  t.strictSame(unknown, ['metadata.odd', 'spec.containers[0].imagee'])
  t.strictSame(mistyped, [])
  t.strictSame(value, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'x', annotations: { a: '' } },
    spec: { containers: [{ name: 'c', resources: { limits: { cpu: '2', memory: '1Gi' } } }] }
  })
  const wrong = conform(
    {
      metadata: 'x',
      spec: { containers: {}, hostNetwork: 'yes', priority: 1.5, terminationGracePeriodSeconds: '9' }
    },
    pod,
    'builtin'
  )
  t.strictSame(wrong.mistyped, [
    'metadata: expected an object, found string',
    'spec.containers: expected an array, found object',
    'spec.hostNetwork: expected true or false, found string',
    'spec.priority: expected an integer, found number',
    'spec.terminationGracePeriodSeconds: expected an integer, found string'
  ])
})

t.test('a schema that contains itself is read as far as it is used', async t => {
  const definition = types.named(
    'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition'
  )
  const schema = {
    type: 'object',
    properties: { a: { type: 'object', properties: { b: { type: 'array', items: { type: 'string' } } } } }
  }
  const body = { spec: { versions: [{ name: 'v1', schema: { openAPIV3Schema: schema } }] } }
  t.strictSame(conform(body, definition, 'builtin').unknown, [])
  t.strictSame(conform(body, definition, 'builtin').value, body)
})

t.test('an OpenAPI document carries what its kinds refer to', async t => {
  const names = Object.keys(reachable(schemas, ['io.k8s.api.coordination.v1.Lease']))
  t.strictSame(names.map(name => name.replace(/.*\./, '')).toSorted(), [
    'FieldsV1',
    'Lease',
    'LeaseSpec',
    'ManagedFieldsEntry',
    'MicroTime',
    'ObjectMeta',
    'OwnerReference',
    'Time'
  ])
  t.equal(schemaNames(schemas).get('apps/v1/Deployment'), 'io.k8s.api.apps.v1.Deployment')
})

t.test('defaults fill what is absent, also inside lists, maps and for nulls that may not be', async t => {
  const schema: Schema = {
    type: 'object',
    properties: {
      a: { type: 'string', default: 'x' },
      maybe: { type: 'string', nullable: true, default: 'y' },
      inner: { type: 'object', default: {}, properties: { b: { type: 'integer', default: 1 } } },
      list: {
        type: 'array',
        items: { type: 'object', properties: { c: { type: 'boolean', default: true } } }
      },
      map: {
        type: 'object',
        additionalProperties: { type: 'object', properties: { d: { type: 'integer', default: 2 } } }
      },
      absent: { type: 'object', properties: { e: { type: 'integer', default: 3 } } }
    }
  }
  const value = { a: null, maybe: null, list: [{}, { c: false }], map: { k: {} } }
  setSchemaDefaults(value, schema)
  t.strictSame(value, {
    a: 'x',
    maybe: null,
    inner: { b: 1 },
    list: [{ c: true }, { c: false }],
    map: { k: { d: 2 } }
  })
})

t.test('formats and combinations', async t => {
  const cases: readonly [Schema, unknown, boolean][] = [
    [{ type: 'string', format: 'date-time' }, '2026-01-01T00:00:00Z', true],
    [{ type: 'string', format: 'date-time' }, 'yesterday', false],
    [{ type: 'string', format: 'ipv4' }, '10.0.0.1', true],
    [{ type: 'string', format: 'ipv4' }, '10.0.0', false],
    [{ type: 'string', format: 'ipv6' }, '::1', true],
    [{ type: 'string', format: 'uuid' }, '00000000-0000-0000-0000-000000000000', true],
    [{ type: 'string', format: 'hostname' }, '-x', false],
    [{ type: 'string', format: 'made-up' }, 'x', true],
    [{ type: 'string', maxLength: 2 }, '😀😀', true],
    [{ type: 'string', minLength: 3 }, '😀😀', false],
    [{ type: 'number', minimum: 1, exclusiveMinimum: true }, 1, false],
    [{ type: 'number', multipleOf: 3 }, 7, false],
    [{ not: { required: ['a'] } }, { a: 1 }, false],
    [{ anyOf: [{ required: ['a'] }, { required: ['b'] }] }, {}, false],
    [{ allOf: [{ required: ['a'] }, { required: ['b'] }] }, { a: 1, b: 1 }, true],
    [{ type: 'object', minProperties: 1 }, {}, false],
    [{ type: 'object', properties: { constructor: { type: 'string' } }, required: ['toString'] }, {}, false]
  ]
  for (const [schema, value, valid] of cases) {
    t.equal(
      checkSchema(value, schema, 'x').length === 0,
      valid,
      `${JSON.stringify(schema)} ${JSON.stringify(value)}`
    )
  }
})

t.test("patterns are Go's", async t => {
  const cases: readonly [string, string, boolean][] = [
    ['^[a-z]+$', 'abc', true],
    ['^[a-z]+$', 'Abc', false],
    ['(?i)^abc$', 'ABC', true],
    ['^(?P<year>[0-9]{4})$', '2026', true],
    ['\\A[[:alpha:]]+\\z', 'abc', true],
    ['\\A[[:alpha:]]+\\z', 'ab1', false],
    ['^\\p{L}+$', 'äß', true],
    ['^[\\w-]+\\.$', 'a-b.', true],
    ['^(unclosed', 'anything: such a pattern is not checked', true]
  ]
  for (const [pattern, text, expected] of cases)
    t.equal(matchesPattern(text, pattern), expected, `${pattern} ${text}`)
})
