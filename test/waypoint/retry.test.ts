/** When a request is sent again: GA-41, GA-42, VS-20, VS-21, VS-22, VS-25. */
import t from 'tap'
import type { Retry } from '../../waypoint/routes/route.ts'
import { HeaderList } from '../../waypoint/http/header-list.ts'
import { backoffMs, endOf, mayReplace, mayTryAgain, type AttemptEnd } from '../../waypoint/retry.ts'
import { rule } from './virtual-services/support.ts'

const twice: Retry = { times: 2, statuses: new Set([503, 500]), backoffMs: undefined }
const never: Retry = { ...twice, times: 0 }
const touched: AttemptEnd = { kind: 'failure', untouched: false }
const untouched: AttemptEnd = { kind: 'failure', untouched: true }
const timeout: AttemptEnd = { kind: 'timeout' }
const answer = (status: number): AttemptEnd => ({ kind: 'answer', status })

for (const [name, retry, end, attempts, replayable, expected] of [
  ['nobody acted on it', undefined, untouched, 1, true, true],
  ['twice by default', undefined, untouched, 2, true, true],
  ['and no more', undefined, untouched, 3, true, false],
  ['somebody may have acted on it', undefined, touched, 1, true, false],
  ['too slow', undefined, timeout, 1, true, false],
  ['an answer', undefined, answer(503), 1, true, false],
  ['its body is gone', undefined, untouched, 1, false, false],
  ['a route: a status of its list', twice, answer(503), 1, true, true],
  ['another status', twice, answer(502), 1, true, false],
  ['a connection that broke', twice, touched, 2, true, true],
  ['too slow, GA-42', twice, timeout, 2, true, true],
  ['the last try', twice, answer(503), 3, true, false],
  ['its body is gone', twice, answer(503), 1, false, false],
  ['none at all: untouched', never, untouched, 1, true, false],
  ['none at all: a status', never, answer(503), 1, true, false]
] as const) {
  t.test(name, async t => t.equal(mayTryAgain(retry, end, { attempts, replayable }), expected))
}

const connecting: AttemptEnd = { kind: 'failure', untouched: true, connecting: true }
const ends = { connecting, untouched, touched, timeout }

for (const [retryOn, expected] of [
  ['reset', ['connecting', 'untouched', 'touched', 'timeout']],
  ['5xx', ['connecting', 'untouched', 'touched', 'timeout']],
  ['gateway-error', ['connecting', 'untouched', 'touched', 'timeout']],
  ['reset-before-request', ['connecting', 'untouched']],
  ['connect-failure', ['connecting', 'untouched']],
  ['refused-stream', ['untouched']],
  ['503', []],
  ['unavailable', []]
] as const) {
  t.test(`${retryOn} of a VirtualService: ${expected.join(', ') || 'no failure'}`, async t => {
    const { retry } = rule({ retries: { attempts: 2, retryOn } })
    for (const [name, end] of Object.entries(ends)) {
      const again = mayTryAgain(retry, end, { attempts: 2, replayable: true })
      t.equal(again, (expected as readonly string[]).includes(name), name)
    }
    t.equal(mayTryAgain(retry, connecting, { attempts: 3, replayable: true }), false)
    t.equal(mayTryAgain(retry, connecting, { attempts: 1, replayable: false }), false)
  })
}

t.test('answers by their status, or by what their head says of gRPC', async t => {
  const { retry } = rule({ retries: { attempts: 2, retryOn: 'retriable-4xx,429,unavailable' } })
  const head = (status: number, ...headers: readonly string[]): AttemptEnd & { kind: 'answer' } =>
    endOf({ status, headers: HeaderList.of(...headers), framing: { kind: 'none' } })
  for (const [end, expected] of [
    [head(409), true],
    [head(429), true],
    [head(503), false],
    [head(200), false],
    [head(200, 'grpc-status', '14'), true],
    [head(200, 'grpc-status', '0'), false]
  ] as const) {
    t.equal(mayReplace(retry, end), expected)
    t.equal(mayTryAgain(retry, end, { attempts: 1, replayable: true }), expected)
  }
  t.equal(mayReplace(undefined, head(503)), false)
})

t.test('pauses of a VirtualService are spread from nothing on', async t => {
  const { retry } = rule({ retries: { attempts: 2, backoff: '100ms' } })
  t.equal(retry && backoffMs(retry, 1, () => 0), 0)
  t.equal(retry && backoffMs(retry, 2, () => 1), 300)
})

t.test('pauses grow, up to ten times the first, and are never shorter than the route asks for', async t => {
  const asked = { ...twice, backoffMs: 100 }
  const rows = [1, 2, 3, 4, 5, 100].map(attempts => [
    backoffMs(twice, attempts, () => 0),
    backoffMs(twice, attempts, () => 1),
    backoffMs(asked, attempts, () => 0),
    backoffMs(asked, attempts, () => 1)
  ])
  t.strictSame(rows, [
    [0, 25, 100, 100],
    [0, 75, 100, 300],
    [0, 175, 100, 700],
    [0, 250, 100, 1000],
    [0, 250, 100, 1000],
    [0, 250, 100, 1000]
  ])
})
