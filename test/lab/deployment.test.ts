import t from 'tap'
import { nextScale, type RollOut } from '../../lab/controllers/deployment.ts'

const size = (replicas: number, available = replicas, pods = replicas) => ({ replicas, pods, available })
const none = size(0)
const rolling = (maxSurge: number | string, maxUnavailable: number | string) =>
  ({ type: 'RollingUpdate', rollingUpdate: { maxSurge, maxUnavailable } }) as const

const situations: readonly (readonly [
  claim: string,
  rollOut: RollOut,
  next: ReturnType<typeof nextScale>
])[] = [
  [
    'a new Deployment gets all its pods at once',
    { wanted: 3, strategy: undefined, current: none, old: [] },
    { current: 3, old: [] }
  ],
  [
    'a new template starts within the surge, while the old pods serve',
    { wanted: 4, strategy: rolling(1, 0), current: none, old: [size(4)] },
    { current: 1, old: [4] }
  ],
  [
    'an old pod goes when a new one is available',
    { wanted: 4, strategy: rolling(1, 0), current: size(1), old: [size(4)] },
    { current: 1, old: [3] }
  ],
  [
    'a new pod that is not available keeps the old ones',
    { wanted: 4, strategy: rolling(1, 0), current: size(1, 0), old: [size(4)] },
    { current: 1, old: [4] }
  ],
  [
    'one pod by the default strategy is replaced without a gap',
    { wanted: 1, strategy: undefined, current: none, old: [size(1)] },
    { current: 1, old: [1] }
  ],
  [
    'with slack and no surge old pods go first',
    { wanted: 2, strategy: rolling(0, 1), current: none, old: [size(2)] },
    { current: 0, old: [1] }
  ],
  [
    'old pods that never became available go at once',
    { wanted: 2, strategy: rolling(1, 0), current: none, old: [size(2, 0)] },
    { current: 1, old: [0] }
  ],
  [
    'Recreate waits until no old pod is left',
    { wanted: 2, strategy: { type: 'Recreate' }, current: none, old: [size(2)] },
    { current: 0, old: [0] }
  ],
  [
    'then it starts all',
    { wanted: 2, strategy: { type: 'Recreate' }, current: none, old: [size(0, 0, 0)] },
    { current: 2, old: [0] }
  ],
  [
    'fewer replicas are wanted',
    { wanted: 1, strategy: undefined, current: size(5), old: [] },
    { current: 1, old: [] }
  ]
]

t.test('a roll-out never has more pods than the surge allows, nor fewer available than promised', async t => {
  for (const [claim, rollOut, next] of situations) t.strictSame(nextScale(rollOut), next, claim)
})

t.test('whatever the numbers, a roll-out ends with the new template alone', async t => {
  for (const wanted of [1, 2, 5, 10]) {
    for (const strategy of [
      undefined,
      rolling(1, 0),
      rolling(0, 1),
      rolling('50%', '50%'),
      { type: 'Recreate' } as const
    ]) {
      let current = none
      let old = size(wanted)
      for (let round = 0; round < 100 && (current.replicas !== wanted || old.replicas > 0); round += 1) {
        const next = nextScale({ wanted, strategy, current, old: [old] })
        current = size(next.current)
        old = size(next.old[0] ?? 0)
      }
      t.same([current.replicas, old.replicas], [wanted, 0], `${wanted} pods, ${JSON.stringify(strategy)}`)
    }
  }
})
