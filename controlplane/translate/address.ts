/** Addresses of the Workload API. */
import { ipToBytes, parseCidr, parseIp } from '../../shared/net/address.ts'
import type { NetworkAddressMessage } from './messages.ts'

export function networkAddress(network: string, address: Uint8Array, length?: number): NetworkAddressMessage {
  return {
    ...(network === '' ? {} : { network }),
    address,
    ...(length === undefined ? {} : { length })
  }
}

/** An address or a block such as `10.0.0.0/8`; undefined when the text is neither. */
export function addressOrBlock(network: string, text: string): NetworkAddressMessage | undefined {
  const single = parseIp(text)
  if (single !== undefined) return networkAddress(network, ipToBytes(single))
  const block = parseCidr(text)
  if (block === undefined) return undefined
  const whole = block.bytes.length * 8 === block.length
  return networkAddress(network, block.bytes, whole ? undefined : block.length)
}
