/** Which of the sockets at one port gets a connection, when one process hands the port over to another. */
import t from 'tap'
import { once } from 'node:events'
import net from 'node:net'
import { ip } from '../../../shared/net/address.ts'
import { leaveToOthers, leaveToOthersForGood, waitingConnections } from '../../../shared/net/handover.ts'
import { boundAddress, closeDescriptor, openListener } from '../../../shared/net/sockets.ts'

const skip = process.platform !== 'linux' && 'needs Linux'

/** Sockets that listen at one port of loopback, and clients of it. */
class Group {
  #port = 0
  readonly #clients: net.Socket[] = []
  readonly #open = new Set<number>()

  constructor(t: { teardown(done: () => void): void }) {
    t.teardown(() => {
      for (const client of this.#clients) client.destroy()
      for (const fd of this.#open) closeIfOpen(fd)
    })
  }

  open(count: number): number[] {
    return Array.from({ length: count }, () => {
      const fd = openListener({}, { address: { ip: ip('127.0.0.1'), port: this.#port }, reusePort: true })
      this.#port = boundAddress(fd)?.port ?? 0
      this.#open.add(fd)
      return fd
    })
  }

  async connect(count: number): Promise<void> {
    const clients = Array.from({ length: count }, () => net.connect(this.#port, '127.0.0.1'))
    this.#clients.push(...clients)
    for (const client of clients) client.on('error', () => undefined) // closed with its listener
    await Promise.all(clients.map(async client => client.connecting && once(client, 'connect')))
  }

  /** Connections that wait at these sockets; they are taken and closed. */
  taken(fds: readonly number[]): number {
    const accepted = fds.flatMap(fd => waitingConnections(fd))
    for (const fd of accepted) closeDescriptor(fd)
    return accepted.length
  }
}

function closeIfOpen(fd: number): void {
  if (boundAddress(fd) !== undefined) closeDescriptor(fd)
}

for (const { own, others } of [
  { own: 1, others: 1 },
  { own: 2, others: 2 },
  { own: 1, others: 3 },
  { own: 3, others: 2 }
]) {
  t.test(`${own} sockets leave a port to ${others}`, { skip }, async t => {
    const group = new Group(t)
    const mine = group.open(own)
    await group.connect(20)
    t.ok(group.taken(mine) === 20, 'alone, they get all')
    const theirs = group.open(others)
    for (const fd of mine) leaveToOthers(fd, own, others)
    await group.connect(60)
    t.equal(group.taken(mine), 0, 'beside others, they get nothing any more')
    t.equal(group.taken(theirs), 60)
    for (const fd of mine.toReversed()) {
      leaveToOthersForGood(fd, own, others)
      if (others >= own) {
        await group.connect(10)
        t.equal(group.taken(mine), 0, 'nor while they close one after the other')
      }
      closeDescriptor(fd)
      mine.pop()
    }
    group.taken(theirs)
    await group.connect(60)
    const each = theirs.map(fd => group.taken([fd]))
    t.ok(
      each.every(count => count > 0),
      `all others share what comes later: ${each.join(', ')}`
    )
  })
}
