/**
 * Keeps the CNI plug-in on the node: its program in the runtime's folder, its entry last in the network
 * configuration. Looks again whenever something changes there, and every now and then without being told.
 */
import { watch, type FSWatcher } from 'node:fs'
import { type Clock, sleep } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { applyChanges, readConfigurations } from './configuration-folder.ts'
import { type ChainWish, planChain } from './chain.ts'
import { copyProgram } from './program.ts'
import { isTemporary } from './replace-file.ts'

export interface CniInstall {
  /** The folder of the image with the plug-in and its pass-through form. */
  readonly sourceDir: string
  /** The runtime's folder of plug-ins, where it is mounted for us. */
  readonly binDir: string
  /** The runtime's folder of network configurations, where it is mounted for us. */
  readonly confDir: string
  readonly chain: Omit<ChainWish, 'last'>
}

export interface KeepOptions {
  readonly install: CniInstall
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  /** Called with every look: undefined when all is in place, else what is not. */
  readonly onState: (problem: string | undefined) => void
  /** Called for everything that was written. */
  readonly onWrite: () => void
  readonly timing?: Partial<Timing>
}

export interface Timing {
  /** Between a change and the look at it: others write in several steps. */
  readonly settleMs: number
  /** Longest time between two looks; inotify says nothing of some file systems. */
  readonly recheckMs: number
  /** How long somebody who undoes everything at once is left alone. */
  readonly truceMs: number
}

const defaults: Timing = { settleMs: 50, recheckMs: 10_000, truceMs: 5000 }
/** More repairs than this in so many milliseconds mean that somebody else keeps writing. */
const quarrel = { repairs: 5, withinMs: 5000 }

/** Resolves when the signal aborts; what is installed stays. */
export async function keepInstalled(options: KeepOptions): Promise<void> {
  const { install, clock, log, signal, onState, onWrite } = options
  const timing = { ...defaults, ...options.timing }
  const repairs: number[] = []
  let last: string | undefined
  let told: string | undefined
  const complain = (problem: string): void => {
    onState(problem)
    if (problem !== told) log.warn('the CNI plug-in is not in place', { problem })
    told = problem
  }
  const folders = new FolderWatch([install.confDir, install.binDir], log)
  try {
    while (!signal.aborted) {
      const changed = folders.changed()
      try {
        if (copyProgram(install, 'plug-in')) {
          log.info('CNI plug-in copied', { to: install.binDir })
          onWrite()
        }
        const plan = planChain(readConfigurations(install.confDir), { ...install.chain, last })
        if (plan.kind === 'change') {
          onState(plan.why)
          applyChanges(install.confDir, plan.changes)
          log.info('CNI plug-in put last into the network configuration', { file: plan.file, why: plan.why })
          onWrite()
          if (last !== undefined) await keepTruce(repairs, plan.file)
          last = plan.file
          continue // what was written is read back before it counts
        }
        if (plan.kind === 'wait') complain(plan.why)
        else {
          last = plan.file
          told = undefined
          onState(undefined)
        }
      } catch (error) {
        complain(messageOf(error))
      }
      await sleepUnless(changed, timing.recheckMs, signal)
      await sleep(timing.settleMs, signal)
    }
  } finally {
    folders.close()
  }

  /** Another program that wants the file for itself would otherwise keep both busy, and nobody would know why. */
  async function keepTruce(times: number[], file: string): Promise<void> {
    const now = clock.now()
    times.push(now)
    while ((times[0] ?? now) < now - quarrel.withinMs) times.shift()
    if (times.length <= quarrel.repairs) return
    times.length = 0
    log.warn('another program keeps rewriting the network configuration', {
      file,
      remedy: 'tell it to leave other plug-ins alone; for Cilium: cni.exclusive=false'
    })
    await sleep(timing.truceMs, signal)
  }
}

async function sleepUnless(changed: Promise<void>, ms: number, signal: AbortSignal): Promise<void> {
  const done = new AbortController()
  await Promise.race([changed, sleep(ms, AbortSignal.any([signal, done.signal]))])
  done.abort()
}

/** Says that something in one of the folders changed. A folder that cannot be watched is tried again each time. */
class FolderWatch {
  readonly #watchers = new Map<string, FSWatcher | undefined>()
  readonly #log: Logger
  #next = Promise.withResolvers<void>()

  constructor(folders: readonly string[], log: Logger) {
    this.#log = log
    for (const folder of folders) this.#watchers.set(folder, undefined)
  }

  /** Resolves with the next change from now on. */
  changed(): Promise<void> {
    for (const [folder, watcher] of this.#watchers) {
      if (watcher === undefined) this.#watchers.set(folder, this.#watch(folder))
    }
    this.#next = Promise.withResolvers<void>()
    return this.#next.promise
  }

  close(): void {
    for (const watcher of this.#watchers.values()) watcher?.close()
  }

  #watch(folder: string): FSWatcher | undefined {
    try {
      const watcher = watch(folder, { persistent: false }, (_event, name) => {
        // What fails on a full disk, and leaves nothing, is no reason to try again at once.
        if (name === null || !isTemporary(name)) this.#next.resolve()
      })
      watcher.once('error', error => {
        this.#log.debug('a folder is not watched any more', { folder, error: messageOf(error) })
        watcher.close()
        this.#watchers.set(folder, undefined)
        this.#next.resolve()
      })
      return watcher
    } catch (error) {
      this.#log.debug('a folder cannot be watched', { folder, error: messageOf(error) })
      return undefined
    }
  }
}
