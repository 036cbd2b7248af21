import t, { type Test } from 'tap'
import { openSync } from 'node:fs'
import { ip } from '../../shared/net/address.ts'
import { silent } from '../../shared/telemetry/logger.ts'
import { Enroller, type EnrolDeps, type PodFacts } from '../../daemonset/enrol.ts'
import type { AddOutcome } from '../../daemonset/zds-server.ts'

const facts: PodFacts = {
  uid: 'uid-1',
  namespace: 'shop',
  name: 'web-1',
  serviceAccount: 'web',
  addresses: [ip('10.0.0.7')],
  capture: { inbound: true, dns: false, virtualInterfaces: [] },
  probePorts: [8080],
  redirection: undefined,
  going: false
}
const identity = { uid: 'uid-1', namespace: 'shop', name: 'web-1', addresses: facts.addresses }

/** Everything around an enroller, written down in the order in which it is asked. */
class Surroundings {
  readonly steps: string[] = []
  readonly warnings: string[] = []
  rules: 'none' | 'ours' | 'drifted' = 'none'
  answer: AddOutcome = { kind: 'acknowledged' }
  found = true
  now = 0
  /** Step that fails, with its error. */
  failing: string | undefined

  readonly enroller = new Enroller(this.deps())

  step(name: string): void {
    this.steps.push(name)
    if (this.failing === name.split(' ')[0]) throw new Error(`${name} failed`)
  }

  /** The steps since the last time. */
  taken(): string[] {
    return this.steps.splice(0)
  }

  deps(): EnrolDeps {
    const open = (path: string): { fd: number; path: string } => ({
      fd: openSync('/proc/self/ns/net', 'r'),
      path
    })
    return {
      rules: {
        apply: async () => {
          this.step('rules')
          this.rules = 'ours'
        },
        repair: async () => {
          this.step('repair-rules')
          this.rules = 'ours'
        },
        read: async () => ({
          present: this.rules !== 'none',
          generation: 'g',
          desired: ['x'],
          actual: [],
          missing: this.rules === 'ours' ? [] : ['x'],
          unexpected: []
        }),
        remove: async () => {
          this.step('remove-rules')
          this.rules = 'none'
        },
        leftIn: async () => this.rules !== 'none'
      },
      ztunnel: {
        add: async () => {
          this.step('ztunnel')
          return this.answer
        },
        remove: async () => this.step('remove-ztunnel')
      },
      probes: {
        put: async () => this.step('probes'),
        remove: async () => this.step('remove-probes')
      },
      netns: {
        find: () => (this.found ? open('/found') : undefined),
        open,
        addresses: () => (this.found ? facts.addresses : [])
      },
      annotate: async (_, value) => this.step(`annotate ${value}`),
      warn: (_, reason, message) => {
        this.warnings.push(`${reason}: ${message}`)
      },
      onRepair: () => this.step('repaired'),
      clock: { now: () => this.now },
      log: silent
    }
  }
}

function surroundings(t: Test): Surroundings {
  const around = new Surroundings()
  t.teardown(() => around.enroller.close())
  return around
}

t.test('a new pod gets its rules before ztunnel is asked, and its annotation last', async t => {
  const around = surroundings(t)
  await around.enroller.enrolNew(facts, '/var/run/netns/cni-1')
  t.strictSame(around.taken(), ['rules', 'ztunnel', 'probes', 'annotate enabled'])
})

t.test('a live pod gets its rules after ztunnel answered', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  t.strictSame(around.taken(), ['ztunnel', 'rules', 'probes', 'annotate enabled'])
})

t.test('a live pod without ztunnel is left as it was: no rules, no annotation', async t => {
  const around = surroundings(t)
  around.answer = { kind: 'absent' }
  await t.rejects(around.enroller.enrol(facts), /no ztunnel is connected/)
  t.strictSame(around.taken(), ['ztunnel'])
  t.equal(around.rules, 'none')
  around.answer = { kind: 'acknowledged' }
  await around.enroller.enrol(facts)
  t.strictSame(around.taken(), ['ztunnel', 'rules', 'probes', 'annotate enabled'])
})

t.test('a pod that was captured gets missing rules back first, also without ztunnel', async t => {
  const around = surroundings(t)
  around.answer = { kind: 'refused', reason: 'cannot bind' }
  const enabled: PodFacts = { ...facts, redirection: 'enabled' }
  await t.rejects(around.enroller.enrol(enabled), /ztunnel refused the pod: cannot bind/)
  t.strictSame(around.taken(), ['repair-rules', 'repaired', 'ztunnel', 'probes'])
  t.equal(around.rules, 'ours')
})

