/** Messages of gRPC in their frame, and what is none. */
import t from 'tap'
import { framed, unframed } from '../../../waypoint/external-authorization/send.ts'

t.test('a message there and back', async t => {
  for (const text of ['', 'a', 'x'.repeat(70_000)])
    t.equal(unframed(framed(Buffer.from(text))).toString(), text)
  t.equal(framed(Buffer.from('ab')).toString('hex'), '00000000026162')
})

for (const [name, hex, message] of [
  ['nothing', '', 'not one whole message'],
  ['half a prefix', '000000', 'not one whole message'],
  ['a part of a message', '000000000361', 'not one whole message'],
  ['more than one', '00000000016100000000016', 'not one whole message'],
  ['a compressed one', '010000000161', 'compressed']
] as const) {
  t.test(name, async t => t.throws(() => unframed(Buffer.from(hex, 'hex')), { message: new RegExp(message) }))
}
