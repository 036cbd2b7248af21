/**
 * Enrols pods and takes them out, step by step in an order that leaves no traffic in the clear and no pod half
 * enrolled. Every step can be repeated: whoever calls again after a failure continues where it stopped.
 *
 * - A new pod (CNI ADD): rules, then ztunnel, then probes, then the annotation. Nothing of it has run yet.
 * - A pod that runs in the clear: ztunnel first, and rules only once it listens, so connections never hang.
 * - A pod that was captured before: missing rules come back first, whatever ztunnel says; without ztunnel it is cut off.
 * - Out: probes, rules, ztunnel, annotation.
 */
import type { Ip } from '../shared/net/address.ts'
import { closeNetns, netnsId } from '../shared/net/netns.ts'
import { type Clock } from '../shared/runtime/clock.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { PodCapture } from './decide.ts'
import type { PodNetns } from './pod-netns.ts'
import { describeDrift, hasDrift, type RuleState } from './rules/capture.ts'
import type { AddOutcome, ZdsPod } from './zds-server.ts'

/** How long a captured pod may be without its rules before its annotation says so. */
const withdrawAfterMs = 10_000

/** Value of the annotation `ambient.istio.io/redirection`. */
export type Redirection = 'enabled' | 'pending'

/** What enrolment has to know of a pod. */
export interface PodFacts {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly serviceAccount: string
  readonly addresses: readonly Ip[]
  readonly capture: PodCapture
  /** TCP ports that the kubelet probes. */
  readonly probePorts: readonly number[]
  readonly redirection: Redirection | undefined
  /** Whether it is being deleted: its sandbox may be gone before it is. */
  readonly going: boolean
}

export type PodIdentity = Pick<PodFacts, 'uid' | 'namespace' | 'name'>

export interface EnrolDeps {
  readonly rules: {
    apply(netns: number, capture: PodCapture): Promise<void>
    /** As apply, where rules were before: also takes out what other ways of capturing left. */
    repair(netns: number, capture: PodCapture): Promise<void>
    read(netns: number, capture: PodCapture): Promise<RuleState>
    remove(netns: number): Promise<void>
    /** Whether anything of ours is in a namespace, also of a removal that was cut short. */
    leftIn(netns: number): Promise<boolean>
  }
  readonly ztunnel: {
    add(uid: string): Promise<AddOutcome>
    remove(uid: string): Promise<void>
  }
  readonly probes: {
    put(uid: string, addresses: readonly Ip[], ports: readonly number[]): Promise<void>
    remove(uid: string): Promise<void>
  }
  readonly netns: {
    find(pod: { readonly uid: string; readonly addresses: readonly Ip[] }): PodNetns | undefined
    open(path: string): PodNetns
    addresses(fd: number): readonly Ip[]
  }
  /** Writes the annotation, or takes it away. A pod that is gone is no error. */
  annotate(pod: PodIdentity, value: Redirection | undefined): Promise<void>
  /** Tells the owner of the pod (a Kubernetes Event). Never rejects. */
  warn(pod: PodIdentity, reason: string, message: string): void
  readonly onRepair: () => void
  readonly clock: Clock
  readonly log: Logger
}

export type ProxyState = 'unasked' | AddOutcome['kind']

export interface EnrolledPod {
  readonly facts: PodFacts
  readonly netns: PodNetns | undefined
  /** Whether its rules were in force when they were last looked at. */
  readonly rulesWritten: boolean
  readonly ztunnel: ProxyState
  /** Why it is not complete; undefined when all is well. */
  readonly problem: string | undefined
  /** Since when it is not, in milliseconds since the epoch. */
  readonly problemSince: number | undefined
}

interface Entry {
  facts: PodFacts
  netns: PodNetns | undefined
  rulesWritten: boolean
  /** Whether this namespace had its rules at any time: from then on it is cut off rather than in the clear. */
  captured: boolean
  /** Whether ztunnel was told to let it go: one that connects from then on shall not hear of it. */
  leaving: boolean
  ztunnel: ProxyState
  /** ztunnel's words, where it refused the pod. */
  refusal: string | undefined
  problem: string | undefined
  problemSince: number | undefined
}

/** Enrolment that could not be completed now; the caller tries again. */
export class EnrolmentError extends Error {
  override readonly name: string = 'EnrolmentError'
}

/** All is done but ztunnel's part, and none is connected: its snapshot brings the pod back to work. */
export class WaitsForZtunnel extends EnrolmentError {
  override readonly name = 'WaitsForZtunnel'
}

