/**
 * Which addresses are out in the open: nobody's cluster, host or link. Sources: the IANA registries of special-purpose
 * addresses for IPv4 and IPv6 (RFC 6890 and its updates).
 */
import {
  cidrContains,
  ipFamily,
  ipFromBytes,
  ipToBytes,
  parseCidr,
  type Cidr,
  type Ip
} from '../../shared/net/address.ts'

const special = blocks(
  '0.0.0.0/8', // this host
  '10.0.0.0/8',
  '100.64.0.0/10', // behind a carrier's NAT, and what many clouds give their pods
  '127.0.0.0/8',
  '169.254.0.0/16', // links, and the metadata services of clouds
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24', // documentation, as the next ones with 198.51 and 203
  '192.88.99.0/24', // relays of 6to4
  '192.168.0.0/16',
  '198.18.0.0/15', // benchmarks
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, with what meshes allocate; broadcast
  '2001::/23', // Teredo and other protocols, with what meshes allocate
  '2001:db8::/32',
  '2002::/16', // 6to4: an IPv4 address is inside
  '3fff::/20'
)
/** The only part of IPv6 that is given out so far; loopback, links, unique local and multicast are outside. */
const [globalUnicast] = blocks('2000::/3')
/** An IPv4 address for clients that have none (RFC 6052): as public as the one in its last bytes. */
const [translated] = blocks('64:ff9b::/96')

export function isPublic(address: Ip): boolean {
  if (ipFamily(address) === 6) {
    if (translated !== undefined && cidrContains(translated, address)) {
      const inner = ipFromBytes(ipToBytes(address).subarray(12))
      return inner !== undefined && isPublic(inner)
    }
    if (globalUnicast === undefined || !cidrContains(globalUnicast, address)) return false
  }
  return !special.some(block => cidrContains(block, address))
}

function blocks(...texts: string[]): Cidr[] {
  return texts.map(parseCidr).filter(block => block !== undefined)
}
