import t, { type Test } from 'tap'
import { inspect } from 'node:util'
import { CertificateStore, type CertificateSource } from '../../../shared/identity/certificate-store.ts'
import type { WorkloadCertificate } from '../../../shared/identity/certificate.ts'
import { FakeCa } from '../../../shared/identity/fake-ca.ts'
import { spiffeId, type SpiffeId } from '../../../shared/identity/spiffe-id.ts'
import { settled, TurnedClock } from '../../support/clock.ts'

const id = (name: string): SpiffeId =>
  spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: name })
const web = id('web')
const minute = 60_000
const hour = 60 * minute
const forever = new AbortController().signal

interface Call {
  readonly identity: SpiffeId
  readonly at: number
  readonly signal: AbortSignal
  answer(certificate: WorkloadCertificate): void
  fail(message: string): void
}

/** A CA whose every answer the test gives, plus one that answers by itself. */
class ScriptedCa implements CertificateSource {
  readonly calls: Call[] = []
  readonly #clock: TurnedClock
  auto: 'issue' | 'fail' | 'wait' = 'wait'
  issue = (identity: SpiffeId, now: number): WorkloadCertificate => certificate(identity, now, hour)

  constructor(clock: TurnedClock) {
    this.#clock = clock
  }

  fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    const { promise, resolve, reject } = Promise.withResolvers<WorkloadCertificate>()
    const fail = (message: string): void => reject(new Error(message))
    this.calls.push({ identity, at: this.#clock.now(), signal, answer: resolve, fail })
    if (this.auto === 'issue') resolve(this.issue(identity, this.#clock.now()))
    if (this.auto === 'fail') fail('CA is down')
    return promise
  }

  get last(): Call {
    const call = this.calls.at(-1)
    if (call === undefined) throw new Error('the CA was not called')
    return call
  }
}

function certificate(identity: SpiffeId, notBefore: number, lifeMs: number): WorkloadCertificate {
  const notAfter = notBefore + lifeMs
  return { identity, chainPem: [], keyPem: '', rootsPem: [], notBefore, notAfter, serial: String(notBefore) }
}

function world(t: Test): { clock: TurnedClock; ca: ScriptedCa; store: CertificateStore } {
  const clock = new TurnedClock()
  const ca = new ScriptedCa(clock)
  const store = new CertificateStore({
    source: ca,
    clock,
    elapsed: clock.elapsed,
    timer: clock.timer,
    random: () => 0.5
  })
  t.teardown(() => store.close())
  return { clock, ca, store }
}

t.test('a hundred connections wait for one fetch and share its result', async t => {
  const { ca, store, clock } = world(t)
  const waiting = Array.from({ length: 100 }, () => store.get(web, forever))
  await settled()
  t.equal(ca.calls.length, 1)
  const made = certificate(web, clock.now(), hour)
  ca.last.answer(made)
  for (const got of await Promise.all(waiting)) t.equal(got, made)
  t.equal(await store.get(web, forever), made, 'and later ones get it at once')
  t.equal(ca.calls.length, 1)
})

t.test('a certificate is renewed at exactly half of its life and replaced without a gap', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'issue'
  const first = await store.get(web, forever)
  await clock.pass(30 * minute - 1)
  t.equal(ca.calls.length, 1)
  await clock.pass(1)
  t.equal(ca.calls.length, 2)
  t.equal(ca.last.at, first.notBefore + 30 * minute)
  t.equal((await store.get(web, forever)).notBefore, first.notBefore + 30 * minute)
})

t.test('the backdated notBefore counts into the half', async t => {
  const { ca, store, clock } = world(t)
  const got = store.get(web, forever)
  await settled()
  const issuedAt = clock.now()
  ca.last.answer(certificate(web, issuedAt - 2 * minute, 62 * minute))
  await got
  await clock.pass(29 * minute)
  t.equal(ca.last.at, issuedAt + 29 * minute)
})

t.test(
  'never more than eight fetches at a time; connections first, then prefetches, then renewals',
  async t => {
    const { ca, store, clock } = world(t)
    ca.auto = 'issue'
    const old = ['old-1', 'old-2'].map(id)
    for (const identity of old) await store.get(identity, forever)
    ca.auto = 'wait'
    ca.calls.length = 0
    const busy = Array.from({ length: 8 }, (_, index) => id(`busy-${index}`))
    for (const identity of busy) store.prefetch(identity)
    await clock.pass(31 * minute)
    t.strictSame(
      ca.calls.map(({ identity }) => identity),
      busy,
      'renewals wait while eight run'
    )
    store.prefetch(id('warm-1'))
    store.prefetch(id('warm-2'))
    const connection = store.get(id('now'), forever)
    const raised = store.get(id('warm-2'), forever)
    await settled()
    t.equal(ca.calls.length, 8)
    for (const call of ca.calls.slice(0, 8)) call.answer(certificate(call.identity, clock.now(), hour))
    await settled()
    t.strictSame(
      ca.calls.slice(8).map(({ identity }) => identity),
      [id('warm-2'), id('now'), id('warm-1'), ...old],
      'asking again raised the priority of a prefetch'
    )
    for (const call of ca.calls.slice(8)) call.answer(certificate(call.identity, clock.now(), hour))
    await Promise.all([connection, raised])
  }
)

t.test('a failed identity answers with the cached error at once, until a retry succeeds', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'fail'
  await t.rejects(store.get(web, forever), { code: 'IDENTITY_FAILED', message: /CA is down/ })
  const calls = ca.calls.length
  await t.rejects(store.get(web, forever), /no certificate for spiffe:.*CA is down/)
  t.equal(ca.calls.length, calls, 'without asking the CA again')
  t.match(store.dump(), [{ identity: web, state: 'Unavailable: CA is down' }])
  ca.auto = 'issue'
  await clock.pass(1000)
  t.equal((await store.get(web, forever)).identity, web)
})

t.test('retries double from a second to 150 s, and after 15 minutes come every 150 s', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'fail'
  await t.rejects(store.get(web, forever))
  await clock.pass(30 * minute)
  const gaps = ca.calls.slice(1).map((call, index) => (call.at - (ca.calls[index]?.at ?? 0)) / 1000)
  t.strictSame(gaps.slice(0, 9), [1, 2, 4, 8, 16, 32, 64, 128, 150])
  t.ok(
    gaps.slice(9).every(gap => gap === 150),
    gaps.join(' ')
  )
})

