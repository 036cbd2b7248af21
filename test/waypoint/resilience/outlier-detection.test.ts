/** Which pods are left out, for how long, and how many of them: RL-04 to RL-08, and the table of their defaults. */
import t from 'tap'
import { OutlierDetection, type EjectionReason } from '../../../waypoint/resilience/outlier-detection.ts'
import type { OutlierPolicy } from '../../../waypoint/traffic-policy.ts'
import { TurnedClock } from './turned-clock.ts'

const byDefault: OutlierPolicy = {
  consecutive5xx: 5,
  consecutiveGatewayErrors: 0,
  consecutiveLocalFailures: undefined,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionPercent: 10,
  minHealthPercent: 0
}

/** Pods `0`, `1`, … of a service, and what was told of them. */
class Service {
  readonly clock = new TurnedClock()
  readonly told: string[] = []
  readonly detection: OutlierDetection
  readonly pods: readonly string[]

  constructor(policy: Partial<OutlierPolicy>, pods: number) {
    this.detection = new OutlierDetection({ ...byDefault, ...policy }, this.clock, {
      onEjected: ({ uid, reason, forMs }) => this.told.push(`${uid} ${reason} ${forMs / 1000} s`),
      onReturned: uid => this.told.push(`${uid} returned`)
    })
    this.pods = Array.from({ length: pods }, (_, at) => String(at))
    this.detection.members(this.pods)
  }

  /** `-` is a failure of our own, numbers are statuses. */
  happened(uid: string, ends: string): void {
    for (const end of ends.split(' ')) {
      if (end === '-') this.detection.failedLocally(uid)
      else this.detection.answered(uid, Number(end))
    }
  }

  usable(): string {
    return this.pods.filter(uid => this.detection.usable(uid)).join(' ')
  }
}

const five = '500 500 500 500 500'

const rows: readonly (readonly [
  name: string,
  policy: Partial<OutlierPolicy>,
  ends: string,
  reason: EjectionReason | undefined
])[] = [
  ['five in a row', {}, '500 501 502 503 599', 'consecutive-5xx'],
  ['four are too few', {}, '500 500 500 500', undefined],
  ['an answer in between begins anew', {}, '500 500 500 500 200 500 500 500 500', undefined],
  ['an answer of 404 is one', {}, '500 500 500 500 404 500', undefined],
  ['statuses that do not exist are none', {}, '600 600 600 600 600', undefined],
  ['0 looks at none', { consecutive5xx: 0 }, `${five} ${five}`, undefined],
  ['one is enough', { consecutive5xx: 1 }, '500', 'consecutive-5xx'],
  ['failures of our own count with them, RL-06', {}, '500 - 500 - -', 'consecutive-5xx'],
  ['failures of our own alone', {}, '- - - - -', 'consecutive-5xx'],
  [
    'gateway errors on their own',
    { consecutiveGatewayErrors: 3 },
    '502 503 504',
    'consecutive-gateway-errors'
  ],
  ['another error is no gateway error', { consecutiveGatewayErrors: 3 }, '502 503 500 504', undefined],
  [
    'gateway errors alone are looked at',
    { consecutive5xx: 0, consecutiveGatewayErrors: 3 },
    `${five} 501 505`,
    undefined
  ],
  ['gateway errors are not looked at unless asked', { consecutive5xx: 6 }, '502 503 504 502 503', undefined],
  ['they are errors as well', { consecutiveGatewayErrors: 9 }, '502 502 502 502 502', 'consecutive-5xx'],
  [
    'a failure of our own is a gateway error',
    { consecutiveGatewayErrors: 2 },
    '- -',
    'consecutive-gateway-errors'
  ],
  [
    'both at once is one ejection',
    { consecutiveGatewayErrors: 5 },
    '503 503 503 503 503',
    'consecutive-gateway-errors'
  ],
  ['counted on their own', { consecutiveLocalFailures: 3 }, '- - -', 'consecutive-local-origin-failures'],
  ['then they are no answers', { consecutiveLocalFailures: 6 }, '500 500 500 500 - - - - -', undefined],
  ['then any answer says that it can be reached', { consecutiveLocalFailures: 3 }, '- - 500 - -', undefined],
  ['a good one too', { consecutiveLocalFailures: 3 }, '- - 200 - -', undefined],
  [
    'then they do not interrupt errors',
    { consecutiveLocalFailures: 9 },
    '500 500 - 500 500 500',
    'consecutive-5xx'
  ],
  ['0 looks at none of them', { consecutiveLocalFailures: 0 }, '- - - - - - -', undefined]
]
for (const [name, policy, ends, reason] of rows) {
  t.test(name, async t => {
    const service = new Service(policy, 10)
    service.happened('3', ends)
    t.strictSame(service.told, reason === undefined ? [] : [`3 ${reason} 30 s`])
    t.equal(service.detection.usable('3'), reason === undefined)
    t.equal(service.detection.ejected, reason === undefined ? 0 : 1)
    t.ok(service.detection.usable('4'), 'others are not touched')
  })
}

