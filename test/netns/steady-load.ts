/** Clients that open connections at a steady rate, and say what became of each. */
import { setTimeout as delay } from 'node:timers/promises'
import type { SocketAddress } from '../../shared/net/address.ts'
import type { Namespace } from '../support/namespaces.ts'
import { Client } from './capture-world.ts'

export interface LoadOptions {
  readonly from: Namespace
  /** Taken in turn. */
  readonly to: readonly SocketAddress[]
  /** New connections a second, where the machine keeps up with them. */
  readonly rate: number
  /** Milliseconds in which a connection has to be opened, and then to be answered. */
  readonly patienceMs?: number
}

/** Connections that wait for an answer; more would make every one late on a machine that is too slow for the rate. */
const mostOpen = 40

export interface Failure {
  /** When its first packet was sent, as `performance.now()` tells the time. */
  readonly begun: number
  /** How long it took to fail. */
  readonly ms: number
  readonly error: string
}

export class SteadyLoad {
  readonly failures: Failure[] = []
  /** Milliseconds from the first packet to the answer, of each connection that got one. */
  readonly latencies: number[] = []
  readonly #options: LoadOptions
  readonly #startedAt = performance.now()
  readonly #open = new Set<Promise<void>>()
  readonly #timer: NodeJS.Timeout
  #begun = 0
  #stoppedAt: number | undefined

  constructor(options: LoadOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.#catchUp(), 5)
  }

  /** Begins no more; resolves when each has been answered or has failed. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#stoppedAt ??= performance.now()
    await Promise.all(this.#open)
  }

  /** Waits until that many more have been answered. */
  async answers(more: number): Promise<void> {
    const wanted = this.latencies.length + more
    while (this.latencies.length < wanted) await delay(10)
  }

  /** For people. */
  summary(): string {
    const sorted = this.latencies.toSorted((a, b) => a - b)
    const at = (part: number): number =>
      Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0)
    const times = `answered after ${at(0.5)} ms, 99 % ${at(0.99)} ms, the last ${at(1)} ms`
    return `${this.#begun} connections, ${this.failures.length} failed, ${Math.round(this.#rate)}/s: ${times}`
  }

  /** New connections a second that were really begun. */
  get #rate(): number {
    return (this.#begun * 1000) / ((this.#stoppedAt ?? performance.now()) - this.#startedAt)
  }

  /** A machine that was busy leaves the pace behind; it is caught up with in small steps, without a crowd. */
  #catchUp(): void {
    const due = ((performance.now() - this.#startedAt) * this.#options.rate) / 1000
    const room = mostOpen - this.#open.size
    for (let more = Math.min(10, room, Math.floor(due - this.#begun)); more > 0; more--) {
      const one = this.#once(this.#begun++)
      this.#open.add(one)
      void one.finally(() => this.#open.delete(one))
    }
  }

  async #once(index: number): Promise<void> {
    const { from, to, patienceMs = 60_000 } = this.#options
    const address = to[index % to.length] as SocketAddress
    const begun = performance.now()
    let client: Client | undefined
    try {
      client = await Client.connect(from, address, { timeoutMs: patienceMs })
      await client.ask('hello', patienceMs)
      this.latencies.push(performance.now() - begun)
    } catch (error) {
      this.failures.push({ begun, ms: Math.round(performance.now() - begun), error: String(error) })
    } finally {
      client?.close()
    }
  }
}