t.test('the first retry varies by a fifth', async t => {
  for (const [random, gap] of [
    [0, 800],
    [0.5, 1000],
    [1, 1200]
  ] as const) {
    const clock = new TurnedClock()
    const ca = new ScriptedCa(clock)
    const { elapsed, timer } = clock
    const store = new CertificateStore({ source: ca, clock, elapsed, timer, random: () => random })
    ca.auto = 'fail'
    await t.rejects(store.get(web, forever))
    await clock.pass(1500)
    t.equal((ca.calls[1]?.at ?? 0) - (ca.calls[0]?.at ?? 0), gap)
    store.close()
  }
})

t.test(
  'with the CA gone for an hour a valid certificate is served until it expires, then the error',
  async t => {
    const { ca, store, clock } = world(t)
    ca.auto = 'issue'
    const first = await store.get(web, forever)
    ca.auto = 'fail'
    await clock.pass(59 * minute)
    t.equal(await store.get(web, forever), first)
    t.match(store.dump(), [{ state: 'Available' }])
    t.ok(ca.calls.length > 5, 'while the CA is asked again')
    const beforeExpiry = ca.calls.length
    await clock.pass(minute)
    t.ok(
      ca.calls.slice(beforeExpiry).some(({ at }) => at === first.notAfter),
      'also at the moment of expiry'
    )
    await t.rejects(store.get(web, forever), /CA is down/)
    t.match(store.dump(), [{ state: 'Unavailable: CA is down' }])
  }
)

