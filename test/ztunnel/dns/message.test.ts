import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import { answers, readMessage, udpLimit, writeAnswer, writeFailure } from '../../../ztunnel/dns/message.ts'
import { nameBytes, queryOf, readReply } from '../../support/dns-wire.ts'

function query(bytes: Buffer) {
  const message = readMessage(bytes)
  if (message.kind !== 'query') throw new Error(`read as ${message.kind}`)
  return message
}

t.test('a question is read in lower case, and said again as it was asked', async t => {
  const bytes = queryOf({ name: 'WeB.Shop', type: 'A', id: 7, edns: 1400 })
  const read = query(bytes)
  t.match(read, { id: 7, name: 'web.shop', type: 1, edns: { size: 1400 } })
  const reply = writeAnswer(read, { alias: undefined, addresses: [ip('10.0.0.1')], ttl: 30 }, 512)
  t.strictSame(readReply(reply), {
    id: 7,
    rcode: 0,
    authoritative: true,
    truncated: false,
    recursionAvailable: true,
    question: 'WeB.Shop',
    answers: ['WeB.Shop 30 A 10.0.0.1'],
    edns: 4096,
    extra: 0
  })
})

t.test('an alias comes first, and the addresses are those of its target', async t => {
  const read = query(queryOf({ name: 'a.com.shop.svc', type: 'AAAA' }))
  const reply = writeAnswer(read, { alias: 'a.com', addresses: [ip('2001:db8::1')], ttl: 30 }, 512)
  t.strictSame(readReply(reply).answers, ['a.com.shop.svc 30 CNAME a.com', 'a.com 30 AAAA 2001:db8::1'])
})

t.test('no address is an empty answer, not a name that does not exist', async t => {
  const reply = writeAnswer(
    query(queryOf({ name: 'a', type: 'A' })),
    { alias: undefined, addresses: [], ttl: 30 },
    512
  )
  t.match(readReply(reply), { rcode: 0, answers: [], edns: undefined })
})

const many = Array.from({ length: 256 }, (_, index) => ip(`10.0.${index >> 8}.${index & 255}`))
const limits = [
  { name: 'no EDNS: 512 bytes', edns: undefined, most: 512 },
  { name: 'EDNS below 512 is not believed', edns: 100, most: 512 },
  { name: 'EDNS is kept to', edns: 1232, most: 1232 },
  { name: 'EDNS beyond what we send is cut', edns: 65_535, most: 4096 }
]
for (const { name, edns, most } of limits) {
  t.test(`what does not fit is left out and said: ${name}`, async t => {
    const read = query(queryOf({ name: 'many.shop', type: 'A', ...(edns !== undefined && { edns }) }))
    t.equal(udpLimit(read), most)
    const reply = writeAnswer(read, { alias: undefined, addresses: many, ttl: 30 }, udpLimit(read))
    t.ok(reply.length <= most && reply.length > most - 16, `${reply.length} of ${most}`)
    const heard = readReply(reply)
    t.ok(heard.truncated)
    t.equal(heard.extra, 0)
    t.equal(heard.answers.length, Math.floor((most - (12 + 15 + (edns === undefined ? 0 : 11))) / 16))
  })
}

t.test('everything fits by TCP', async t => {
  const reply = writeAnswer(
    query(queryOf({ name: 'many.shop', type: 'A' })),
    { alias: undefined, addresses: many, ttl: 30 },
    65_535
  )
  t.match(readReply(reply), { truncated: false })
  t.equal(readReply(reply).answers.length, 256)
})

const plain = queryOf({ name: 'web', type: 'A', edns: 1232 })
const change = (at: number, ...bytes: number[]): Buffer => {
  const copy = Buffer.from(plain)
  copy.set(bytes, at)
  return copy
}
const strangers: readonly { name: string; bytes: Buffer; kind: string }[] = [
  { name: 'a response', bytes: change(2, 0x80), kind: 'response' },
  { name: 'a dynamic update', bytes: change(2, 5 << 3), kind: 'other' },
  { name: 'two questions', bytes: change(4, 0, 2), kind: 'other' },
  { name: 'an answer beside the question', bytes: change(6, 0, 1), kind: 'other' },
  { name: 'two records behind the question, the second a signature', bytes: change(10, 0, 2), kind: 'other' },
  { name: 'a signature in place of EDNS', bytes: change(22, 0, 250), kind: 'other' },
  { name: 'a version of EDNS that is not known', bytes: change(27, 1), kind: 'other' },
  { name: 'class CHAOS', bytes: change(19, 0, 3), kind: 'other' },
  { name: 'a name that points elsewhere', bytes: change(12, 0xc0, 0x0c), kind: 'other' },
  { name: 'a dot inside a label', bytes: change(14, 0x2e), kind: 'other' },
  { name: 'cut off in the header', bytes: plain.subarray(0, 11), kind: 'other' },
  { name: 'cut off in the name', bytes: plain.subarray(0, 14), kind: 'other' },
  { name: 'cut off in EDNS', bytes: plain.subarray(0, plain.length - 1), kind: 'other' },
  { name: 'nothing', bytes: Buffer.alloc(0), kind: 'other' }
]
for (const { name, bytes, kind } of strangers) {
  t.test(`${name} is not for us to answer`, async t => t.equal(readMessage(bytes).kind, kind))
}

t.test('names have an end', async t => {
  const labels = Array.from({ length: 200 }, () => 'a').join('.')
  const bytes = Buffer.concat([
    plain.subarray(0, 10),
    Buffer.alloc(2),
    nameBytes(labels),
    Buffer.from([0, 1, 0, 1])
  ])
  t.equal(readMessage(bytes).kind, 'other', 'more than 255 bytes')
})

t.test('a failure keeps what the client needs to know its question by', async t => {
  t.match(readReply(writeFailure(plain, 2) ?? Buffer.alloc(0)), {
    id: 0x1234,
    rcode: 2,
    question: 'web',
    answers: []
  })
  t.match(readReply(writeFailure(change(2, 5 << 3), 2) ?? Buffer.alloc(0)), {
    id: 0x1234,
    rcode: 2,
    question: ''
  })
  t.equal(writeFailure(Buffer.alloc(3), 2), undefined)
})

t.test('an answer is a response with the id of the query', async t => {
  t.ok(answers(change(2, 0x80), plain))
  t.notOk(answers(plain, plain))
  t.notOk(answers(change(0, 9, 9, 0x80), plain))
  t.notOk(answers(Buffer.alloc(2), plain))
})

t.test('whatever the bytes, reading them ends and what is answered is well formed', async t => {
  const seed = Number(process.env['UNDERPASS_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
  t.comment(`UNDERPASS_SEED=${seed}`)
  let state = seed
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    return Math.floor((state / 0x80000000) * below)
  }
  let read = 0
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(plain)
    for (let change = random(4); change > 0; change--) bytes[random(bytes.length)] = random(256)
    const cut = random(8) === 0 ? bytes.subarray(0, random(bytes.length + 1)) : bytes
    const message = readMessage(cut)
    const failure = writeFailure(cut, 2)
    if (failure !== undefined && readReply(failure).extra !== 0) t.fail(`seed ${seed}`)
    if (message.kind !== 'query') continue
    read += 1
    const addresses = many.slice(0, random(100))
    const reply = writeAnswer(message, { alias: undefined, addresses, ttl: 30 }, udpLimit(message))
    if (reply.length > udpLimit(message)) t.fail(`seed ${seed}: ${reply.length} bytes`)
    if (readReply(reply).extra !== 0) t.fail(`seed ${seed}`)
  }
  t.ok(read > 1000, `${read} of them were questions`)
})
