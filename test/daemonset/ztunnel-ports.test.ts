import t from 'tap'
import { portsListening } from '../../daemonset/ztunnel-ports.ts'

t.test('only sockets in state LISTEN count, of either family', async t => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:3A9E 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1
  12: 00000000000000000000000000000000:3AA0 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 3 1
`
  t.strictSame(portsListening(table), [15001, 15008])
  t.strictSame(portsListening(''), [])
})
