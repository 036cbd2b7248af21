import t from 'tap'
import { ReconcileQueue } from '../../daemonset/reconcile-queue.ts'

interface Run {
  readonly key: string
  finish(error?: Error): void
}

/** A queue whose work ends when the test says so. */
function queueOf(
  t: { teardown(done: () => void): void },
  concurrency?: number
): { queue: ReconcileQueue; next: () => Promise<Run>; runs: Run[] } {
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const runs: Run[] = []
  const arrived: ((run: Run) => void)[] = []
  const waiting: Run[] = []
  const queue = new ReconcileQueue({
    signal: abort.signal,
    ...(concurrency === undefined ? {} : { concurrency }),
    backoff: { initialMs: 1, maxMs: 4 },
    work: async key =>
      new Promise((resolve, reject) => {
        const run: Run = { key, finish: error => (error === undefined ? resolve() : reject(error)) }
        runs.push(run)
        const listener = arrived.shift()
        if (listener === undefined) waiting.push(run)
        else listener(run)
      })
  })
  const next = async (): Promise<Run> =>
    waiting.shift() ??
    new Promise(resolve => {
      // The queue's timers do not keep a process alive; this one does until the run comes.
      const alive = setInterval(() => undefined, 1000)
      arrived.push(run => {
        clearInterval(alive)
        resolve(run)
      })
    })
  return { queue, next, runs }
}

t.test('nothing runs before the start', async t => {
  const { queue, next, runs } = queueOf(t)
  queue.add('a')
  t.equal(runs.length, 0)
  queue.start()
  ;(await next()).finish()
})

t.test('a key that comes again while it runs, runs once more afterwards', async t => {
  const { queue, next, runs } = queueOf(t)
  queue.start()
  queue.add('a')
  const first = await next()
  queue.add('a')
  queue.add('a')
  t.equal(runs.length, 1)
  first.finish()
  const second = await next()
  t.equal(second.key, 'a')
  second.finish()
  await new Promise(resolve => setImmediate(resolve))
  t.equal(runs.length, 2)
  t.equal(queue.size, 0)
})

t.test('a failure is tried again until it works', async t => {
  const { queue, next } = queueOf(t)
  queue.start()
  queue.add('a')
  for (let attempt = 0; attempt < 4; attempt++) (await next()).finish(new Error('not yet'))
  ;(await next()).finish()
  await new Promise(resolve => setImmediate(resolve))
  t.equal(queue.size, 0)
})

t.test('a limited number runs at a time', async t => {
  const { queue, next, runs } = queueOf(t, 2)
  queue.start()
  for (const key of ['a', 'b', 'c']) queue.add(key)
  const first = await next()
  const second = await next()
  t.strictSame([first.key, second.key], ['a', 'b'])
  t.equal(runs.length, 2)
  first.finish()
  t.equal((await next()).key, 'c')
})
