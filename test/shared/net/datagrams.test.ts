import t from 'tap'
import { ip, type SocketAddress } from '../../../shared/net/address.ts'
import {
  DatagramReader,
  openDatagramDialer,
  openDatagramListener,
  sendDatagram
} from '../../../shared/net/datagrams.ts'
import { libc } from '../../../shared/net/ffi.ts'
import { Poller, SharedPoller } from '../../../shared/net/poll.ts'
import { boundAddress, closeDescriptor } from '../../../shared/net/sockets.ts'
import { udpPacket } from '../../../shared/net/spoofed-datagrams.ts'

for (const loopback of [ip('127.0.0.1'), ip('::1')]) {
  t.test(`a datagram comes with both addresses, and is answered: ${loopback}`, async t => {
    const poller = new Poller()
    const listener = openDatagramListener({}, { address: { ip: loopback, port: 0 } })
    const own = boundAddress(listener) as SocketAddress
    const dialer = openDatagramDialer({}, own)
    const reader = new DatagramReader()
    t.equal(reader.read(listener), undefined, 'nothing waits')
    const ready = Promise.withResolvers<void>()
    const watch = poller.watch(listener, ready.resolve)
    watch.arm({ read: true, write: false })
    libc.write(dialer, Buffer.from('hello'), 5)
    await ready.promise
    const datagram = reader.read(listener)
    t.match(datagram, { from: boundAddress(dialer), to: own })
    t.equal(datagram?.bytes.toString(), 'hello')
    t.ok(sendDatagram(listener, Buffer.from('yes'), boundAddress(dialer) as SocketAddress))
    t.equal(reader.read(dialer)?.bytes.toString(), undefined, 'a dialer does not ask for the destination')
    watch.stop()
    closeDescriptor(listener)
    closeDescriptor(dialer)
    await poller.close()
  })
}

t.test('a share of the poller serves another thread, and each hears its own only', async t => {
  const poller = new Poller(1)
  const [share] = poller.shares
  if (share === undefined) throw new Error('one share was asked for')
  const other = new SharedPoller(share) // the port works on the thread that made it, too
  const heard: string[] = []
  const sockets = (['own', 'shared'] as const).map(name => {
    const fd = openDatagramListener({}, { address: { ip: ip('127.0.0.1'), port: 0 } })
    const both = Promise.withResolvers<void>()
    const watch = (name === 'own' ? poller : other).watch(fd, () => {
      heard.push(name)
      both.resolve()
    })
    return { fd, watch, told: both.promise }
  })
  for (const { watch } of sockets) watch.arm({ read: true, write: false })
  for (const { fd, told } of sockets) {
    sendDatagram(fd, Buffer.from('x'), boundAddress(fd) as SocketAddress)
    await told
  }
  t.strictSame(heard, ['own', 'shared'], 'both have the same id on their thread')
  for (const { fd, watch } of sockets) {
    watch.stop()
    closeDescriptor(fd)
  }
  share.port.close()
  await poller.close()
})

t.test('a whole packet has the checksum that the receiver computes', async t => {
  const [from, to] = [
    { ip: ip('192.0.2.1'), port: 53 },
    { ip: ip('192.0.2.2'), port: 40_000 }
  ]
  const v4 = udpPacket(from, to, Buffer.from('abc'))
  t.equal(v4.length, 20 + 8 + 3)
  t.equal(sumOf([v4.subarray(12, 20), Buffer.from([0, 17, 0, 11]), v4.subarray(20)]), 0xffff)
  const v6 = udpPacket(
    { ip: ip('fd00::1'), port: 53 },
    { ip: ip('fd00::2'), port: 40_000 },
    Buffer.from('abcd')
  )
  t.equal(v6.length, 40 + 8 + 4)
  t.equal(v6.readUInt16BE(4), 12)
  t.equal(sumOf([v6.subarray(8, 40), Buffer.from([0, 12, 0, 17]), v6.subarray(40)]), 0xffff)
})

/** RFC 1071: over data with a right checksum it is all ones. */
function sumOf(parts: readonly Buffer[]): number {
  let sum = 0
  for (const part of parts) {
    const even = part.length % 2 === 0 ? part : Buffer.concat([part, Buffer.alloc(1)])
    for (let at = 0; at < even.length; at += 2) sum += even.readUInt16BE(at)
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  return sum
}
