import t from 'tap'
import { decodeConfigResource, encodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { message } from '../../../shared/xds/schema.ts'

const spec = {
  parentRefs: [{ group: '', kind: 'Service', name: 'web', port: 80 }],
  rules: [
    { matches: [], backendRefs: [{ weight: 0, hostname: 'web.shop.svc.cluster.local' }], timeouts: {} }
  ],
  suspended: false,
  text: '',
  nothing: null
}
const encodeResource = (value: object): Buffer => message<object>('istio.mcp.v1alpha1.Resource').encode(value)

t.test('what is encoded is decoded, with empty values', async t => {
  const resource = { namespace: 'shop', name: 'web', createdMs: 1_700_000_000_000, spec }
  t.strictSame(decodeConfigResource(encodeConfigResource(resource)), resource)
  const ageless = { ...resource, createdMs: 0, spec: {} }
  t.strictSame(decodeConfigResource(encodeConfigResource(ageless)), ageless)
  const annotated = { ...resource, annotations: { 'istio.io/dry-run': 'true' } }
  t.strictSame(decodeConfigResource(encodeConfigResource(annotated)), annotated)
  t.same(encodeConfigResource(resource), encodeConfigResource({ ...resource }), 'the same each time')
})

t.test('the wire is what the published definition says', async t => {
  const bytes = encodeConfigResource({ namespace: 'shop', name: 'web', createdMs: 1000, spec: {} })
  const name = Buffer.from('\x0a\x08shop/web\x12\x02\x08\x01')
  const typeUrl = Buffer.from('type.googleapis.com/google.protobuf.Struct')
  const body = Buffer.concat([Buffer.from([0x0a, typeUrl.length]), typeUrl])
  const known = Buffer.concat([
    Buffer.from([0x0a, name.length]),
    name,
    Buffer.from([0x12, body.length]),
    body
  ])
  t.equal(bytes.toString('hex').replace(/1200$/, ''), known.toString('hex'))
})

t.test('what is malformed says what is wrong', async t => {
  const whole = encodeConfigResource({ namespace: 'shop', name: 'web', createdMs: 0, spec })
  const rows = [
    { bytes: Buffer.of(), error: /metadata\.name: expected namespace\/name, found ""/ },
    { bytes: encodeResource({ metadata: { name: 'web' } }), error: /expected namespace\/name, found "web"/ },
    { bytes: encodeResource({ metadata: { name: 'a/b/c' } }), error: /found "a\/b\/c"/ },
    {
      bytes: encodeResource({ metadata: { name: 'shop/web' } }),
      error: /body of shop\/web: .*found nothing/
    },
    {
      bytes: encodeResource({ metadata: { name: 'shop/web' }, body: { type_url: 'x', value: Buffer.of() } }),
      error: /expected type\.googleapis\.com\/google\.protobuf\.Struct, found x/
    },
    { bytes: whole.subarray(0, whole.length - 3), error: /no istio\.mcp\.v1alpha1\.Resource/ },
    {
      bytes: encodeResource({
        metadata: { name: 'shop/web' },
        body: { type_url: 'type.googleapis.com/google.protobuf.Struct', value: Buffer.of(0xff) }
      }),
      error: /no google\.protobuf\.Struct/
    }
  ]
  for (const { bytes, error } of rows) t.throws(() => decodeConfigResource(bytes), error, String(error))
})