t.test('a captured pod without annotation and without ztunnel is pending at once', async t => {
  const around = surroundings(t)
  around.rules = 'ours'
  around.answer = { kind: 'absent' }
  await t.rejects(around.enroller.enrol(facts), { name: 'WaitsForZtunnel' })
  t.strictSame(around.taken(), ['ztunnel', 'probes', 'annotate pending'])
})

t.test(
  'a captured pod without ztunnel stays advertised, however long: nobody talks to it in the clear',
  async t => {
    for (const answer of [{ kind: 'absent' }, { kind: 'refused', reason: 'cannot bind' }] as const) {
      const around = surroundings(t)
      around.rules = 'ours'
      around.answer = answer
      const enabled: PodFacts = { ...facts, redirection: 'enabled' }
      for (let attempt = 0; attempt < 2; attempt++) {
        await t.rejects(around.enroller.enrol(enabled))
        t.strictSame(around.taken(), ['ztunnel', 'probes'])
        around.now += 3_600_000
      }
      around.answer = { kind: 'acknowledged' }
      await around.enroller.enrol(enabled)
      t.strictSame(around.taken(), ['ztunnel', 'probes'])
      t.equal(around.enroller.pod('uid-1')?.problem, undefined)
    }
  }
)

t.test('a pod whose ztunnel left says so', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.enroller.noteAnswer('uid-1', { kind: 'absent' })
  t.match(around.enroller.pod('uid-1'), { ztunnel: 'absent', problem: /no ztunnel is connected/ })
})

t.test('rules of ours without an annotation mean the pod was captured', async t => {
  const around = surroundings(t)
  around.rules = 'drifted'
  await around.enroller.enrol(facts)
  t.strictSame(around.taken(), ['repair-rules', 'repaired', 'ztunnel', 'probes', 'annotate enabled'])
})

t.test('what is in order is not touched', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.taken()
  await around.enroller.enrol({ ...facts, redirection: 'enabled' })
  t.strictSame(around.taken(), ['probes'])
})

t.test('flushed rules come back without asking ztunnel again', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.taken()
  around.rules = 'none'
  await around.enroller.enrol({ ...facts, redirection: 'enabled' })
  t.strictSame(around.taken(), ['repair-rules', 'repaired', 'probes'])
})

t.test('a live pod whose rules cannot be written is given back by ztunnel', async t => {
  const around = surroundings(t)
  around.failing = 'rules'
  await t.rejects(around.enroller.enrol(facts), /rules failed/)
  t.strictSame(around.taken(), ['ztunnel', 'rules', 'remove-rules', 'remove-ztunnel'])
  around.failing = undefined
  await around.enroller.enrol(facts)
  t.strictSame(around.taken(), ['ztunnel', 'rules', 'probes', 'annotate enabled'])
})

t.test('a new pod that ztunnel does not take must not start, and keeps its rules', async t => {
  const around = surroundings(t)
  around.answer = { kind: 'absent' }
  await t.rejects(around.enroller.enrolNew(facts, '/var/run/netns/cni-1'), /no ztunnel/)
  t.strictSame(around.taken(), ['rules', 'ztunnel', 'remove-ztunnel', 'remove-probes'])
  t.equal(around.rules, 'ours')
  t.strictSame([...around.enroller.pods()], [], 'the next sandbox is another one')
})

t.test('a new pod that ztunnel refused is taken back from it and from the probes', async t => {
  const around = surroundings(t)
  around.answer = { kind: 'refused', reason: 'cannot bind' }
  await t.rejects(around.enroller.enrolNew(facts, '/var/run/netns/cni-1'), /cannot bind/)
  t.strictSame(around.taken(), ['rules', 'ztunnel', 'remove-ztunnel', 'remove-probes'])
})

t.test('a new pod starts although its annotation cannot be written yet', async t => {
  const around = surroundings(t)
  around.failing = 'annotate'
  await around.enroller.enrolNew(facts, '/var/run/netns/cni-1')
  t.strictSame(around.taken(), ['rules', 'ztunnel', 'probes', 'annotate enabled'])
  around.failing = undefined
  await around.enroller.enrol(facts)
  t.strictSame(around.taken(), ['probes', 'annotate enabled'])
})

t.test('taking out goes the other way round, the annotation last', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.taken()
  await around.enroller.takeOut(identity, { running: true, annotated: true })
  t.strictSame(around.taken(), ['remove-probes', 'remove-rules', 'remove-ztunnel', 'annotate undefined'])
  t.strictSame([...around.enroller.pods()], [])
})

