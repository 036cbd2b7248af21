/** Faults that are put in on purpose: how many requests they hit, and what is left of them: VS-15, VS-17. */
import t from 'tap'
import { injectFault } from '../../waypoint/fault.ts'
import { HeaderList } from '../../waypoint/http/header-list.ts'
import type { Exchange } from '../../waypoint/http/exchange.ts'
import type { LocalReply } from '../../waypoint/local-reply.ts'
import { requestTimeoutOf } from '../../waypoint/request-timeout.ts'
import type { Fault } from '../../waypoint/routes/route.ts'
import { rule } from './virtual-services/support.ts'

interface Case {
  readonly told: string[]
  readonly replies: (LocalReply | undefined)[]
  leave(): void
}

/** `chances`: what chance says, in turn. */
function inject(
  fault: Fault | undefined,
  chances: readonly number[],
  then?: (reply: LocalReply | undefined) => void
): Case {
  const told: string[] = []
  const replies: (LocalReply | undefined)[] = []
  const left = [...chances]
  let onGone: (reason: Error) => void = () => undefined
  const exchange: Pick<Exchange, 'onGone'> = { onGone: listener => void (onGone = listener) }
  injectFault(
    fault,
    exchange as Exchange,
    {
      random: () => left.shift() ?? 1,
      report: { delayed: () => told.push('delayed'), finish: ({ flag }) => told.push(flag) },
      onDefect: error => told.push(String(error))
    },
    then ?? (reply => replies.push(reply))
  )
  return { told, replies, leave: () => onGone(new Error('gone')) }
}

const fault = (fields: object): Fault | undefined => rule({ fault: fields }).fault
const percentage = { value: 50 }

t.test('by chance, and at once where there is no delay', async t => {
  const abort = fault({ abort: { httpStatus: 429, percentage } })
  t.match(inject(abort, [0.499_999]).replies, [{ status: 429, flag: 'FI', body: 'fault filter abort' }])
  t.strictSame(inject(abort, [0.5]).replies, [undefined])
  t.strictSame(inject(undefined, []).replies, [undefined])
  t.strictSame(inject(fault({}), []).replies, [undefined])
  const never = fault({ delay: { fixedDelay: '1h' }, abort: { httpStatus: 500 } })
  t.strictSame(inject(never, [0, 0]).replies, [undefined], 'without a percentage there is none')
  const rare = fault({ abort: { httpStatus: 500, percentage: { value: 0.0001 } } })
  t.match(inject(rare, [0.000_000_9]).replies, [{ status: 500 }])
  t.strictSame(inject(rare, [0.000_001]).replies, [undefined])
})

t.test('shares are kept over many requests', async t => {
  const abort = fault({ abort: { httpStatus: 500, percentage: { value: 12.5 } } })
  let hit = 0
  for (let at = 0; at < 10_000; at += 1)
    if (inject(abort, [(at + 0.5) / 10_000]).replies[0] !== undefined) hit += 1
  t.equal(hit, 1250)
})

t.test('both hit, each by a chance of its own', async t => {
  const both = fault({ delay: { fixedDelay: '1ms', percentage }, abort: { httpStatus: 500, percentage } })
  const until = (chances: readonly number[]): Promise<LocalReply | undefined> =>
    new Promise(resolve => void inject(both, chances, resolve))
  t.match(await until([0, 0]), { status: 500 })
  t.equal(await until([0, 0.9]), undefined)
  t.match(await until([0.9, 0]), { status: 500 })
  t.strictSame(inject(both, [0.9, 0.9]).told, [])
  t.strictSame(inject(both, [0, 0.9]).told, ['delayed'])
})

t.test('who leaves meanwhile is not waited for', async t => {
  const long = fault({ delay: { fixedDelay: '1h', percentage } })
  const made = inject(long, [0])
  made.leave()
  t.strictSame(made.told, ['delayed', 'DC'])
  t.strictSame(made.replies, [])
})

t.test('what is thrown after a delay is told', async t => {
  const short = fault({ delay: { fixedDelay: '1ms', percentage } })
  let thrown: Case | undefined
  await new Promise<void>(resolve => {
    thrown = inject(short, [0], () => {
      setImmediate(resolve)
      throw new Error('defect')
    })
  })
  t.strictSame(thrown?.told, ['delayed', 'Error: defect'])
})

t.test('clients of gRPC say how long they wait, VS-19', async t => {
  const of = (timeout: string | undefined, requestTimeoutMs?: number): number | undefined =>
    requestTimeoutOf(
      { requestTimeoutMs, heedsGrpcTimeout: true },
      HeaderList.of(...(timeout === undefined ? [] : ['grpc-timeout', timeout]))
    )
  for (const [text, ms] of [
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['3S', 3000],
    ['4m', 4],
    ['1500u', 2],
    ['1n', 1],
    ['99999999H', 2 ** 31 - 1],
    ['5', undefined],
    ['5x', undefined],
    ['123456789m', undefined],
    [undefined, undefined]
  ] as const) {
    t.equal(of(text), ms, `${text}`)
  }
  t.equal(of('3S', 1000), 1000, 'no longer than the rule has it')
  t.equal(of('3S', 5000), 3000)
  t.equal(of('soon', 5000), 5000)
  t.equal(requestTimeoutOf({ requestTimeoutMs: undefined }, HeaderList.of('grpc-timeout', '1S')), undefined)
})
