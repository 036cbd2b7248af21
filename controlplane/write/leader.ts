/**
 * One replica at a time may write: the one that holds a Lease. Source: Kubernetes' published
 * `coordination.k8s.io/v1` Lease and the timing of its own leader election.
 */
import type { KubeClient } from '../../shared/kube/client.ts'
import { isConflict, isNotFound } from '../../shared/kube/errors.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import { sleep } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { Config } from '../config.ts'

export interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string
    readonly leaseDurationSeconds?: number
    /** RFC 3339 with microseconds. */
    readonly acquireTime?: string
    readonly renewTime?: string
    readonly leaseTransitions?: number
  }
}

export const leases: ResourceType<Lease> = {
  group: 'coordination.k8s.io',
  version: 'v1',
  plural: 'leases',
  kind: 'Lease',
  namespaced: true
}

export const leaseName = 'underpass-controlplane-leader'

export interface LeaderOptions {
  readonly client: Pick<KubeClient, 'find' | 'create' | 'replace'>
  readonly config: Pick<Config, 'leaderElection' | 'podName'> & {
    readonly mesh: Pick<Config['mesh'], 'systemNamespace'>
  }
  readonly log: Logger
  readonly signal: AbortSignal
  /** Milliseconds; a lease that was not renewed for `leaseMs` is free. */
  readonly timing?: { readonly leaseMs: number; readonly renewMs: number; readonly retryMs: number }
}

const defaultTiming = { leaseMs: 15_000, renewMs: 5_000, retryMs: 2_000 }

export class Leader {
  readonly #options: LeaderOptions
  readonly #timing: NonNullable<LeaderOptions['timing']>
  readonly #identity: string
  readonly #listeners: ((elected: boolean) => void)[] = []
  #elected = false
  /** When another holder's renewal was first seen, by our clock: clocks of machines differ. */
  #seen = { renewTime: '', at: 0 }
  #lastRenewal = 0
  #resigned = false

  constructor(options: LeaderOptions) {
    this.#options = options
    this.#timing = options.timing ?? defaultTiming
    this.#identity = `${options.config.podName}_${crypto.randomUUID().slice(0, 8)}`
  }

  get elected(): boolean {
    return this.#elected
  }

  onElected(listener: (elected: boolean) => void): void {
    this.#listeners.push(listener)
  }

  start(): void {
    if (this.#options.config.leaderElection) void this.#run()
    else if (!this.#options.signal.aborted) this.#become(true)
  }

  /** Gives the lease back, so that another replica need not wait for it to run out. */
  async resign(): Promise<void> {
    this.#resigned = true
    if (!this.#elected) return
    this.#become(false)
    if (!this.#options.config.leaderElection) return
    try {
      const lease = await this.#find()
      if (lease?.spec?.holderIdentity === this.#identity) await this.#write(lease, '')
    } catch (error) {
      this.#options.log.info('the lease was not given back; it runs out by itself', {
        error: messageOf(error)
      })
    }
  }

  async #run(): Promise<void> {
    const { signal, log } = this.#options
    const { leaseMs, renewMs, retryMs } = this.#timing
    while (!signal.aborted && !this.#resigned) {
      try {
        const held = await this.#acquire()
        if (!this.#resigned) this.#become(held)
      } catch (error) {
        if (signal.aborted) return
        log.warn('the lease cannot be renewed', { error: messageOf(error) })
        // Others may take it from now on.
        if (performance.now() - this.#lastRenewal > leaseMs - renewMs) this.#become(false)
      }
      await sleep(this.#elected ? renewMs : retryMs, signal)
    }
  }

  async #acquire(): Promise<boolean> {
    const started = performance.now()
    const lease = await this.#find()
    const holder = lease?.spec?.holderIdentity ?? ''
    if (lease !== undefined && holder !== '' && holder !== this.#identity && !this.#ranOut(lease))
      return false
    try {
      await this.#write(lease, this.#identity)
    } catch (error) {
      if (isConflict(error) || isNotFound(error)) return false // another replica was faster
      throw error
    }
    this.#lastRenewal = started
    return true
  }

  #ranOut(lease: Lease): boolean {
    const renewTime = `${lease.spec?.holderIdentity} ${lease.spec?.renewTime}`
    const now = performance.now()
    if (renewTime !== this.#seen.renewTime) this.#seen = { renewTime, at: now }
    return now - this.#seen.at > (lease.spec?.leaseDurationSeconds ?? 15) * 1000
  }

  async #find(): Promise<Lease | undefined> {
    const namespace = this.#options.config.mesh.systemNamespace
    return this.#options.client.find(leases, { namespace, name: leaseName }, this.#options.signal)
  }

  async #write(lease: Lease | undefined, holderIdentity: string): Promise<void> {
    const { client, config, signal } = this.#options
    const now = new Date().toISOString().replace('Z', '000Z')
    const mine = lease?.spec?.holderIdentity === holderIdentity
    const spec = {
      holderIdentity,
      leaseDurationSeconds: Math.ceil(this.#timing.leaseMs / 1000),
      acquireTime: mine ? (lease.spec?.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: (lease?.spec?.leaseTransitions ?? 0) + (mine || holderIdentity === '' ? 0 : 1)
    }
    if (lease !== undefined) {
      await client.replace(leases, { ...lease, spec }, { signal })
      return
    }
    const metadata = { namespace: config.mesh.systemNamespace, name: leaseName }
    const body = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec }
    await client.create(leases, body, { signal })
  }

  #become(elected: boolean): void {
    if (elected === this.#elected) return
    this.#elected = elected
    this.#options.log.info(elected ? 'leading: this replica writes' : 'another replica writes from now on')
    for (const listener of this.#listeners) listener(elected)
  }
}
