import t from 'tap'
import type { ConnectionEvent } from '../../shared/telemetry/connection-events.ts'
import { EventOutbox } from '../../ztunnel/event-outbox.ts'
import { matches, parseFilter, Watchers } from '../../ztunnel/watchers.ts'

const event: ConnectionEvent = {
  kind: 'closed',
  time: 1000,
  direction: 'inbound',
  source: {
    address: '10.0.0.1:1',
    workload: 'web',
    namespace: 'front',
    identity: 'spiffe://td/ns/front/sa/web'
  },
  destination: { address: '10.0.0.2:2', workload: 'cart', namespace: 'shop' },
  service: 'cart.shop.svc.cluster.local'
}

for (const [filter, expected] of [
  [{}, true],
  [{ namespace: 'shop' }, true],
  [{ namespace: 'front' }, true],
  [{ namespace: 'other' }, false],
  [{ workload: 'web' }, true],
  [{ direction: 'outbound' }, false],
  [{ kinds: ['refused'] }, false],
  [{ kinds: ['refused', 'closed'] }, true],
  [{ service: 'cart.shop.svc.cluster.local' }, true],
  [{ source: { namespace: 'front', workload: 'web' } }, true],
  [{ source: { namespace: 'shop' } }, false],
  [{ destination: { workload: 'cart' }, namespace: 'front' }, true],
  [{ source: { identity: 'spiffe://td/ns/front/sa/other' } }, false]
] as const) {
  t.test(`filter ${JSON.stringify(filter)} ${expected ? 'takes' : 'leaves'} the event`, async t => {
    t.equal(matches(parseFilter(structuredClone(filter)), event), expected)
  })
}

for (const [body, says] of [
  [[], /the body is an object/],
  [{ colour: 'red' }, /colour is no filter/],
  [{ namespace: 1 }, /namespace is text/],
  [{ source: { port: 1 } }, /source.port is no filter/],
  [{ source: 'x' }, /source is an object/],
  [{ kinds: ['lost'] }, /kinds is a list of opened, closed, refused/],
  [{ direction: 'up' }, /direction is inbound or outbound/],
  [{ maxPerSecond: 0 }, /maxPerSecond/]
] as const) {
  t.test(`a filter ${JSON.stringify(body)} is refused with its field`, async t => {
    t.throws(() => parseFilter(body), { status: 400, message: says })
  })
}

t.test('a watcher gets what it asked for, and workers only work while it watches', async t => {
  const active: boolean[] = []
  const watchers = new Watchers(on => active.push(on))
  watchers.publish([event], 0)
  const { lines, gone, over } = watch(watchers, { namespace: 'shop' })
  t.strictSame(active, [true])
  watchers.publish([event, { ...event, source: { address: 'x' }, destination: { address: 'y' } }], 0)
  watchers.publish([{ ...event, kind: 'opened' }], 3)
  await new Promise(resolve => setImmediate(resolve))
  gone.abort()
  await over
  t.strictSame(
    lines
      .join('')
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line) as unknown),
    [event, { ...event, kind: 'opened' }, { lost: 3 }]
  )
  t.strictSame(active, [true, false])
})

t.test('a watcher that does not read loses events, and is told how many', async t => {
  const watchers = new Watchers(() => undefined)
  let release: () => void = () => undefined
  const lines: string[] = []
  const gone = new AbortController()
  const answer = watchers.watch({ maxPerSecond: 100_000 })
  const over = answer.run(
    {
      write: text => {
        lines.push(text)
        return false
      },
      drained: () => new Promise<void>(resolve => (release = resolve))
    },
    gone.signal
  )
  watchers.publish([event], 0)
  await new Promise(resolve => setImmediate(resolve))
  watchers.publish(
    Array.from({ length: 1500 }, () => event),
    0
  )
  release()
  await new Promise(resolve => setImmediate(resolve))
  gone.abort()
  release()
  await over
  t.match(lines.at(-1), /\{"lost":500\}\n$/)
})

t.test('more than so many a second are left out', async t => {
  const watchers = new Watchers(() => undefined)
  const { lines, gone, over } = watch(watchers, { maxPerSecond: 2 })
  watchers.publish([event, event, event, { ...event, time: 2000 }], 0)
  await new Promise(resolve => setImmediate(resolve))
  gone.abort()
  await over
  t.equal(
    lines
      .join('')
      .split('\n')
      .filter(line => line.includes('"kind"')).length,
    3
  )
  t.match(lines.join(''), /\{"lost":1\}/)
})

t.test('not everybody may watch', async t => {
  const watchers = new Watchers(() => undefined)
  const running = Array.from({ length: 16 }, () => watch(watchers, {}))
  t.throws(() => watchers.watch({}), { message: '16 others are watching already' })
  for (const { gone } of running) gone.abort()
  await Promise.all(running.map(({ over }) => over))
})

t.test('a worker keeps a bounded number of events for main', async t => {
  const sent: { count: number; lost: number }[] = []
  const outbox = new EventOutbox((events, lost) => sent.push({ count: events.length, lost }))
  outbox.emit(event)
  outbox.active = true
  for (let index = 0; index < 1200; index++) outbox.emit(event)
  await new Promise(resolve => setTimeout(resolve, 100))
  t.strictSame(sent, [{ count: 1000, lost: 200 }])
})

function watch(
  watchers: Watchers,
  body: unknown
): { lines: string[]; gone: AbortController; over: Promise<void> } {
  const lines: string[] = []
  const gone = new AbortController()
  const sink = {
    write: (text: string): boolean => {
      lines.push(text)
      return true
    },
    drained: async () => undefined
  }
  return { lines, gone, over: watchers.watch(body).run(sink, gone.signal) }
}