t.test('a CA that is back after an hour is found within two and a half minutes by itself', async t => {
  for (const awayMs of [hour, 3 * hour, 25 * hour]) {
    const { ca, store, clock } = world(t)
    ca.auto = 'issue'
    await store.get(web, forever)
    ca.auto = 'fail'
    await clock.pass(awayMs)
    const asked = ca.calls.length
    t.ok(asked < 20 + awayMs / 150_000, `asked ${asked} times, no storm`)
    ca.auto = 'issue'
    await clock.pass(150_000)
    t.ok(store.peek(web), 'without a connection that asks')
    t.equal(ca.calls.length, asked + 1)
  }
})

t.test('whoever knows that the CA may be back has failed fetches tried within seconds', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'fail'
  await t.rejects(store.get(web, forever))
  await clock.pass(hour)
  ca.auto = 'issue'
  const calls = ca.calls.length
  store.retry()
  await clock.pass(1499)
  t.equal(ca.calls.length, calls, 'not all at once')
  await clock.pass(1)
  t.equal(ca.calls.length, calls + 1)
  t.ok(await store.get(web, forever))
  store.retry()
  await clock.pass(20_000)
  t.equal(ca.calls.length, calls + 1, 'what has not failed is left alone')
})

t.test('a try that was asked for, and fails, begins the back-off anew', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'fail'
  await t.rejects(store.get(web, forever))
  await clock.pass(hour)
  const calls = ca.calls.length
  store.retry()
  await clock.pass(10_000)
  t.equal(ca.calls.length, calls + 4, 'after 1.5, 2.5, 4.5 and 8.5 s')
})

t.test('success resets the back-off', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'fail'
  await t.rejects(store.get(web, forever))
  await clock.pass(40_000)
  ca.auto = 'issue'
  await clock.pass(40_000)
  t.equal((await store.get(web, forever)).identity, web)
  ca.auto = 'fail'
  const calls = ca.calls.length
  await clock.pass(30 * minute)
  t.equal((ca.calls[calls + 1]?.at ?? 0) - (ca.calls[calls]?.at ?? 0), 1000)
})

t.test('a wait ends when its signal aborts; the fetch goes on for the others', async t => {
  const { ca, store, clock } = world(t)
  const impatient = new AbortController()
  const gone = store.get(web, impatient.signal)
  const stays = store.get(web, forever)
  await settled()
  impatient.abort(new Error('client left'))
  await t.rejects(gone, /client left/)
  await t.rejects(store.get(web, impatient.signal), /client left/)
  ca.last.answer(certificate(web, clock.now(), hour))
  t.equal((await stays).identity, web)
})

t.test('a forgotten identity: its fetch is cancelled, its result discarded, its waiters told', async t => {
  const { ca, store, clock } = world(t)
  const waiting = store.get(web, forever)
  await settled()
  store.forget(web)
  await t.rejects(waiting, /no workload of this node has it any more/)
  t.ok(ca.last.signal.aborted)
  ca.last.answer(certificate(web, clock.now(), hour))
  await settled()
  t.strictSame(store.dump(), [])
  t.equal(store.peek(web), undefined)
  const again = store.get(web, forever)
  await settled()
  t.equal(ca.calls.length, 2)
  ca.last.answer(certificate(web, clock.now(), hour))
  t.equal((await again).identity, web)
})

t.test('listeners hear of each new certificate and of its end', async t => {
  const { ca, store, clock } = world(t)
  const heard: string[] = []
  const end = store.onChange((identity, certificate) => heard.push(`${identity} ${certificate?.serial}`))
  ca.auto = 'issue'
  const start = clock.now()
  await store.get(web, forever)
  await clock.pass(30 * minute)
  store.forget(web)
  end()
  await store.get(web, forever)
  t.strictSame(heard, [`${web} ${start}`, `${web} ${start + 30 * minute}`, `${web} undefined`])
})

