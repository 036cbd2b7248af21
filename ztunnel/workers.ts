/** The main thread's side of its workers: starts them, asks them, hears them. */
import { Worker } from 'node:worker_threads'
import type { PollShare } from '../shared/net/poll.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { FromWorker, QuestionKind, Questions, ToWorker, WorkerData } from './worker-protocol.ts'

/** What workers say without being asked. */
export interface WorkerEvents {
  onCertificateWanted(worker: WorkerThread, message: FromWorker & { kind: 'certificate-wanted' }): void
  onAddressWanted(worker: WorkerThread, message: FromWorker & { kind: 'address-wanted' }): void
  onLog(lines: string): void
  onEvents(message: FromWorker & { kind: 'events' }): void
  /** A worker ended although nobody asked it to: its connections are lost, and the process cannot go on. */
  onFailure(error: Error): void
}

export interface WorkersOptions {
  readonly count: number
  /** V8's young generation in MiB; 0 leaves it to Node. */
  readonly semiSpaceMiB: number
  readonly data: Omit<WorkerData, 'index' | 'workers' | 'poll'>
  /** One a worker, or none for any. */
  readonly polls: readonly PollShare[]
  readonly events: WorkerEvents
  readonly log: Logger
}

interface Pending {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
}

export class WorkerThread {
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
  readonly #events: WorkerEvents
  #lastId = 0
  #ended = false

  constructor(data: WorkerData, semiSpaceMiB: number, events: WorkerEvents) {
    this.#events = events
    this.#worker = new Worker(new URL(`./worker${moduleExtension}`, import.meta.url), {
      workerData: data,
      transferList: data.poll === undefined ? [] : [data.poll.port],
      name: `ztunnel-${data.index}`,
      resourceLimits: semiSpaceMiB === 0 ? {} : { maxYoungGenerationSizeMb: semiSpaceMiB * 3 }
    })
    this.#worker.on('message', (message: FromWorker) => this.#hear(message))
    this.#worker.on('error', error => this.#fail(error instanceof Error ? error : new Error(String(error))))
    this.#worker.on('exit', code => this.#fail(new Error(`worker ${data.index} ended with code ${code}`)))
  }

  post(message: ToWorker): void {
    this.#worker.postMessage(message, [])
  }

  ask<K extends QuestionKind>(question: K, value: Questions[K]['ask']): Promise<Questions[K]['answer']> {
    if (this.#ended) return Promise.reject(new Error('the worker has ended'))
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject })
      this.post({ kind: 'ask', id, question, value })
    })
  }

  async end(): Promise<void> {
    this.#ended = true
    for (const { reject } of this.#pending.values()) reject(new Error('the worker has ended'))
    this.#pending.clear()
    await this.#worker.terminate()
  }

  #hear(message: FromWorker): void {
    switch (message.kind) {
      case 'answer':
        this.#take(message.id)?.resolve(message.value)
        return
      case 'answer-failed':
        this.#take(message.id)?.reject(new Error(message.error))
        return
      case 'certificate-wanted':
        this.#events.onCertificateWanted(this, message)
        return
      case 'address-wanted':
        this.#events.onAddressWanted(this, message)
        return
      case 'log':
        this.#events.onLog(message.lines)
        return
      case 'events':
        this.#events.onEvents(message)
        return
      default:
        message satisfies never
    }
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    return pending
  }

  #fail(error: Error): void {
    if (this.#ended) return
    this.#ended = true
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
    this.#events.onFailure(error)
  }
}

export class Workers {
  readonly threads: readonly WorkerThread[]

  constructor({ count, semiSpaceMiB, data, polls, events }: WorkersOptions) {
    this.threads = Array.from(
      { length: count },
      (_, index) =>
        new WorkerThread({ ...data, index, workers: count, poll: polls[index] }, semiSpaceMiB, events)
    )
  }

  /** Asks all; rejects with the first failure, after every worker has answered. */
  async askAll<K extends QuestionKind>(
    question: K,
    value: Questions[K]['ask']
  ): Promise<Questions[K]['answer'][]> {
    const answers = await Promise.allSettled(this.threads.map(thread => thread.ask(question, value)))
    return answers.map(answer => {
      if (answer.status === 'rejected') throw answer.reason
      return answer.value
    })
  }

  post(message: ToWorker): void {
    for (const thread of this.threads) thread.post(message)
  }

  async end(): Promise<void> {
    await Promise.all(this.threads.map(thread => thread.end()))
  }
}

/** `.ts` when Node runs the sources, `.js` when they were compiled. */
const moduleExtension = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
