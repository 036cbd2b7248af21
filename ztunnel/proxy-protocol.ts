/** The PROXY protocol header, version 2, that a sandboxed waypoint reads. Source: HAProxy, proxy-protocol.txt 2.2. */
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'
import { ipFamily, ipToBytes, type SocketAddress } from '../shared/net/address.ts'

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a])
const VERSION_2_PROXY = 0x21
const FAMILIES = { 4: 0x11, 6: 0x21 } as const
const UNSPECIFIED = 0x01
/** Istio's type for the client's SPIFFE identity. */
const TLV_IDENTITY = 0xd0

export function proxyHeader(
  source: SocketAddress,
  destination: SocketAddress,
  identity: SpiffeId | undefined
): Buffer {
  const family = ipFamily(source.ip)
  const mixed = family !== ipFamily(destination.ip)
  const addresses = mixed
    ? Buffer.alloc(0)
    : Buffer.concat([ipToBytes(source.ip), ipToBytes(destination.ip), ports(source, destination)])
  const tlv = identity === undefined ? Buffer.alloc(0) : identityTlv(identity)
  const head = Buffer.alloc(4)
  head[0] = VERSION_2_PROXY
  head[1] = mixed ? UNSPECIFIED : FAMILIES[family]
  head.writeUInt16BE(addresses.length + tlv.length, 2)
  return Buffer.concat([SIGNATURE, head, addresses, tlv])
}

function ports(source: SocketAddress, destination: SocketAddress): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt16BE(source.port, 0)
  bytes.writeUInt16BE(destination.port, 2)
  return bytes
}

function identityTlv(identity: SpiffeId): Buffer {
  const text = Buffer.from(identity)
  const head = Buffer.from([TLV_IDENTITY, text.length >> 8, text.length & 0xff])
  return Buffer.concat([head, text])
}
