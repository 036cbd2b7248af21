/** How many requests may be sent again at the same time: RL-03, with the interval of GA-44. */
import t from 'tap'
import { RecentCount } from '../../../waypoint/resilience/recent-count.ts'
import { RetryBudget } from '../../../waypoint/resilience/retry-budget.ts'
import type { RetryBudget as Policy } from '../../../waypoint/traffic-policy.ts'
import { TurnedClock } from './turned-clock.ts'

const byDefault: Policy = { percent: 20, minConcurrency: 3, intervalMs: 0 }

function begin(budget: RetryBudget, requests: number): void {
  for (let request = 0; request < requests; request += 1) budget.requestBegan()
}

function end(budget: RetryBudget, requests: number): void {
  for (let request = 0; request < requests; request += 1) budget.requestEnded()
}

function retried(budget: RetryBudget, times: number): number {
  let got = 0
  for (let time = 0; time < times; time += 1) if (budget.tryAcquire()) got += 1
  return got
}

for (const [name, policy, requests, allowed] of [
  ['nothing under way: the least', byDefault, 0, 3],
  ['a part that is smaller than the least', byDefault, 19, 3],
  ['a part that is larger', byDefault, 25, 5],
  ['a part of one does not count', byDefault, 29, 5],
  ['a part of a percent', { ...byDefault, percent: 0.5 }, 1000, 5],
  ['no part at all', { ...byDefault, percent: 0 }, 1000, 3],
  ['none at all', { ...byDefault, percent: 0, minConcurrency: 0 }, 1000, 0],
  ['every one of them', { ...byDefault, percent: 100 }, 7, 7]
] as const) {
  t.test(`${name}: ${requests} requests, ${allowed} retries`, async t => {
    const budget = new RetryBudget(policy, new TurnedClock())
    begin(budget, requests)
    t.equal(budget.allowed, allowed)
    t.equal(retried(budget, allowed + 2), allowed)
    t.equal(budget.active, allowed)
    t.equal(budget.overflows, 2)
  })
}

t.test('a retry that is over makes room; requests that are over take it away', async t => {
  const budget = new RetryBudget(byDefault, new TurnedClock())
  begin(budget, 20)
  t.equal(retried(budget, 5), 4)
  budget.release()
  t.equal(retried(budget, 5), 1)
  end(budget, 20)
  budget.release()
  t.equal(budget.active, 3)
  t.notOk(budget.tryAcquire(), 'the least are under way already')
})

t.test('what ends twice is a defect that shows', async t => {
  const budget = new RetryBudget(byDefault, new TurnedClock())
  t.throws(() => budget.release(), /released twice/)
  t.throws(() => budget.requestEnded(), /ended twice/)
})

t.test('with an interval, requests that ended in it count, each once', async t => {
  const clock = new TurnedClock()
  const budget = new RetryBudget({ ...byDefault, intervalMs: 10_000 }, clock)
  begin(budget, 100)
  t.equal(budget.allowed, 20)
  end(budget, 60)
  t.equal(budget.allowed, 20, 'no more than there were')
  clock.at += 9000
  t.equal(budget.allowed, 20)
  clock.at += 1000
  t.equal(budget.allowed, 8, 'those under way are left')
  end(budget, 40)
  clock.at += 3_600_000
  t.equal(budget.allowed, 3)
})

t.test('a count of an interval is exact to a twentieth, whenever it is asked', async t => {
  const interval = 1000
  const count = new RecentCount(interval)
  const times: number[] = []
  let now = 5_000_017
  let seed = 42
  for (let step = 0; step < 5000; step += 1) {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
    now += step % 500 === 0 ? 700 + (seed % 2000) : seed % 23
    if (seed % 3 > 0) {
      count.add(now)
      times.push(now)
    }
    const within = (age: number): number => times.filter(time => time > now - age).length
    const found = count.at(now)
    if (found > within(interval) || found < within(interval * 0.95)) {
      t.fail(`${found} at ${now}, of ${within(interval)}`)
      return
    }
    if (step % 100 === 0)
      times.splice(
        0,
        times.findIndex(time => time > now - interval)
      )
  }
  t.equal(count.at(now + interval), 0)
})
