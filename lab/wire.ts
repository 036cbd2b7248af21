/**
 * Shows what is on the wire: captures the TCP packets of one interface and prints one JSON line each. A program of
 * its own: the tour starts it behind the lab's walls.
 */
import { formatSocketAddress } from '../shared/net/address.ts'
import { PacketCapture } from '../shared/net/packet-capture.ts'
import { Poller } from '../shared/net/poll.ts'

export interface WirePacket {
  /** `address:port`. */
  readonly from: string
  readonly to: string
  /** The first bytes of what the packet carries, base64. */
  readonly payload: string
}

const keptBytes = 512
const lingerMs = 100

if (import.meta.main) {
  const poller = new Poller()
  const capture = new PacketCapture(
    poller,
    { device: process.argv[2] ?? 'lo', snapLength: keptBytes },
    packet => {
      if (packet.protocol !== 'tcp' || packet.payload.length === 0) return
      const line: WirePacket = {
        from: formatSocketAddress(packet.source),
        to: formatSocketAddress(packet.destination),
        payload: packet.payload.toString('base64')
      }
      process.stdout.write(`${JSON.stringify(line)}\n`)
    }
  )
  process.stdout.write('{"ready":true}\n')
  process.stdin.resume().once('end', () => {
    // What has passed already is still to be read.
    setTimeout(() => {
      capture.close()
      void poller.close()
    }, lingerMs)
  })
}
