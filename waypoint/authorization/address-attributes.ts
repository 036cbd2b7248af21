/** Tests of addresses and ports. */
import { cidrContains, parseCidr, type Ip } from '../../shared/net/address.ts'

/** An address or a block of them. Throws an Error with what is wrong. */
export function addressTest(value: string): (address: Ip) => boolean {
  const block = parseCidr(value)
  if (block === undefined) throw new Error(`${JSON.stringify(value)} is no IP address or block`)
  const { bytes, length } = block
  if (bytes.length !== 4) return address => cidrContains(block, address)
  // Most clients have IPv4: compared as a number there is nothing to allocate for.
  const size = 2 ** (32 - length)
  const number = Math.floor(bytes.reduce((sum, byte) => sum * 256 + byte, 0) / size)
  return address => Math.floor(ipv4Number(address) / size) === number
}

/** Throws an Error with what is wrong. */
export function portOf(value: string): number {
  const port = /^\d{1,5}$/.test(value) ? Number(value) : 0
  if (port < 1 || port > 65_535)
    throw new Error(`${JSON.stringify(value)} is no port: write one from 1 to 65535`)
  return port
}

/** -1 for IPv6, which is in no block of IPv4. */
function ipv4Number(address: Ip): number {
  let number = 0
  let part = 0
  for (let at = 0; at < address.length; at += 1) {
    const unit = address.charCodeAt(at)
    if (unit === 58) return -1
    if (unit === 46) {
      number = number * 256 + part
      part = 0
    } else part = part * 10 + unit - 48
  }
  return number * 256 + part
}
