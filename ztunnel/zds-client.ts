/**
 * The node agent's orders: which pods to carry. We connect, say hello, and answer each message once, in order;
 * the agent takes any other byte for a broken peer. Source: ZDS of istio-cni and Istio's ztunnel.
 */
import { closeNetns } from '../shared/net/netns.ts'
import type { Poller } from '../shared/net/poll.ts'
import { Backoff } from '../shared/runtime/backoff.ts'
import { sleep } from '../shared/runtime/clock.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import {
  decodeRequest,
  encodeAck,
  encodeHello,
  ZdsProtocolError,
  type ZdsRequest
} from '../shared/zds/messages.ts'
import { ZdsConnection } from '../shared/zds/seqpacket.ts'
import type { PodDescription } from './pod.ts'

export interface ZdsDeps {
  readonly path: string
  readonly poller: Poller
  readonly pods: {
    add(description: PodDescription): Promise<unknown>
    remove(uid: string): Promise<void>
    uids(): readonly string[]
  }
  readonly log: Logger
  /** Whether the agent's snapshot has arrived on the connection that stands now. */
  readonly onSynced: (synced: boolean) => void
}

/** The agent broke the protocol in a way that cannot be mended by another connection: the process has to end. */
export class ZdsFatal extends Error {
  override readonly name = 'ZdsFatal'
}

/** Runs until the signal aborts; rejects with {@link ZdsFatal}. Connects again whenever the agent goes away. */
export async function runZdsClient(deps: ZdsDeps, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff({ initialMs: 10, maxMs: 15_000 })
  while (!signal.aborted) {
    try {
      await new Conversation(deps, signal, () => backoff.reset()).run()
      deps.log.info('the node agent closed the connection; the pods stay as they are')
    } catch (error) {
      if (error instanceof ZdsFatal) throw error
      if (!signal.aborted) deps.log.warn('no node agent, will connect again', { error: messageOf(error) })
    }
    deps.onSynced(false)
    await sleepAwake(backoff.next(), signal)
  }
}

interface Packet {
  readonly bytes: Buffer
  readonly descriptors: readonly number[]
}

/** One connection: messages are handled one at a time, in order. */
class Conversation {
  readonly #deps: ZdsDeps
  readonly #signal: AbortSignal
  readonly #onHeard: () => void
  /** Pods that the agent named since the connection began. */
  readonly #named = new Set<string>()
  #snapshotDone = false

  constructor(deps: ZdsDeps, signal: AbortSignal, onHeard: () => void) {
    this.#deps = deps
    this.#signal = signal
    this.#onHeard = onHeard
  }

  async run(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let queue: Promise<void> = Promise.resolve()
    const connection = ZdsConnection.connect(this.#deps.poller, this.#deps.path, {
      onMessage: (bytes, descriptors) => {
        const packet = { bytes: Buffer.from(bytes), descriptors }
        queue = queue.then(() => this.#answer(connection, packet)).catch(reject)
      },
      onClose: error => {
        // What arrived before the end is still done.
        void queue.then(() => (error === undefined ? resolve() : reject(error)))
      }
    })
    const onAbort = (): void => connection.close()
    this.#signal.addEventListener('abort', onAbort, { once: true })
    try {
      connection.send(encodeHello())
      await promise
    } finally {
      this.#signal.removeEventListener('abort', onAbort)
      connection.close()
    }
  }

  async #answer(connection: ZdsConnection, packet: Packet): Promise<void> {
    let request: ZdsRequest
    let netns: number | undefined
    try {
      request = decodeRequest(packet.bytes)
      netns = descriptorOf(request, packet.descriptors)
    } catch (error) {
      for (const descriptor of packet.descriptors) closeNetns(descriptor)
      this.#ack(connection, `failure to read message : ${messageOf(error)}`)
      throw error
    }
    this.#onHeard()
    try {
      await this.#obey(request, netns)
      this.#ack(connection)
    } catch (error) {
      this.#ack(connection, messageOf(error))
      if (error instanceof ZdsFatal) throw error
    }
  }

  async #obey(request: ZdsRequest, netns: number | undefined): Promise<void> {
    const { pods, onSynced, log } = this.#deps
    switch (request.kind) {
      case 'add': {
        const { uid, workload } = request
        if (workload === undefined) throw new ZdsFatal(`add of ${uid} without workload information`)
        this.#named.add(uid)
        try {
          await pods.add({ uid, info: workload, netns, self: false })
        } catch (cause) {
          throw new Error('failure to start proxy ', { cause })
        }
        return
      }
      case 'keep':
        if (this.#snapshotDone) throw new ZdsFatal(`keep of ${request.uid} after the snapshot`)
        this.#named.add(request.uid)
        return
      case 'del':
        this.#named.delete(request.uid)
        // Before the snapshot is complete the pod stays: the agent may yet be half way through.
        if (this.#snapshotDone) await pods.remove(request.uid)
        return
      case 'snapshot-sent':
        if (this.#snapshotDone) throw new ZdsFatal('a second snapshot on one connection')
        this.#snapshotDone = true
        for (const uid of pods.uids()) {
          if (!this.#named.has(uid)) await pods.remove(uid)
        }
        log.info('pods synchronised with the node agent', { pods: this.#named.size })
        onSynced(true)
        return
      default:
        request satisfies never
    }
  }

  #ack(connection: ZdsConnection, error?: string): void {
    if (!connection.closed) connection.send(encodeAck(error))
  }
}

/** The one descriptor that goes with `add`; every other message has none. */
function descriptorOf(request: ZdsRequest, descriptors: readonly number[]): number | undefined {
  const [first, ...more] = descriptors
  if (request.kind !== 'add') {
    if (first !== undefined) throw new ZdsProtocolError(`${request.kind} came with a descriptor`)
    return undefined
  }
  if (first === undefined) throw new ZdsProtocolError('add came without a network namespace')
  if (more.length > 0) throw new ZdsProtocolError('add came with more than one descriptor')
  return first
}

/** As `sleep`, but keeps the process alive: waiting for the agent is what it does. */
async function sleepAwake(ms: number, signal: AbortSignal): Promise<void> {
  const keepAlive = setInterval(() => undefined, 60_000)
  await sleep(ms, signal)
  clearInterval(keepAlive)
}