t.test('answers that nobody can use count as failures', async t => {
  const { ca, store, clock } = world(t)
  const other = store.get(web, forever)
  await settled()
  ca.last.answer(certificate(id('other'), clock.now(), hour))
  await t.rejects(
    other,
    /the CA answered with a certificate of spiffe:\/\/cluster\.local\/ns\/shop\/sa\/other/
  )
  const late = store.get(id('late'), forever)
  await settled()
  ca.last.answer(certificate(id('late'), clock.now() - 2 * hour, hour))
  await t.rejects(late, /has expired; compare the clocks/)
})

t.test('when the clock jumps past the expiry, no expired certificate is served', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'issue'
  await store.get(web, forever)
  ca.auto = 'wait'
  clock.jump(5 * hour)
  const renewed = store.get(web, forever)
  await settled()
  t.equal(ca.calls.length, 2, 'the connection waits for a new one')
  ca.last.answer(certificate(web, clock.now(), hour))
  t.equal((await renewed).notAfter, clock.now() + hour)
})

t.test('a jump of the clock is noticed within half a minute', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'issue'
  await store.get(web, forever)
  clock.jump(40 * minute)
  await clock.pass(30_000)
  t.equal(ca.calls.length, 2)
})

t.test('a clock that is set back does not put off the next try', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'fail'
  await t.rejects(store.get(web, forever))
  clock.jump(-24 * hour)
  ca.auto = 'issue'
  await clock.pass(1000)
  t.equal((await store.get(web, forever)).identity, web)
})

t.test('a clock that is set back to before a certificate began renews it, without a storm', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'issue'
  const future = await store.get(web, forever)
  clock.jump(-24 * hour)
  await clock.pass(minute)
  t.ok(ca.calls.length <= 3, `${ca.calls.length} calls`)
  const renewed = await store.get(web, forever)
  t.ok(renewed.notBefore < future.notBefore)
  t.ok(renewed.notBefore <= clock.now())
})

t.test('certificates that come past their half are renewed at a bearable rate', async t => {
  for (const { name, ageMs, leftMs, atMost } of [
    { name: 'of six seconds, backdated by two minutes', ageMs: 2 * minute, leftMs: 6000, atMost: 21 },
    { name: 'of a CA whose clock is an hour behind', ageMs: hour + minute, leftMs: hour, atMost: 3 },
    { name: 'that begin tomorrow', ageMs: -24 * hour, leftMs: 48 * hour, atMost: 3 }
  ]) {
    const { ca, store, clock } = world(t)
    ca.issue = (identity, now) => certificate(identity, now - ageMs, ageMs + leftMs)
    ca.auto = 'issue'
    await store.get(web, forever)
    await clock.pass(minute)
    t.ok(ca.calls.length <= atMost, `${name}: ${ca.calls.length} calls in a minute`)
    t.ok(ca.calls.length > 1, name)
    t.ok(store.peek(web), 'and there is always one')
  }
})

t.test('a closed store fetches nothing more and leaves no timer', async t => {
  const { ca, store, clock } = world(t)
  ca.auto = 'issue'
  await store.get(web, forever)
  store.close()
  await clock.pass(5 * hour)
  t.equal(ca.calls.length, 1)
})

t.test('real certificates: the dump shows chains and roots, and nothing shows the key', async t => {
  const store = new CertificateStore({ source: new FakeCa() })
  t.teardown(() => store.close())
  const got = await store.get(web, forever)
  t.match(store.dump(), [
    { identity: web, state: 'Available', chain: [{ serial: got.serial, identity: web }], roots: [{}] }
  ])
  const printed = [JSON.stringify(got), inspect(got, { depth: 9 }), JSON.stringify(store.dump())].join()
  t.notMatch(printed, /PRIVATE KEY/)
  t.match(got.keyPem, /PRIVATE KEY/)
  t.match(structuredClone(got).keyPem, /PRIVATE KEY/, 'a worker that is posted the certificate has its key')
})
