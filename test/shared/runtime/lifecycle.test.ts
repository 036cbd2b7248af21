/** Waiting, readiness and shutdown: backoff.ts, clock.ts, readiness.ts, drain.ts. */
import t from 'tap'
import { Backoff } from '../../../shared/runtime/backoff.ts'
import { sleep } from '../../../shared/runtime/clock.ts'
import { Drain } from '../../../shared/runtime/drain.ts'
import { Readiness } from '../../../shared/runtime/readiness.ts'

t.test('waiting times double up to the cap and start again after a reset', async t => {
  const backoff = new Backoff({ initialMs: 10, maxMs: 50 })
  t.same(
    [backoff.next(), backoff.next(), backoff.next(), backoff.next(), backoff.next()],
    [10, 20, 40, 50, 50]
  )
  backoff.reset()
  t.equal(backoff.next(), 10)
  t.equal(new Backoff({ initialMs: 100, maxMs: 100, jitter: 0.2, random: () => 0 }).next(), 80)
  t.equal(new Backoff({ initialMs: 100, maxMs: 100, jitter: 0.2, random: () => 1 }).next(), 120)
})

t.test('a sleep ends early when its signal aborts', async t => {
  const controller = new AbortController()
  const slept = sleep(60_000, controller.signal)
  controller.abort()
  t.equal(await slept, false)
  t.equal(await sleep(1, controller.signal), false, 'and does not start when it has')
  const guard = setInterval(() => undefined, 1000)
  t.equal(await sleep(1), true)
  clearInterval(guard)
})

t.test('readiness lists what is pending, sorted', async t => {
  const readiness = new Readiness()
  const done = readiness.block('state manager')
  readiness.block('proxy')
  t.same(readiness.pending(), ['proxy', 'state manager'])
  done()
  readiness.set('proxy', true)
  t.ok(readiness.ready())
})

t.test('a drain lets work in hand finish', async t => {
  const drain = new Drain()
  let finish = (): void => undefined
  void drain.track(new Promise<void>(resolve => (finish = resolve)))
  const ended = drain.run(60_000)
  t.ok(drain.stopping.aborted)
  t.notOk(drain.cut.aborted, 'work is not cut before the deadline')
  finish()
  t.equal(await ended, true)
})

t.test('a drain cuts what is not done at the deadline', async t => {
  const drain = new Drain()
  void drain.track(new Promise(() => undefined))
  const guard = setInterval(() => undefined, 1000)
  t.equal(await drain.run(5), false)
  clearInterval(guard)
  t.ok(drain.cut.aborted)
})
