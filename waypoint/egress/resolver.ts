/**
 * Names asked of DNS servers: those of the pod's resolv.conf, or of the configuration. Names are whole: no search
 * domain is tried, and /etc/hosts is not read, as neither comes with a time for which it holds.
 */
import { Resolver } from 'node:dns/promises'
import { networkInterfaces } from 'node:os'
import { parseIp, type Family, type Ip } from '../../shared/net/address.ts'
import { inTime } from '../../shared/runtime/in-time.ts'
import type { Answer } from './names.ts'

export interface ResolverOptions {
  /** `ip` or `ip:port`; undefined: those of the pod. */
  readonly servers: readonly string[] | undefined
  /** Of the addresses that can be reached from here. */
  readonly families: readonly Family[]
  readonly timeoutMs: number
}

/** Each server is asked so often. */
const tries = 2

/** Of an answer; rejects where no server gave any in time. */
export function resolverOf({
  servers,
  families,
  timeoutMs
}: ResolverOptions): (name: string) => Promise<Answer> {
  const resolver = new Resolver({ timeout: Math.ceil(timeoutMs / 4), tries })
  if (servers !== undefined) resolver.setServers(servers)
  const ask = async (name: string): Promise<Answer> => {
    const answers = await Promise.allSettled(families.map(family => askOne(resolver, name, family)))
    const records = answers.flatMap(answer => (answer.status === 'fulfilled' ? answer.value : []))
    const failed = answers.find(answer => answer.status === 'rejected')
    if (records.length === 0 && failed !== undefined) throw failed.reason
    return {
      addresses: [...new Set(records.map(({ address }) => address))],
      ttlMs: Math.min(...records.map(({ ttl }) => ttl)) * 1000
    }
  }
  return name => inTime(ask(name), timeoutMs, `no DNS server answered within ${timeoutMs} ms`)
}

/** IPv6 only where the machine has an address of it that leads farther than its link, IPv4 where it has one or nothing else. */
export function familiesHere(ipv6: boolean, interfaces = networkInterfaces()): readonly Family[] {
  const own = Object.values(interfaces).flatMap(addresses => addresses ?? [])
  const far = own.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
  const has6 = ipv6 && far.some(({ family }) => family === 'IPv6')
  const has4 = far.some(({ family }) => family === 'IPv4')
  return has6 ? (has4 ? [4, 6] : [6]) : [4]
}

interface Record {
  readonly address: Ip
  /** Seconds. */
  readonly ttl: number
}

/** Empty: the name has no address of this family. */
async function askOne(resolver: Resolver, name: string, family: Family): Promise<readonly Record[]> {
  try {
    const records =
      family === 4
        ? await resolver.resolve4(name, { ttl: true })
        : await resolver.resolve6(name, { ttl: true })
    return records.flatMap(({ address, ttl }) => {
      const ip = parseIp(address)
      return ip === undefined ? [] : [{ address: ip, ttl }]
    })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOTFOUND' || code === 'ENODATA') return []
    throw error
  }
}
