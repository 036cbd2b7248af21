/** One container of a pod over its restarts: starts it, probes it, starts it again after a growing pause. */
import type { Ip } from '../shared/net/address.ts'
import { Backoff } from '../shared/runtime/backoff.ts'
import { sleep } from '../shared/runtime/clock.ts'
import { ContainerLog } from './container-log.ts'
import { Container, type ContainerSpec } from './container.ts'
import type { Program } from './container-program.ts'
import type { RootTemplate } from './container-root.ts'
import { MissingReference } from './environment.ts'
import { kubeTime, type ContainerState, type LabContainer, type Probe } from './kinds.ts'
import type { ContainerReport } from './pod-status.ts'
import { attempt, ProbeVerdict, type ProbeTarget } from './probes.ts'
import { runProgram } from './run-program.ts'

export interface ContainerLoopOptions {
  readonly container: LabContainer
  readonly template: RootTemplate
  readonly restartPolicy: 'Always' | 'OnFailure' | 'Never'
  readonly sidecar: boolean
  /** Makes the container's program anew for each start. Throws {@link MissingReference} while something lacks. */
  readonly prepare: () => { readonly program: Program; readonly spec: ContainerSpec }
  readonly network: { readonly netns: number; readonly podIp: Ip; readonly fromProbeSource: boolean }
  /** The report has changed. */
  readonly onChange: () => void
  /** Runs: a place to leave how to enter it. */
  readonly onStart: (container: Container) => void
}

/** Restart pauses: shorter than a cluster's, whose first is ten seconds. */
const restartPause = { initialMs: 1000, maxMs: 60_000 }
/** A container that ran this long starts again without a pause. */
const settledMs = 60_000
/** Until its first success a probe is tried more often than it says, so that pods get ready quickly. */
const eagerPeriodMs = 250

export class ContainerLoop {
  readonly log = new ContainerLog()
  readonly #options: ContainerLoopOptions
  readonly #stopping = new AbortController()
  #container: Container | undefined
  #state: ContainerState = { waiting: { reason: 'ContainerCreating' } }
  #lastState: ContainerState = {}
  #restarts = 0
  #started = false
  #ready = false
  #says = ''

  constructor(options: ContainerLoopOptions) {
    this.#options = options
  }

  get name(): string {
    return this.#options.container.name
  }

  get running(): Container | undefined {
    return this.#container?.exit === undefined ? this.#container : undefined
  }

  report(): ContainerReport {
    const { container, sidecar } = this.#options
    return {
      name: container.name,
      image: container.image ?? '',
      says: this.#says,
      pid: this.running?.pid,
      state: this.#state,
      lastState: this.#lastState,
      started: this.#started,
      ready: this.#ready,
      restarts: this.#restarts,
      sidecar
    }
  }

