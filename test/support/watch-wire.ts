/** Looks at every packet of network namespaces for texts that shall, or shall not, be there. */
import { formatSocketAddress } from '../../shared/net/address.ts'
import { type CapturedPacket, PacketCapture } from '../../shared/net/packet-capture.ts'
import { Poller } from '../../shared/net/poll.ts'

export interface Wire {
  /** What was looked at. */
  readonly bytes: number
  /** Packets with this text. */
  seen(text: string): number
  /** Who sent such packets to whom, each once. */
  flows(text: string): readonly string[]
  /** Packets that came faster than they could be looked at. */
  dropped(): number
}

export interface WirePlace {
  /** An open descriptor of the namespace. */
  readonly netns: number
  /** All interfaces when absent. */
  readonly device?: string
}

const mostFlows = 20

/** Ends with the test. */
export function watchWire(
  t: { teardown(done: () => unknown): unknown },
  texts: readonly string[],
  places: readonly WirePlace[]
): Wire {
  const poller = new Poller()
  const counts = new Map(texts.map(text => [text, { packets: 0, flows: new Set<string>() }]))
  const wire = {
    bytes: 0,
    seen: (text: string) => counts.get(text)?.packets ?? 0,
    flows: (text: string) => [...(counts.get(text)?.flows ?? [])],
    dropped: () => captures.reduce((sum, { dropped }) => sum + dropped, 0)
  }
  const look = ({ payload, source, destination }: CapturedPacket): void => {
    wire.bytes += payload.length
    for (const [text, count] of counts) {
      if (!payload.includes(text)) continue
      count.packets += 1
      if (count.flows.size < mostFlows) count.flows.add(`${source.ip} to ${formatSocketAddress(destination)}`)
    }
  }
  const captures = places.map(
    place => new PacketCapture(poller, { ...place, snapLength: 65_535, bufferBytes: 64 << 20 }, look)
  )
  t.teardown(async () => {
    for (const capture of captures) capture.close()
    await poller.close()
  })
  return wire
}
