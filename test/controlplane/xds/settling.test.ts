import t from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { Debounce } from '../../../controlplane/xds/debounce.ts'
import { WorkQueue } from '../../../controlplane/write/work-queue.ts'

t.test('changes that come together are handled together', async t => {
  const runs: number[] = []
  const debounce = new Debounce({ quietMs: 20, maxMs: 10_000, run: firstAt => void runs.push(firstAt) })
  const started = performance.now()
  for (let change = 0; change < 5; change += 1) debounce.touch()
  t.strictSame(runs, [], 'not at once')
  while (runs.length === 0) await delay(5)
  await delay(40)
  t.equal(runs.length, 1)
  t.ok((runs[0] ?? 0) >= started && performance.now() - (runs[0] ?? 0) < 10_000)
})

t.test('but never wait longer than the limit', async t => {
  const runs: number[] = []
  const debounce = new Debounce({ quietMs: 1000, maxMs: 50, run: firstAt => void runs.push(firstAt) })
  const started = performance.now()
  while (runs.length === 0 && performance.now() - started < 5000) {
    debounce.touch()
    await delay(5)
  }
  t.equal(runs.length, 1, 'although changes went on coming')
  t.ok(performance.now() - started < 900, 'long before there was quiet')
  debounce.stop()
})

t.test('what waits can be done now, or dropped', async t => {
  let runs = 0
  const debounce = new Debounce({ quietMs: 10_000, maxMs: 10_000, run: () => (runs += 1) })
  debounce.flush()
  t.equal(runs, 0, 'nothing waits')
  debounce.touch()
  debounce.flush()
  t.equal(runs, 1)
  debounce.touch()
  debounce.stop()
  debounce.flush()
  t.equal(runs, 1)
})

function queue(
  work: (key: string) => Promise<void>,
  concurrency = 2
): { queue: WorkQueue; failures: string[]; end: AbortController } {
  const end = new AbortController()
  t.teardown(() => end.abort())
  const failures: string[] = []
  const made = new WorkQueue({
    work,
    concurrency,
    signal: end.signal,
    onFailure: key => void failures.push(key),
    retryMs: { first: 1, longest: 5 }
  })
  return { queue: made, failures, end }
}

t.test('each key is worked on once at a time, and again when it was added meanwhile', async t => {
  const log: string[] = []
  const gates: (() => void)[] = []
  const { queue: work } = queue(async key => {
    log.push(key)
    await new Promise<void>(resolve => gates.push(resolve))
  })
  work.add('a')
  work.add('a')
  work.add('b')
  work.add('c')
  t.strictSame(log, ['a', 'b'], 'two at a time')
  work.add('a')
  work.add('a')
  for (let turn = 0; work.size > 0 && turn < 100; turn += 1) {
    for (const open of gates.splice(0)) open()
    await new Promise(resolve => setImmediate(resolve))
  }
  t.strictSame(log, ['a', 'b', 'a', 'c'])
})

t.test('what fails is tried again', async t => {
  const attempts: string[] = []
  const { queue: work, failures } = queue(async key => {
    attempts.push(key)
    if (attempts.length < 3) throw new Error('not yet')
  })
  work.add('a')
  while (attempts.length < 3) await delay(1)
  t.strictSame(failures, ['a', 'a'])
})

t.test('after the end nothing starts', async t => {
  let attempts = 0
  const { queue: work, end } = queue(async () => {
    attempts += 1
    throw new Error('no')
  })
  end.abort()
  work.add('a')
  await delay(5)
  t.equal(attempts, 0)
})