  /** Resolves when the container has ended for good, or was stopped. */
  async run(): Promise<void> {
    const pause = new Backoff(restartPause)
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const outcome = await this.#runOnce()
      if (outcome === 'waiting') {
        await sleep(500, signal)
        continue
      }
      const { restartPolicy } = this.#options
      const { exitCode = 0 } = this.#state.terminated ?? {}
      if (restartPolicy === 'Never' || (restartPolicy === 'OnFailure' && exitCode === 0)) return
      if (signal.aborted) return
      if (outcome > settledMs) pause.reset()
      const pauseMs = pause.next()
      this.#lastState = this.#state
      this.#change({
        waiting: {
          reason: 'CrashLoopBackOff',
          message: `starts again in ${Math.ceil(pauseMs / 1000)} s; it ended with ${exitCode}`
        }
      })
      await sleep(pauseMs, signal)
      this.#restarts += 1
    }
  }

  /** Resolves when the container has ended; after `graceMs` it is killed. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort()
    await this.#container?.stop(graceMs)
  }

  /** One instance from start to end; resolves to how long it ran, in milliseconds. */
  async #runOnce(): Promise<number | 'waiting'> {
    const { container, template, onStart } = this.#options
    let prepared: ReturnType<ContainerLoopOptions['prepare']>
    try {
      prepared = this.#options.prepare()
    } catch (error) {
      if (!(error instanceof MissingReference)) throw error
      this.#change({ waiting: { reason: 'CreateContainerConfigError', message: error.message } })
      return 'waiting'
    }
    const { program, spec } = prepared
    this.#says = program.says
    this.log.restart()
    const instance = new Container(template, spec, this.log)
    this.#container = instance
    const ended = new AbortController()
    const startedAt = instance.startedAt.getTime()
    await instance.entered()
    onStart(instance)
    this.#started = container.startupProbe === undefined
    this.#ready = this.#started && this.#readinessProbe(program) === undefined
    this.#change({ running: { startedAt: kubeTime(startedAt) } })
    const probing = this.#probe(instance, program, ended.signal)
    const exit = await instance.exited
    ended.abort()
    await probing
    this.log.end()
    this.#started = false
    this.#ready = false
    this.#change({
      terminated: {
        exitCode: exit.code,
        reason: exit.code === 0 ? 'Completed' : 'Error',
        startedAt: kubeTime(startedAt),
        finishedAt: kubeTime(exit.finishedAt.getTime())
      }
    })
    return exit.finishedAt.getTime() - startedAt
  }

  async #probe(instance: Container, program: Program, signal: AbortSignal): Promise<void> {
    const { container, network } = this.#options
    const target: ProbeTarget = {
      ...network,
      container,
      exec: async (command, signal) => runProgram(instance.enter(command), signal)
    }
    const startup = standInProbe(container.startupProbe, program)
    if (startup !== undefined) {
      const patienceMs =
        ((startup.initialDelaySeconds ?? 0) +
          (startup.failureThreshold ?? 3) * (startup.periodSeconds ?? 10)) *
        1000
      const deadline = Date.now() + patienceMs
      const passed = await this.#repeat(startup, target, false, signal, ok => ok || Date.now() > deadline)
      if (!passed) {
        if (!signal.aborted)
          this.log.write('stderr', 'lab: the startup probe failed; the container is started again\n')
        instance.kill()
        return
      }
      this.#started = true
      this.#onChange()
    }
    const readiness = this.#readinessProbe(program)
    const liveness = standInProbe(container.livenessProbe, program)
    if (readiness === undefined) this.#setReady(true)
    await Promise.all([
      readiness === undefined
        ? undefined
        : this.#repeat(readiness, target, false, signal, verdict => {
            this.#setReady(verdict)
            return false
          }),
      liveness === undefined
        ? undefined
        : this.#repeat(liveness, target, true, signal, verdict => {
            if (!verdict) {
              this.log.write('stderr', 'lab: the liveness probe failed; the container is started again\n')
              void instance.stop(2000)
            }
            return !verdict
          })
    ])
  }

  /** Tries until `done` says so of the verdict; resolves to the last verdict, false when the container ended. */
  async #repeat(
    probe: Probe,
    target: ProbeTarget,
    initially: boolean,
    signal: AbortSignal,
    done: (verdict: boolean) => boolean
  ): Promise<boolean> {
    const verdict = new ProbeVerdict(probe, initially)
    const periodMs = (probe.periodSeconds ?? 10) * 1000
    let succeeded = false
    if (!(await sleep((probe.initialDelaySeconds ?? 0) * 1000, signal))) return false
    while (!signal.aborted) {
      const { ok } = await attempt(probe, target)
      if (signal.aborted) return false
      succeeded ||= ok
      if (done(verdict.count(ok))) return verdict.passed
      await sleep(succeeded || initially ? periodMs : Math.min(periodMs, eagerPeriodMs), signal)
    }
    return false
  }

  #readinessProbe(program: Program): Probe | undefined {
    const { container } = this.#options
    const declared = standInProbe(container.readinessProbe, program)
    if (declared !== undefined || program.kind !== 'stand-in') return declared
    // A stand-in is ready when it listens, not when its process exists.
    const port = container.ports?.find(({ protocol = 'TCP' }) => protocol === 'TCP')?.containerPort
    return port === undefined ? undefined : { tcpSocket: { port }, periodSeconds: 10 }
  }

  #setReady(ready: boolean): void {
    if (this.#ready === ready) return
    this.#ready = ready
    this.#onChange()
  }

  #change(state: ContainerState): void {
    this.#state = state
    this.#onChange()
  }

  #onChange(): void {
    this.#options.onChange()
  }
}

/** What a probe means for a server that is not the one it was written for. */
function standInProbe(probe: Probe | undefined, program: Program): Probe | undefined {
  if (probe === undefined || program.kind !== 'stand-in') return probe
  const { initialDelaySeconds: _, ...rest } = probe
  // The command belongs to the image, and the certificate too: that it runs and listens is all there is to ask.
  if (probe.exec !== undefined) return undefined
  if (probe.httpGet?.scheme === 'HTTPS') return { ...rest, tcpSocket: { port: probe.httpGet.port } }
  return rest
}
