/** Responses read from their bytes, beside what protobufjs makes of the same. */
import t from 'tap'
import { readDeltaResponse } from '../../../shared/xds/delta-response.ts'
import { message } from '../../../shared/xds/schema.ts'

interface Decoded {
  readonly typeUrl?: string
  readonly nonce?: string
  readonly resources: readonly {
    readonly name?: string
    readonly version?: string
    readonly aliases: readonly string[]
    readonly resource?: { readonly value?: Buffer }
  }[]
  readonly removedResources: readonly string[]
}

const protobuf = message<Decoded>('envoy.service.discovery.v3.DeltaDiscoveryResponse')

function byProtobuf(bytes: Buffer): unknown {
  const { typeUrl = '', nonce = '', resources, removedResources } = protobuf.decode(bytes)
  return {
    typeUrl,
    nonce,
    removedResources,
    resources: resources.map(({ name = '', version = '', aliases, resource }) => ({
      name,
      version,
      aliases,
      bytes: resource?.value ?? Buffer.alloc(0)
    }))
  }
}

const resource = (name: string, size: number): object => ({
  name,
  version: 'v1',
  resource: { type_url: 'type.googleapis.com/istio.workload.Address', value: Buffer.alloc(size, name) }
})

const situations: readonly { readonly name: string; readonly response: object }[] = [
  { name: 'nothing', response: {} },
  { name: 'an empty answer', response: { typeUrl: 'a', nonce: '1' } },
  {
    name: 'resources with bodies of every length of length',
    response: {
      typeUrl: 'type',
      nonce: 'nonce',
      resources: [0, 1, 127, 128, 16_383, 16_384, 2_097_152].map(size => resource(`size-${size}`, size))
    }
  },
  {
    name: 'removals and aliases, in names of more than ASCII',
    response: {
      typeUrl: 'type',
      removedResources: ['shop/wärm', '集群//Pod/a/b'],
      resources: [{ ...resource('ü', 3), aliases: ['/10.0.0.1', '/fd00::1'] }]
    }
  },
  { name: 'a resource without a body', response: { resources: [{ name: 'x' }, { version: '2' }] } }
]

for (const { name, response } of situations) {
  t.test(`${name}: as protobufjs reads it`, async t => {
    const bytes = protobuf.encode(response as Decoded)
    t.strictSame(readDeltaResponse(bytes), byProtobuf(bytes))
  })
}

t.test('fields that are not known are passed over, whatever their type', async t => {
  const known = protobuf.encode({ typeUrl: 'type', nonce: '7', resources: [], removedResources: ['gone'] })
  const unknown = [
    Buffer.from([15 << 3, 0xff, 0x01]),
    Buffer.from([(15 << 3) | 1, 1, 2, 3, 4, 5, 6, 7, 8]),
    Buffer.from([(15 << 3) | 2, 2, 9, 9]),
    Buffer.from([(15 << 3) | 5, 1, 2, 3, 4])
  ]
  const bytes = Buffer.concat([...unknown, known, ...unknown])
  t.match(readDeltaResponse(bytes), { typeUrl: 'type', nonce: '7', removedResources: ['gone'] })
})

t.test('bytes that are no message are refused, wherever they break off', async t => {
  const whole = protobuf.encode({
    typeUrl: 'type',
    nonce: '7',
    removedResources: [],
    resources: [resource('name', 200)]
  } as Decoded)
  let accepted = 0
  for (let length = 1; length < whole.length; length++) {
    try {
      readDeltaResponse(whole.subarray(0, length))
      accepted += 1
    } catch (error) {
      t.match(error, { message: /at byte \d+/ })
    }
  }
  t.equal(accepted, 2, 'a message may end after each of its three fields')
  for (const bytes of [[0x03], [0x07], [0x00], [0x0a, 0x05, 0x00], Array<number>(12).fill(0xff)]) {
    t.throws(() => readDeltaResponse(Buffer.from(bytes)), { message: /at byte/ })
  }
})
