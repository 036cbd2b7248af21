/**
 * One listening socket of a pod on one worker. It can be left to another ztunnel, which has opened its own beside it:
 * first new connections go there, then what still arrives of those that began here is taken, then it closes.
 */
import net from 'node:net'
import { leaveToOthers, leaveToOthersForGood, waitingConnections } from '../shared/net/handover.ts'
import { closeDescriptor, listenBacklog } from '../shared/net/sockets.ts'

/** Sockets of one SO_REUSEPORT group: ours on all workers, and those that another ztunnel opened after them. */
export interface Sharing {
  readonly own: number
  readonly others: number
}

export interface ListenerHandlers {
  readonly onConnection: (socket: net.Socket) => void
  /** An open listener can only fail to accept when descriptors run out; the next connection may work again. */
  readonly onError: (error: Error) => void
}

export class Listener {
  readonly #fd: number
  readonly #server: net.Server
  readonly #handlers: ListenerHandlers
  #leftTo: Sharing | undefined

  /** Takes the descriptor over, also when it throws. */
  constructor(fd: number, handlers: ListenerHandlers) {
    this.#fd = fd
    this.#handlers = handlers
    this.#server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, handlers.onConnection)
    this.#server.on('error', handlers.onError)
    try {
      this.#server.listen({ fd }, listenBacklog)
    } catch (error) {
      closeDescriptor(fd)
      throw error
    }
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port
  }

  /** New connections go to the other ztunnel from now on. Throws SystemCallError where the kernel cannot do that. */
  leaveTo(sharing: Sharing): void {
    leaveToOthers(this.#fd, sharing.own, sharing.others)
    this.#leftTo = sharing
  }

  /** Takes what waits, then closes: a connection that the kernel has accepted is not reset. */
  finish(): void {
    if (this.#leftTo !== undefined) leaveToOthersForGood(this.#fd, this.#leftTo.own, this.#leftTo.others)
    for (const fd of waitingConnections(this.#fd)) {
      // As Node makes the sockets that it accepts itself.
      const options: net.SocketConstructorOpts & { pauseOnCreate: boolean } = {
        fd,
        allowHalfOpen: true,
        pauseOnCreate: true
      }
      this.#handlers.onConnection(new net.Socket(options))
    }
    this.#server.close()
  }

  /** Closes; what waits is reset. */
  close(): void {
    this.#server.close()
  }
}