t.test(
  'a ztunnel that connects while the annotation is being taken away does not hear of the pod',
  async t => {
    const around = surroundings(t)
    await around.enroller.enrol(facts)
    const heard = (): unknown => [around.enroller.zdsPods().length, around.enroller.zdsPod('uid-1')?.uid]
    t.strictSame(heard(), [1, 'uid-1'])
    around.failing = 'annotate'
    await t.rejects(around.enroller.takeOut(identity, { running: true, annotated: true }))
    t.strictSame(heard(), [0, undefined], 'it is out already')
    around.enroller.noteAnswer('uid-1', { kind: 'acknowledged' })
    around.failing = undefined
    around.taken()
    await around.enroller.enrol(facts)
    t.ok(around.taken().includes('ztunnel'), 'wanted again, it is asked again')
    t.strictSame(heard(), [1, 'uid-1'])
  }
)

t.test('of a deleted pod only the node and ztunnel are told', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.taken()
  await around.enroller.takeOut(identity, { running: false, annotated: false })
  t.strictSame(around.taken(), ['remove-probes', 'remove-ztunnel'])
})

t.test('a pod that an earlier agent enrolled is taken out as well', async t => {
  const around = surroundings(t)
  around.rules = 'ours'
  await around.enroller.takeOut(identity, { running: true, annotated: true })
  t.strictSame(around.taken(), ['remove-probes', 'remove-rules', 'remove-ztunnel', 'annotate undefined'])
})

t.test('rules that cannot be removed keep the annotation', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.taken()
  around.failing = 'remove-rules'
  await t.rejects(around.enroller.takeOut(identity, { running: true, annotated: true }))
  t.strictSame(around.taken(), ['remove-probes', 'remove-rules'])
  t.match(around.warnings[0], /TakingOutFailed: remove-rules failed/)
})

t.test('a pod that is taken out while its sandbox is a new one is cleaned in the new one', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.found = false
  around.taken()
  await t.rejects(
    around.enroller.takeOut(identity, { running: true, annotated: true }),
    /namespace is not found, so its rules cannot be removed/
  )
  around.found = true
  await around.enroller.takeOut(identity, { running: true, annotated: true })
  t.equal(around.rules, 'none')
})

t.test('what an interrupted enrolment left is removed, and nothing where nothing is', async t => {
  const around = surroundings(t)
  await around.enroller.removeLeftovers(identity)
  t.strictSame(around.taken(), [])
  around.rules = 'drifted'
  await around.enroller.removeLeftovers(identity)
  t.strictSame(around.taken(), ['remove-rules'])
  around.found = false
  around.rules = 'ours'
  await around.enroller.removeLeftovers(identity)
  t.strictSame(around.taken(), [], 'a pod without a sandbox')
})

t.test('a pod on its way out whose sandbox went first is no problem', async t => {
  const around = surroundings(t)
  around.found = false
  await around.enroller.enrol({ ...facts, going: true })
  t.strictSame(around.warnings, [])
  t.strictSame(around.taken(), [])
})

t.test('a sandbox made anew under the same UID is enrolled anew', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.taken()
  const before = around.enroller.pod('uid-1')?.netns?.path
  around.rules = 'none'
  await around.enroller.enrolNew({ ...facts, redirection: 'enabled' }, '/var/run/netns/cni-2')
  t.strictSame(around.taken(), ['rules', 'ztunnel', 'probes'])
  t.not(around.enroller.pod('uid-1')?.netns?.path, before)
})

t.test('a captured pod whose rules cannot be brought back is not advertised any longer', async t => {
  const around = surroundings(t)
  await around.enroller.enrol(facts)
  around.taken()
  const enabled: PodFacts = { ...facts, redirection: 'enabled' }
  around.rules = 'none'
  around.failing = 'repair-rules'
  await t.rejects(around.enroller.enrol(enabled))
  t.strictSame(around.taken(), ['repair-rules'])
  around.now += 10_000
  await t.rejects(around.enroller.enrol(enabled))
  t.strictSame(around.taken(), ['repair-rules', 'annotate pending'])
})

t.test('a namespace that is not found is said once, not with every try', async t => {
  const around = surroundings(t)
  around.found = false
  for (let attempt = 0; attempt < 3; attempt++) await t.rejects(around.enroller.enrol(facts), /10\.0\.0\.7/)
  t.equal(around.warnings.length, 1)
  t.match(around.warnings[0], /EnrolmentFailed: no network namespace holds an address/)
})

t.test('events and CNI ADD of one pod do not run into each other', async t => {
  const around = surroundings(t)
  await Promise.all([
    around.enroller.enrolNew(facts, '/var/run/netns/cni-1'),
    around.enroller.enrol(facts),
    around.enroller.takeOut(identity, { running: true, annotated: true })
  ])
  t.strictSame(around.taken(), [
    ...['rules', 'ztunnel', 'probes', 'annotate enabled'],
    ...['probes', 'annotate enabled'],
    ...['remove-probes', 'remove-rules', 'remove-ztunnel', 'annotate undefined']
  ])
})
