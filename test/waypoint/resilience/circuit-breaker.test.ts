/** What may be in use at once: RL-01, and the table of limits of connection pools. */
import t from 'tap'
import { CircuitBreaker, type Limited } from '../../../waypoint/resilience/circuit-breaker.ts'
import type { Limits } from '../../../waypoint/traffic-policy.ts'

const limits: Limits = { connections: 1, pending: 2, requests: 3, retries: 0 }
const nobodySaid: Limits = { connections: Infinity, pending: Infinity, requests: Infinity, retries: Infinity }

function acquired(breaker: CircuitBreaker, what: Limited, times: number): number {
  let got = 0
  for (let time = 0; time < times; time += 1) if (breaker.tryAcquire(what)) got += 1
  return got
}

for (const [what, most] of [
  ['connections', 1],
  ['pending', 2],
  ['requests', 3],
  ['retries', 0]
] as const) {
  t.test(`as many ${what} as the limit says, whatever there is of the others`, async t => {
    const breaker = new CircuitBreaker(limits)
    for (const other of ['connections', 'pending', 'requests', 'retries'] as const) {
      if (other !== what) acquired(breaker, other, 9)
    }
    t.equal(acquired(breaker, what, most + 2), most)
    t.equal(breaker.count(what), most)
    t.equal(breaker.overflows(what), 2)
  })
}

t.test('without limits there are as many as come', async t => {
  const breaker = new CircuitBreaker(nobodySaid)
  t.equal(acquired(breaker, 'requests', 10_000), 10_000)
  t.equal(breaker.overflows('requests'), 0)
})

t.test('what is released makes room', async t => {
  const breaker = new CircuitBreaker(limits)
  t.equal(acquired(breaker, 'requests', 4), 3)
  breaker.release('requests')
  t.equal(breaker.count('requests'), 2)
  t.equal(acquired(breaker, 'requests', 2), 1)
})

t.test('releasing what nobody has is a defect that shows', async t => {
  const breaker = new CircuitBreaker(limits)
  breaker.tryAcquire('pending')
  breaker.release('pending')
  t.throws(() => breaker.release('pending'), /pending was released twice/)
  t.equal(breaker.count('pending'), 0)
})

t.test('the first connection to a pod is made beyond the limit, and counts', async t => {
  const breaker = new CircuitBreaker(limits)
  breaker.acquire('connections')
  breaker.acquire('connections')
  t.equal(breaker.count('connections'), 2)
  t.notOk(breaker.tryAcquire('connections'))
  breaker.release('connections')
  t.notOk(breaker.tryAcquire('connections'), 'still at the limit')
  breaker.release('connections')
  t.ok(breaker.tryAcquire('connections'))
})

t.test('other limits hold for what comes; what is there stays and is released as before', async t => {
  const breaker = new CircuitBreaker(limits)
  acquired(breaker, 'requests', 3)
  breaker.limitTo({ ...limits, requests: 1 })
  t.notOk(breaker.tryAcquire('requests'))
  for (let time = 0; time < 3; time += 1) breaker.release('requests')
  t.equal(acquired(breaker, 'requests', 2), 1)
  breaker.limitTo(nobodySaid)
  t.equal(acquired(breaker, 'requests', 5), 5)
})