export class Enroller {
  readonly #deps: EnrolDeps
  readonly #pods = new Map<string, Entry>()
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(deps: EnrolDeps) {
    this.#deps = deps
  }

  pods(): Iterable<EnrolledPod> {
    return this.#pods.values()
  }

  pod(uid: string): EnrolledPod | undefined {
    return this.#pods.get(uid)
  }

  /** Brings a running pod, whatever was done for it before, to being enrolled. Rejects when that is not complete. */
  async enrol(facts: PodFacts): Promise<void> {
    return this.#inTurn(facts.uid, () => this.#enrolRunning(facts))
  }

  /**
   * At the start: makes a pod known that is or shall be enrolled, without touching it, so that the first snapshot
   * has it. ztunnel would otherwise end its proxy.
   */
  adopt(facts: PodFacts, netns: PodNetns | undefined): void {
    const entry = this.#entryOf(facts)
    entry.netns = netns
  }

  /** CNI ADD: `path` is the namespace of a pod in which nothing runs yet. Rejects: the pod must not start. */
  async enrolNew(facts: PodFacts, path: string): Promise<void> {
    return this.#inTurn(facts.uid, () => this.#enrolNew(facts, path))
  }

  /**
   * Takes a pod out. `running`: its namespace is there and has to be cleaned; `annotated`: the API server has it
   * and its annotation has to go. Rejects when that is not complete.
   */
  async takeOut(
    pod: PodIdentity & { readonly addresses: readonly Ip[] },
    state: { readonly running: boolean; readonly annotated: boolean }
  ): Promise<void> {
    return this.#inTurn(pod.uid, () => this.#takeOut(pod, state))
  }

  /**
   * For a pod that is not to be enrolled and is not known: removes what an agent left that was killed before it could
   * write the annotation. Without ztunnel such rules would cut the pod off.
   */
  async removeLeftovers(pod: PodIdentity & { readonly addresses: readonly Ip[] }): Promise<void> {
    return this.#inTurn(pod.uid, async () => {
      const netns = this.#pods.has(pod.uid) ? undefined : this.#deps.netns.find(pod)
      if (netns === undefined) return
      try {
        if (!(await this.#deps.rules.leftIn(netns.fd))) return
        await this.#deps.rules.remove(netns.fd)
        this.#deps.log.warn('removed the rules that an interrupted enrolment left', { pod: podName(pod) })
      } finally {
        closeNetns(netns.fd)
      }
    })
  }

  /** All pods as ZDS sends them. */
  zdsPods(): readonly ZdsPod[] {
    return [...this.#pods.values()].filter(({ leaving }) => !leaving).map(zdsPodOf)
  }

  zdsPod(uid: string): ZdsPod | undefined {
    const entry = this.#pods.get(uid)
    return entry === undefined || entry.leaving ? undefined : zdsPodOf(entry)
  }

  /** What a ztunnel that connected anew said of a pod; `absent` when the last one left. */
  noteAnswer(uid: string, outcome: AddOutcome): void {
    const entry = this.#pods.get(uid)
    if (entry === undefined || entry.leaving) return
    entry.ztunnel = outcome.kind
    if (outcome.kind === 'acknowledged') return
    entry.problem ??= proxyProblem(outcome)
    entry.problemSince ??= this.#deps.clock.now()
  }

  /** Closes the namespaces; the rules in them stay. */
  close(): void {
    for (const entry of this.#pods.values()) forgetNetns(entry)
    this.#pods.clear()
  }

  async #enrolRunning(facts: PodFacts): Promise<void> {
    const entry = this.#entryOf(facts)
    try {
      const netns = this.#netnsOf(entry)
      if (netns === undefined) {
        if (facts.going) return // its sandbox went first
        throw new EnrolmentError(
          `no network namespace holds an address of the pod (${facts.addresses.join(', ')}); has its sandbox ended?`
        )
      }
      const state = await this.#deps.rules.read(netns.fd, facts.capture)
      entry.captured ||= facts.redirection !== undefined || state.present
      if (entry.captured) {
        await this.#restoreRules(entry, netns, state)
        await this.#askZtunnel(entry)
      } else {
        await this.#askZtunnel(entry)
        this.#expectAcknowledged(entry)
        await this.#writeAfterAnswer(entry, netns)
      }
      await this.#deps.probes.put(facts.uid, facts.addresses, facts.probePorts)
      // A pod that is advertised as taking tunnels stays so: see #withdraw.
      if (entry.ztunnel !== 'acknowledged' && facts.redirection === undefined) {
        await this.#annotate(entry, 'pending')
      }
      this.#expectAcknowledged(entry)
      await this.#annotate(entry, 'enabled')
      entry.problem = undefined
      entry.problemSince = undefined
    } catch (error) {
      this.#complain(entry, error)
      await this.#withdraw(entry)
      throw error
    }
  }

  async #enrolNew(facts: PodFacts, path: string): Promise<void> {
    const entry = this.#entryOf(facts)
    forgetNetns(entry)
    try {
      const netns = this.#deps.netns.open(path)
      entry.netns = netns
      await this.#deps.rules.apply(netns.fd, facts.capture)
      entry.captured = entry.rulesWritten = true
      await this.#askZtunnel(entry)
      this.#expectAcknowledged(entry)
      await this.#deps.probes.put(facts.uid, facts.addresses, facts.probePorts)
    } catch (error) {
      this.#complain(entry, error)
      // The runtime takes this namespace down and tries with a new one; its rules keep it shut until then.
      await this.#forget(entry)
      throw error
    }
    entry.problem = undefined
    entry.problemSince = undefined
    // The pod is safe without its annotation: should this fail, the pod's next event brings it.
    await this.#annotate(entry, 'enabled').catch((error: unknown) => this.#complain(entry, error))
  }

