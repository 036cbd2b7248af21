/** The part of resolv.conf(5) that a DNS proxy needs. */
import { parseIp, type Ip } from '../../shared/net/address.ts'

export interface ResolvConf {
  readonly nameservers: readonly Ip[]
  /** Lower case, without final dots. */
  readonly search: readonly string[]
}

/** As many as the C library asks. */
const mostNameservers = 3

/** What cannot be read is left out, as the C library does. Of several `search` or `domain` lines the last counts. */
export function readResolvConf(text: string): ResolvConf {
  const nameservers: Ip[] = []
  let search: readonly string[] = []
  for (const line of text.split('\n')) {
    const [keyword, ...words] = line.trim().split(/\s+/)
    const address = keyword === 'nameserver' ? parseIp(words[0] ?? '') : undefined
    if (address !== undefined) nameservers.push(address)
    if (keyword === 'search' || keyword === 'domain') {
      search = words.map(word => word.toLowerCase().replace(/\.$/, '')).filter(word => word !== '')
    }
  }
  return { nameservers: nameservers.slice(0, mostNameservers), search }
}
