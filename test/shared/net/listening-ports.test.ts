import t from 'tap'
import { ip } from '../../../shared/net/address.ts'
import { listeningPorts, portsListening } from '../../../shared/net/listening-ports.ts'
import { boundAddress, closeDescriptor, openListener } from '../../../shared/net/sockets.ts'

t.test('sockets in state LISTEN count, up to the first connection', async t => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 00000000000000000000000000000000:3AA0 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 3 1
  12: 0100007F:3A9E 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1
  13: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1
`
  t.strictSame(portsListening(table), { ports: [15001, 15008], over: true })
  t.strictSame(portsListening(''), { ports: [], over: false })
})

t.test(
  'each socket of a port is listed',
  { skip: process.platform !== 'linux' && 'needs Linux' },
  async t => {
    const address = { ip: ip('127.0.0.1'), port: 0 }
    const first = openListener({}, { address, reusePort: true })
    t.teardown(() => closeDescriptor(first))
    const port = boundAddress(first)?.port ?? 0
    const count = (): number => listeningPorts().filter(each => each === port).length
    t.equal(count(), 1)
    const second = openListener({}, { address: { ...address, port }, reusePort: true })
    t.equal(count(), 2)
    closeDescriptor(second)
    t.equal(count(), 1)
  }
)