t.test('each pod has its own row of errors', async t => {
  const service = new Service({}, 10)
  for (const uid of ['1', '2', '1', '2', '1', '2', '1', '2']) service.happened(uid, '500')
  t.strictSame(service.told, [])
  service.happened('2', '500')
  t.strictSame(service.told, ['2 consecutive-5xx 30 s'])
})

t.test('a pod returns at the end of the interval in which its time is over, without being asked', async t => {
  const service = new Service({}, 10)
  service.clock.at += 3000
  service.happened('0', five)
  const until = service.clock.at + 37_000 // 30 s are over after 33, the interval after 40
  service.clock.at = until - 1
  t.notOk(service.detection.usable('0'))
  service.clock.at = until
  t.ok(service.detection.usable('0'))
  t.strictSame(service.told, ['0 consecutive-5xx 30 s', '0 returned'])
})

t.test('it is told that pods returned as soon as anything is asked', async t => {
  for (const ask of [
    (detection: OutlierDetection) => detection.ejected,
    (detection: OutlierDetection) => detection.panicking,
    (detection: OutlierDetection) => detection.usable('7'),
    (detection: OutlierDetection) => detection.failedLocally('7')
  ]) {
    const service = new Service({}, 10)
    service.happened('0', five)
    service.clock.at += 30_000
    ask(service.detection)
    t.equal(service.told.at(-1), '0 returned')
  }
})

t.test('after its return it needs as many errors as the first time', async t => {
  const service = new Service({ consecutiveGatewayErrors: 4 }, 10)
  service.happened('0', '500 503 503 503 503') // 5xx reach their number too, gateway errors were first
  service.happened('0', '500 500 500 500') // on their way when it was ejected
  service.clock.at += 30_000
  service.happened('0', '500 500 500 503')
  t.ok(service.detection.usable('0'))
  service.happened('0', '503')
  t.notOk(service.detection.usable('0'))
})

t.test('the longer the more often, up to 300 s', async t => {
  const service = new Service({}, 10)
  const times: number[] = []
  for (let time = 0; time < 13; time += 1) {
    service.happened('0', five)
    times.push(Number(/(\d+) s$/.exec(service.told.at(-1) ?? '')?.[1]))
    service.clock.at += (times.at(-1) ?? 0) * 1000
    t.ok(service.detection.usable('0'))
  }
  t.strictSame(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300])
})

t.test('one ejection alone may be longer than 300 s, more of them are not', async t => {
  const service = new Service({ baseEjectionMs: 400_000 }, 10)
  service.happened('0', five)
  service.clock.at += 400_000
  service.happened('0', five)
  t.strictSame(service.told, ['0 consecutive-5xx 400 s', '0 returned', '0 consecutive-5xx 400 s'])
})

for (const [intervals, forSeconds] of [
  [0, 120],
  [1, 90],
  [2, 60],
  [3, 30],
  [100, 30]
] as const) {
  t.test(`three ejections, then ${intervals} intervals without: ${forSeconds} s`, async t => {
    const service = new Service({}, 10)
    for (const seconds of [30, 60, 90]) {
      service.happened('0', five)
      service.clock.at += seconds * 1000
    }
    t.ok(service.detection.usable('0'))
    service.clock.at += intervals * 10_000
    service.happened('0', five)
    t.equal(service.told.at(-1), `0 consecutive-5xx ${forSeconds} s`)
  })
}

t.test('intervals in which it was ejected do not make it better', async t => {
  const service = new Service({ baseEjectionMs: 100_000 }, 10)
  service.happened('0', five)
  service.clock.at += 100_000
  service.happened('0', five)
  t.equal(service.told.at(-1), '0 consecutive-5xx 200 s')
})

