import t from 'tap'
import {
  decodeAck,
  decodeHello,
  decodeRequest,
  encodeAck,
  encodeHello,
  encodeRequest,
  ZdsProtocolError,
  type ZdsRequest
} from '../../../shared/zds/messages.ts'

const workload = { name: 'web-1', namespace: 'shop', serviceAccount: 'web' }

/** Bytes written out by hand from the field numbers of the published schema. */
const packets: readonly { name: string; value: ZdsRequest; hex: string }[] = [
  {
    name: 'add carries uid 1 and workload info 2',
    value: { kind: 'add', uid: 'u1', workload },
    hex: '0a180a02753112120a057765622d31120473686f701a03776562'
  },
  { name: 'del carries uid as field 2', value: { kind: 'del', uid: 'u1' }, hex: '120412027531' },
  { name: 'snapshot sent is empty', value: { kind: 'snapshot-sent' }, hex: '1a00' },
  { name: 'keep is field 5, its uid field 1', value: { kind: 'keep', uid: 'u1' }, hex: '2a040a027531' },
  {
    name: 'add without workload info',
    value: { kind: 'add', uid: 'u1', workload: undefined },
    hex: '0a040a027531'
  }
]

for (const { name, value, hex } of packets) {
  t.test(name, async t => {
    t.equal(encodeRequest(value).toString('hex'), hex)
    t.strictSame(decodeRequest(Buffer.from(hex, 'hex')), value)
  })
}

t.test('the greeting is version 1 and nothing else', async t => {
  t.equal(encodeHello().toString('hex'), '0801')
  t.doesNotThrow(() => decodeHello(Buffer.from('0801', 'hex')))
  t.throws(() => decodeHello(Buffer.from('0802', 'hex')), ZdsProtocolError)
  t.throws(() => decodeHello(Buffer.alloc(0)), ZdsProtocolError)
})

t.test('an acknowledgement is an empty ack, a refusal has a text', async t => {
  t.equal(encodeAck().toString('hex'), '0a00')
  t.equal(decodeAck(encodeAck()), undefined)
  t.equal(decodeAck(encodeAck('failure to start proxy : no')), 'failure to start proxy : no')
  t.throws(() => decodeAck(Buffer.alloc(0)), ZdsProtocolError)
})

t.test('what is no message is refused with its size', async t => {
  t.throws(() => decodeRequest(Buffer.from('ffffffff', 'hex')), /4 bytes is no WorkloadRequest/)
  t.throws(() => decodeRequest(Buffer.alloc(0)), /without payload/)
})

t.test('a message that ztunnel could not read whole is not sent', async t => {
  const long = { ...workload, name: 'x'.repeat(1100) }
  t.throws(() => encodeRequest({ kind: 'add', uid: 'u', workload: long }), ZdsProtocolError)
})