  async #takeOut(
    pod: PodIdentity & { readonly addresses: readonly Ip[] },
    { running, annotated }: { readonly running: boolean; readonly annotated: boolean }
  ): Promise<void> {
    const entry = this.#pods.get(pod.uid)
    try {
      await this.#deps.probes.remove(pod.uid)
      if (running) await this.#removeRules(pod, entry, annotated)
      await this.#letGo(pod.uid)
      if (annotated) await this.#deps.annotate(pod, undefined)
    } catch (error) {
      if (entry !== undefined) this.#complain(entry, error, 'TakingOutFailed')
      throw error
    }
    if (entry !== undefined) {
      this.#pods.delete(pod.uid)
      forgetNetns(entry)
    }
    this.#deps.log.info('pod taken out of the mesh', { pod: podName(pod) })
  }

  async #removeRules(
    pod: PodIdentity & { readonly addresses: readonly Ip[] },
    entry: Entry | undefined,
    annotated: boolean
  ): Promise<void> {
    const expected = annotated || entry?.captured === true
    const netns = entry === undefined ? this.#deps.netns.find(pod) : this.#netnsOf(entry)
    if (netns === undefined) {
      if (!expected) return
      throw new EnrolmentError('its network namespace is not found, so its rules cannot be removed')
    }
    try {
      await this.#deps.rules.remove(netns.fd)
    } finally {
      if (entry === undefined) closeNetns(netns.fd)
    }
  }

  #entryOf(facts: PodFacts): Entry {
    const known = this.#pods.get(facts.uid)
    if (known !== undefined) {
      known.facts = facts
      if (known.leaving) {
        known.leaving = false
        known.ztunnel = 'unasked'
      }
      return known
    }
    const entry: Entry = {
      facts,
      netns: undefined,
      rulesWritten: false,
      captured: false,
      leaving: false,
      ztunnel: 'unasked',
      refusal: undefined,
      problem: undefined,
      problemSince: undefined
    }
    this.#pods.set(facts.uid, entry)
    return entry
  }

  /** The namespace that the pod has now: a sandbox that was made anew under the same UID has another one. */
  #netnsOf(entry: Entry): PodNetns | undefined {
    const { facts, netns } = entry
    if (netns !== undefined) {
      const inside = this.#deps.netns.addresses(netns.fd)
      if (facts.addresses.some(address => inside.includes(address))) return netns
    }
    const found = this.#deps.netns.find(facts)
    if (found === undefined) return undefined
    if (netns !== undefined && netnsId(netns.fd) === netnsId(found.fd)) {
      closeNetns(found.fd)
      return netns
    }
    forgetNetns(entry)
    entry.netns = found
    return found
  }

  async #restoreRules(entry: Entry, netns: PodNetns, state: RuleState): Promise<void> {
    const { facts } = entry
    entry.rulesWritten = !hasDrift(state)
    if (entry.rulesWritten) return
    await this.#deps.rules.repair(netns.fd, facts.capture)
    entry.rulesWritten = true
    this.#deps.onRepair()
    this.#deps.log.warn('capture rules repaired', { pod: podName(facts), drift: describeDrift(state) })
  }

  /** A ztunnel that took the pod is not asked again. */
  async #askZtunnel(entry: Entry): Promise<void> {
    if (entry.ztunnel === 'acknowledged') return
    const outcome = await this.#deps.ztunnel.add(entry.facts.uid)
    entry.ztunnel = outcome.kind
    entry.refusal = outcome.kind === 'refused' ? outcome.reason : undefined
  }

  #expectAcknowledged({ ztunnel, refusal = '' }: Entry): void {
    if (ztunnel === 'refused') throw new EnrolmentError(proxyProblem({ kind: 'refused', reason: refusal }))
    if (ztunnel !== 'acknowledged') throw new WaitsForZtunnel(proxyProblem({ kind: 'absent' }))
  }

  /** Rules for a pod that ztunnel just took: where they cannot be written, it shall not hold the pod either. */
  async #writeAfterAnswer(entry: Entry, netns: PodNetns): Promise<void> {
    try {
      await this.#deps.rules.apply(netns.fd, entry.facts.capture)
      entry.captured = entry.rulesWritten = true
    } catch (error) {
      await this.#deps.rules.remove(netns.fd)
      entry.ztunnel = 'unasked'
      await this.#deps.ztunnel.remove(entry.facts.uid)
      throw error
    }
  }

  async #annotate(entry: Entry, value: Redirection): Promise<void> {
    if (entry.facts.redirection === value) return
    await this.#deps.annotate(entry.facts, value)
    entry.facts = { ...entry.facts, redirection: value }
    this.#deps.log.info(value === 'enabled' ? 'pod enrolled' : 'pod waits for ztunnel', {
      pod: podName(entry.facts)
    })
  }

  /** ztunnel tries a pod that it refused again by itself, so that it has to be told as well. */
  async #forget(entry: Entry): Promise<void> {
    const { uid } = entry.facts
    if (entry.ztunnel !== 'unasked') await this.#letGo(uid)
    this.#pods.delete(uid)
    forgetNetns(entry)
    await this.#deps.probes.remove(uid)
  }

  /** Out of every ztunnel that is connected, and out of the snapshot of one that connects before all else is done. */
  async #letGo(uid: string): Promise<void> {
    const entry = this.#pods.get(uid)
    if (entry !== undefined) entry.leaving = true
    await this.#deps.ztunnel.remove(uid)
  }

  /**
   * A pod whose rules cannot be brought back stops being advertised as one that takes tunnels; what is written of its
   * rules stays. Not while they are in force, ztunnel or none: peers would talk to it in the clear, and go on with that
   * once ztunnel is back, where now they are refused until then.
   */
  async #withdraw(entry: Entry): Promise<void> {
    const now = this.#deps.clock.now()
    entry.problemSince ??= now
    if (entry.facts.redirection !== 'enabled' || now - entry.problemSince < withdrawAfterMs) return
    if (entry.rulesWritten && entry.netns !== undefined) return
    await this.#annotate(entry, 'pending')
  }

  /** Says a new problem once; the retries that follow are quiet. */
  #complain(entry: Entry, error: unknown, reason = 'EnrolmentFailed'): void {
    const problem = messageOf(error)
    if (entry.problem === problem) return
    entry.problem = problem
    const what = reason === 'EnrolmentFailed' ? 'pod not enrolled yet' : 'pod not taken out yet'
    this.#deps.log.warn(what, { pod: podName(entry.facts), problem })
    this.#deps.warn(entry.facts, reason, problem)
  }

  /** One after the other for each pod: CNI ADD and events of the same pod may come together. */
  async #inTurn(uid: string, work: () => Promise<void>): Promise<void> {
    const before = this.#turns.get(uid) ?? Promise.resolve()
    const turn = before.then(work, work)
    this.#turns.set(uid, turn)
    try {
      await turn
    } finally {
      if (this.#turns.get(uid) === turn) this.#turns.delete(uid)
    }
  }
}

function zdsPodOf({ facts, netns }: EnrolledPod): ZdsPod {
  const { uid, name, namespace, serviceAccount } = facts
  return { uid, workload: { name, namespace, serviceAccount }, netns: netns?.fd }
}

function forgetNetns(entry: Entry): void {
  if (entry.netns !== undefined) closeNetns(entry.netns.fd)
  entry.netns = undefined
  entry.captured = entry.rulesWritten = false
  entry.ztunnel = 'unasked'
}

function proxyProblem(outcome: Exclude<AddOutcome, { kind: 'acknowledged' }>): string {
  return outcome.kind === 'refused'
    ? `ztunnel refused the pod: ${outcome.reason}`
    : 'no ztunnel is connected; is its pod on this node ready?'
}

function podName({ namespace, name }: PodIdentity): string {
  return `${namespace}/${name}`
}