for (const [pods, percent, failing, ejected] of [
  [10, 10, 10, 1],
  [20, 10, 20, 2],
  [29, 10, 29, 2],
  [100, 10, 5, 5],
  [3, 10, 3, 1],
  [2, 10, 2, 1],
  [1, 10, 1, 0],
  [1, 100, 1, 1],
  [4, 50, 4, 2],
  [4, 100, 4, 4],
  [4, 0, 4, 1]
] as const) {
  t.test(`of ${pods} pods with ${percent} % at most ${failing} fail: ${ejected} are left out`, async t => {
    const service = new Service({ maxEjectionPercent: percent }, pods)
    for (let uid = 0; uid < failing; uid += 1) service.happened(String(uid), five)
    t.equal(service.detection.ejected, ejected)
    t.equal(service.told.length, ejected)
    t.equal(service.pods.filter(uid => !service.detection.usable(uid)).length, ejected)
  })
}

t.test('who was spared needs all its errors again, once there is room', async t => {
  const service = new Service({}, 10)
  service.happened('0', five)
  service.happened('1', five)
  service.clock.at += 30_000
  service.happened('1', '500 500 500 500')
  t.strictSame(service.told, ['0 consecutive-5xx 30 s', '0 returned'])
  service.happened('1', '500')
  t.equal(service.told.at(-1), '1 consecutive-5xx 30 s')
})

for (const [minHealthPercent, failing, panicking] of [
  [0, 4, false],
  [50, 2, false],
  [50, 3, true],
  [51, 2, true],
  [75, 1, false],
  [100, 0, false],
  [100, 1, true]
] as const) {
  t.test(`${failing} of 4 are ejected, ${minHealthPercent} % have to be left: ${panicking}`, async t => {
    const service = new Service({ maxEjectionPercent: 100, minHealthPercent }, 4)
    for (let uid = 0; uid < failing; uid += 1) service.happened(String(uid), five)
    t.equal(service.detection.ejected, failing)
    t.equal(service.detection.panicking, panicking)
    t.equal(service.usable(), panicking ? '0 1 2 3' : ['0', '1', '2', '3'].slice(failing).join(' '))
  })
}

t.test('panic is over when enough have returned', async t => {
  const service = new Service({ maxEjectionPercent: 100, minHealthPercent: 50 }, 4)
  service.happened('0', five)
  service.clock.at += 15_000
  service.happened('1', five)
  service.happened('2', five)
  t.equal(service.usable(), '0 1 2 3')
  service.clock.at += 15_000
  t.equal(service.usable(), '0 3')
})

t.test('who is gone is forgotten, and what is left is counted anew', async t => {
  const service = new Service({ maxEjectionPercent: 50, minHealthPercent: 50 }, 4)
  service.happened('0', five)
  service.happened('1', five)
  service.happened('2', '500 500 500 500')
  service.detection.members(['1', '3'])
  t.equal(service.detection.ejected, 1)
  t.notOk(service.detection.usable('1'))
  service.detection.members(['1'])
  t.ok(service.detection.usable('1'), 'none is healthy now')
  service.detection.members(service.pods)
  t.equal(service.usable(), '0 2 3', 'one that came back begins anew')
  service.happened('2', '500')
  t.equal(service.usable(), '0 2 3')
  t.strictSame(service.told, ['0 consecutive-5xx 30 s', '1 consecutive-5xx 30 s'], 'nobody returned')
})

t.test('of pods that are no members nothing is kept', async t => {
  const service = new Service({ consecutive5xx: 1, maxEjectionPercent: 100 }, 2)
  for (let uid = 100; uid < 200; uid += 1) service.happened(String(uid), '500')
  t.strictSame(service.told, [])
  service.detection.members([...service.pods, '100'])
  t.ok(service.detection.usable('100'))
})

t.test('no pods at all are no panic', async t => {
  const service = new Service({ minHealthPercent: 50 }, 0)
  t.notOk(service.detection.panicking)
  t.ok(service.detection.usable('0'))
})

t.test('while all are well no choice looks at the clock', async t => {
  let looks = 0
  const clock = { now: () => (looks += 1) }
  const detection = new OutlierDetection(byDefault, clock, {
    onEjected: () => t.fail('nobody failed'),
    onReturned: () => t.fail('nobody was away')
  })
  detection.members(['0', '1'])
  looks = 0
  for (let choice = 0; choice < 100; choice += 1) detection.usable('0')
  detection.answered('0', 200)
  t.equal(looks, 0)
})
