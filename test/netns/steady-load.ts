/** Clients that open connections at a steady rate, whatever happens to the ones before, and say what became of each. */
import { setTimeout as delay } from 'node:timers/promises'
import type { SocketAddress } from '../../shared/net/address.ts'
import type { Namespace } from '../support/namespaces.ts'
import { Client } from './capture-world.ts'

export interface LoadOptions {
  readonly from: Namespace
  /** Taken in turn. */
  readonly to: readonly SocketAddress[]
  /** New connections a second. */
  readonly rate: number
  /** Milliseconds in which a connection has to be opened, and then to be answered. */
  readonly patienceMs?: number
}

export class SteadyLoad {
  /** What failed, with the time since the start in milliseconds. */
  readonly failures: string[] = []
  /** Milliseconds from the first packet to the answer, of each connection that got one. */
  readonly latencies: number[] = []
  readonly #options: LoadOptions
  readonly #startedAt = performance.now()
  readonly #open = new Set<Promise<void>>()
  readonly #timer: NodeJS.Timeout
  #begun = 0

  constructor(options: LoadOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.#catchUp(), 5)
  }

  get begun(): number {
    return this.#begun
  }

  /** New connections a second that were really begun. */
  get rate(): number {
    return (this.#begun * 1000) / (performance.now() - this.#startedAt)
  }

  /** Begins no more; resolves when each has been answered or has failed. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all(this.#open)
  }

  /** Waits until that many more have been answered. */
  async answers(more: number): Promise<void> {
    const wanted = this.latencies.length + more
    while (this.latencies.length < wanted) await delay(10)
  }

  percentile(part: number): number {
    const sorted = this.latencies.toSorted((a, b) => a - b)
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
  }

  /** A machine that was busy leaves the pace behind; it is caught up with in small steps. */
  #catchUp(): void {
    const due = ((performance.now() - this.#startedAt) * this.#options.rate) / 1000
    for (let more = Math.min(10, Math.floor(due - this.#begun)); more > 0; more--) {
      const one = this.#once(this.#begun++)
      this.#open.add(one)
      void one.finally(() => this.#open.delete(one))
    }
  }

  async #once(index: number): Promise<void> {
    const { from, to, patienceMs = 20_000 } = this.#options
    const address = to[index % to.length] as SocketAddress
    const begun = performance.now()
    let client: Client | undefined
    try {
      client = await Client.connect(from, address, { timeoutMs: patienceMs })
      await client.ask('hello', patienceMs)
      this.latencies.push(performance.now() - begun)
    } catch (error) {
      const at = Math.round(begun - this.#startedAt)
      const took = Math.round(performance.now() - begun)
      this.failures.push(`${at} ms, after ${took} ms: ${String(error)}`)
    } finally {
      client?.close()
    }
  }
}
