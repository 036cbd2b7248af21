/** Who has a name, for how long that is believed, and what happens when nobody says. */
import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import { Names, type Answer, type Found } from '../../../waypoint/egress/names.ts'

interface Question {
  readonly name: string
  readonly answer: (addresses: readonly string[], ttlMs?: number) => Promise<void>
  readonly fail: () => Promise<void>
}

function world(most = 100) {
  const asked: Question[] = []
  let now = 0
  const names = new Names({
    clock: { now: () => now },
    most,
    ask: name =>
      new Promise<Answer>((resolve, reject) => {
        const told = (): Promise<void> => new Promise(done => setImmediate(done))
        asked.push({
          name,
          answer: (addresses, ttlMs = 10_000) => {
            resolve({ addresses: addresses.map(ip), ttlMs })
            return told()
          },
          fail: () => {
            reject(new Error('SERVFAIL'))
            return told()
          }
        })
      })
  })
  return { names, asked, pass: (ms: number) => (now += ms), last: () => asked.at(-1) as Question }
}

const addressesOf = (found: Found | Promise<Found>): readonly string[] | string => {
  if (found instanceof Promise) return 'is waited for'
  return found.kind === 'addresses' ? found.addresses : found.reason
}

t.test('a name is asked for once, by however many, and again after its time', async t => {
  const { names, asked, pass, last } = world()
  const [one, other] = [names.find('a.example'), names.find('a.example')]
  t.equal(asked.length, 1)
  await last().answer(['1.1.1.1', '1.0.0.1'])
  t.equal(await one, await other)
  t.strictSame(addressesOf(names.find('a.example')), ['1.1.1.1', '1.0.0.1'], 'at once')
  pass(9999)
  void names.find('a.example')
  t.equal(asked.length, 1, 'while it holds nobody is asked')
  pass(1)
  t.strictSame(addressesOf(names.find('a.example')), ['1.1.1.1', '1.0.0.1'], 'what was known, meanwhile')
  void names.find('a.example')
  t.equal(asked.length, 2)
  await last().answer(['9.9.9.9'])
  t.strictSame(addressesOf(names.find('a.example')), ['9.9.9.9'])
})

t.test('after a long silence the new answer is waited for', async t => {
  const { names, pass, last } = world()
  const first = names.find('a.example')
  await last().answer(['1.1.1.1'])
  await first
  pass(60_000)
  const found = names.find('a.example')
  t.ok(found instanceof Promise)
  await last().answer(['2.2.2.2'])
  t.strictSame(addressesOf(await found), ['2.2.2.2'])
})

t.test('the same answer is the same object', async t => {
  const { names, pass, last } = world()
  const first = names.find('a.example')
  await last().answer(['1.1.1.1'])
  const known = await first
  pass(10_000)
  void names.find('a.example')
  await last().answer(['1.1.1.1'])
  t.equal(names.find('a.example'), known)
})

t.test('times are held within bounds', async t => {
  const { names, asked, pass, last } = world()
  const found = names.find('a.example')
  await last().answer(['1.1.1.1'], 0)
  await found
  pass(999)
  void names.find('a.example')
  t.equal(asked.length, 1, 'at least a second')
  pass(1)
  void names.find('a.example')
  await last().answer(['1.1.1.1'], 1e12)
  pass(3_600_000)
  void names.find('a.example')
  t.equal(asked.length, 3, 'at most an hour')
})

t.test('that nobody has a name is believed for a moment', async t => {
  const { names, asked, pass, last } = world()
  const found = names.find('no.example')
  await last().answer([])
  t.equal(addressesOf(await found), 'no.example has no address')
  t.equal(addressesOf(names.find('no.example')), 'no.example has no address')
  t.equal(asked.length, 1)
  pass(5000)
  const again = names.find('no.example')
  t.ok(again instanceof Promise, 'then it is asked for again, and waited for')
  await last().answer(['1.1.1.1'])
  t.strictSame(addressesOf(await again), ['1.1.1.1'])
})

t.test('a name that is gone is gone, a server that fails is not believed', async t => {
  const { names, asked, pass, last } = world()
  const first = names.find('a.example')
  await last().answer(['1.1.1.1'])
  await first
  pass(10_000)
  void names.find('a.example')
  await last().fail()
  t.strictSame(addressesOf(names.find('a.example')), ['1.1.1.1'], 'the addresses stay')
  t.equal(asked.length, 2, 'and the server has its peace for a moment')
  pass(60_000)
  const late = names.find('a.example')
  await last().fail()
  t.strictSame(addressesOf(await late), ['1.1.1.1'], 'however long it fails')
  pass(5000)
  void names.find('a.example')
  await last().answer([])
  t.equal(addressesOf(names.find('a.example')), 'a.example has no address')
  const unknown = names.find('b.example')
  await last().fail()
  t.equal(addressesOf(await unknown), 'b.example could not be looked up: SERVFAIL')
})

t.test('what is kept and what is under way is bounded', async t => {
  const { names, asked } = world(3)
  const found = ['a', 'b', 'c'].map(name => names.find(name))
  t.match(await names.find('d'), { kind: 'none', reason: 'too many names are being looked up' })
  for (const question of asked.slice()) await question.answer(['1.1.1.1'])
  for (const each of found) await each
  const more = names.find('d')
  await asked.at(-1)?.answer(['1.1.1.1'])
  await more
  t.equal(names.size, 3)
  t.ok(names.find('a') instanceof Promise, 'the oldest one is forgotten')
})
