/**
 * The agent's side of ZDS: hands the network namespaces of enrolled pods to every ztunnel that connects.
 * A new connection gets a snapshot of all pods; later ones go to the newest connection, removals to all. One request
 * is in flight per connection; one that is not answered in time ends the connection, and ztunnel connects anew.
 */
import type { Poller } from '../shared/net/poll.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import { decodeAck, decodeHello, encodeRequest, type WorkloadInfo } from '../shared/zds/messages.ts'
import { SeqpacketListener, type ZdsConnection } from '../shared/zds/seqpacket.ts'

export interface ZdsPod {
  /** The Kubernetes UID. */
  readonly uid: string
  readonly workload: WorkloadInfo
  /** An open descriptor of the pod's network namespace; undefined while it is not found. */
  readonly netns: number | undefined
}

export type AddOutcome =
  | { readonly kind: 'acknowledged' }
  | { readonly kind: 'refused'; readonly reason: string }
  /** No ztunnel is connected, or the connection ended before the answer. */
  | { readonly kind: 'absent' }

export interface ZdsServerOptions {
  readonly poller: Poller
  readonly path: string
  /** All enrolled pods, for a ztunnel that just connected. */
  readonly pods: () => readonly ZdsPod[]
  /** The pod as it is now; undefined when it is gone. Asked right before sending: descriptors may be closed and reused. */
  readonly pod: (uid: string) => ZdsPod | undefined
  /** What ztunnel said of a pod of a snapshot. */
  readonly onSnapshotAnswer: (uid: string, outcome: AddOutcome) => void
  readonly onConnections: (count: number) => void
  /** The newest connection ended and an older one takes its place: it may not have the latest pods. */
  readonly onFallback: () => void
  readonly log: Logger
  /** Milliseconds for a greeting or an answer; 5000 when absent. */
  readonly answerTimeoutMs?: number
}

export class ZdsServer {
  readonly #options: ZdsServerOptions
  readonly #listener: SeqpacketListener
  /** Those that have greeted, the newest last. */
  readonly #peers: Peer[] = []
  readonly #greeting = new Set<Peer>()

