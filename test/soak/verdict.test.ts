/** What counts as a leak in a long run. */
import t from 'tap'
import { verdictOf, type Observed, type Sample } from './verdict.ts'

const sample = (changes: Partial<Sample> = {}): Sample => ({
  residentMiB: 150,
  descriptors: 60,
  threads: 14,
  ...changes
})
const memory = (figures: readonly number[]): Sample[] => figures.map(residentMiB => sample({ residentMiB }))

const situations: readonly {
  readonly name: string
  readonly seen: Partial<Observed>
  readonly says: RegExp
}[] = [
  { name: 'nothing grows', seen: {}, says: /Nothing leaked, and no answer was wrong/ },
  {
    name: 'memory that rises while the program warms up is none',
    seen: { during: memory([130, 160, 200, 201, 200, 202, 199, 201]) },
    says: /Nothing leaked/
  },
  {
    name: 'memory that goes on rising is one',
    seen: { during: memory([150, 160, 170, 180, 190, 200, 210, 220]) },
    says: /memory grew by 40 MiB between the second and the last quarter/
  },
  {
    name: 'descriptors that stay open are one',
    seen: { after: sample({ descriptors: 70 }) },
    says: /70 descriptors are open afterwards, 60 were before/
  },
  {
    name: 'more descriptors under load are none',
    seen: { during: [150, 151, 152, 150].map(residentMiB => sample({ residentMiB, descriptors: 500 })) },
    says: /Nothing leaked/
  },
  {
    name: 'a thread that stays is one',
    seen: { after: sample({ threads: 15 }) },
    says: /15 threads run afterwards, 14 did before/
  },
  {
    name: 'a wrong answer fails the run',
    seen: { wrong: ['a connection answered ""'] },
    says: /wrong: a connection answered "".*1 wrong answers/s
  }
]

for (const { name, seen, says } of situations) {
  t.test(name, async t => {
    const verdict = verdictOf({
      minutes: 10,
      before: sample(),
      during: memory([150, 150, 150, 150]),
      after: sample(),
      did: { connections: 1234 },
      wrong: [],
      ...seen
    })
    t.match(verdict.text, says)
    t.match(verdict.text, /10 minutes of churn: 1,234 connections/)
    t.equal(verdict.passed, /Nothing leaked/.test(verdict.text))
  })
}