  /** Throws when the path cannot be bound. */
  constructor(options: ZdsServerOptions) {
    this.#options = options
    this.#listener = new SeqpacketListener(options.poller, options.path, connection =>
      this.#accept(connection)
    )
  }

  get connected(): number {
    return this.#peers.length
  }

  /** Asks the newest ztunnel to take the pod, after what it was asked before. Never rejects. */
  async add(uid: string): Promise<AddOutcome> {
    const newest = this.#peers.at(-1)
    return newest === undefined ? { kind: 'absent' } : sendPod(newest, uid, this.#options)
  }

  /** Tells all ztunnels that the pod is out; resolves when each has answered or is gone. */
  async remove(uid: string): Promise<void> {
    await Promise.all(
      this.#peers.map(peer =>
        peer.ask(() => ({ bytes: encodeRequest({ kind: 'del', uid }), descriptor: undefined }))
      )
    )
  }

  close(): void {
    this.#listener.close()
    for (const peer of [...this.#peers, ...this.#greeting]) peer.close()
  }

  #accept(connection: ZdsConnection): void {
    const { log, onConnections, onFallback, answerTimeoutMs = 5000 } = this.#options
    const peer = new Peer(connection, answerTimeoutMs, {
      onHello: () => {
        this.#greeting.delete(peer)
        this.#peers.push(peer)
        onConnections(this.#peers.length)
        log.info('ztunnel connected', { connections: this.#peers.length })
        void this.#sendSnapshot(peer)
      },
      onClose: error => {
        this.#greeting.delete(peer)
        const index = this.#peers.indexOf(peer)
        if (index < 0) {
          log.warn('a ztunnel left before it greeted', {
            error: error === undefined ? '-' : messageOf(error)
          })
          return
        }
        this.#peers.splice(index, 1)
        onConnections(this.#peers.length)
        if (index > 0 && index === this.#peers.length) onFallback()
        log.info('ztunnel disconnected', {
          connections: this.#peers.length,
          error: error === undefined ? '-' : messageOf(error)
        })
      }
    })
    this.#greeting.add(peer)
    peer.start()
  }

  async #sendSnapshot(peer: Peer): Promise<void> {
    const { pods, onSnapshotAnswer, log } = this.#options
    const uids = pods().map(({ uid }) => uid)
    for (const uid of uids) {
      const outcome = await sendPod(peer, uid, this.#options)
      if (outcome.kind === 'absent') return
      onSnapshotAnswer(uid, outcome)
    }
    await peer.ask(() => ({ bytes: encodeRequest({ kind: 'snapshot-sent' }), descriptor: undefined }))
    log.debug('snapshot sent', { pods: uids.length })
  }
}

/** `add` with the descriptor, or `keep` for a pod whose namespace we do not have: ztunnel may still hold it. */
async function sendPod(peer: Peer, uid: string, { pod }: Pick<ZdsServerOptions, 'pod'>): Promise<AddOutcome> {
  return peer.ask(() => {
    const current = pod(uid)
    if (current === undefined) return undefined
    const { netns, workload } = current
    if (netns === undefined) return { bytes: encodeRequest({ kind: 'keep', uid }), descriptor: undefined }
    return { bytes: encodeRequest({ kind: 'add', uid, workload }), descriptor: netns }
  })
}

interface Outgoing {
  readonly bytes: Buffer
  readonly descriptor: number | undefined
}

interface PeerHandlers {
  onHello(): void
  onClose(error: Error | undefined): void
}

/** One ztunnel: greets first, then answers one request at a time. */
class Peer {
  readonly #connection: ZdsConnection
  readonly #timeoutMs: number
  readonly #handlers: PeerHandlers
  #last: Promise<unknown> = Promise.resolve()
  #answer: ((outcome: AddOutcome) => void) | undefined
  #timer: NodeJS.Timeout | undefined
  #greeted = false

  constructor(connection: ZdsConnection, timeoutMs: number, handlers: PeerHandlers) {
    this.#connection = connection
    this.#timeoutMs = timeoutMs
    this.#handlers = handlers
  }

  start(): void {
    this.#wait('greeting')
    this.#connection.start({
      onMessage: (bytes, descriptors) => this.#receive(bytes, descriptors),
      onClose: error => {
        clearTimeout(this.#timer)
        this.#answer?.({ kind: 'absent' })
        this.#handlers.onClose(error)
      }
    })
  }

  /** Queues a request; `make` runs when it is its turn, undefined means that there is nothing to say any more. */
  async ask(make: () => Outgoing | undefined): Promise<AddOutcome> {
    const turn = this.#last.then(() => this.#exchange(make))
    this.#last = turn
    return turn
  }

  close(error?: Error): void {
    this.#connection.close(error)
  }

  async #exchange(make: () => Outgoing | undefined): Promise<AddOutcome> {
    if (this.#connection.closed) return { kind: 'absent' }
    try {
      const outgoing = make()
      if (outgoing === undefined) return { kind: 'acknowledged' }
      const answer = new Promise<AddOutcome>(resolve => {
        this.#answer = resolve
      })
      this.#wait('answer')
      this.#connection.send(outgoing.bytes, outgoing.descriptor)
      return await answer
    } catch (error) {
      this.#answer = undefined
      clearTimeout(this.#timer)
      this.close(error instanceof Error ? error : new Error(String(error)))
      return { kind: 'absent' }
    }
  }

  #receive(bytes: Buffer, descriptors: readonly number[]): void {
    // Thrown errors end the connection: a peer that speaks out of turn is not one we know.
    if (descriptors.length > 0) throw new Error('ztunnel sent a descriptor')
    if (!this.#greeted) {
      decodeHello(bytes)
      this.#greeted = true
      clearTimeout(this.#timer)
      this.#handlers.onHello()
      return
    }
    const answer = this.#answer
    if (answer === undefined) throw new Error('ztunnel spoke without being asked')
    const reason = decodeAck(bytes)
    this.#answer = undefined
    clearTimeout(this.#timer)
    answer(reason === undefined ? { kind: 'acknowledged' } : { kind: 'refused', reason })
  }

  #wait(what: 'greeting' | 'answer'): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.close(new Error(`no ${what} within ${this.#timeoutMs / 1000} s`))
    }, this.#timeoutMs)
    this.#timer.unref()
  }
}
