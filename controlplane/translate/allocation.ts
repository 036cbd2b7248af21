/**
 * Addresses for hosts of ServiceEntries that have none, so that the TCP connections to one can be told from
 * those to another. Source: Istio's published ranges and label; the choice is a hash of the name, so that a
 * host has the same address after everything was lost.
 */
import { hash } from 'node:crypto'
import { ipFromBytes, ipToBytes, parseIp, type Ip } from '../../shared/net/address.ts'
import { keyOf, type Labels, type ServiceEntryObject } from '../cluster/objects.ts'

/** One address of each family for a host. */
export interface Allocation {
  readonly host: string
  readonly value: Ip
}

export function optsOutOfAllocation(labels: Labels): boolean {
  return labels['networking.istio.io/enable-autoallocate-ip']?.toLowerCase() === 'false'
}

/** Hosts that need an address of their own: the entry has none, and its hosts are resolved by the mesh. */
export function hostsToAllocate(entry: ServiceEntryObject): readonly string[] {
  if (entry.addresses.length > 0 || entry.resolution === 'NONE' || optsOutOfAllocation(entry.meta.labels)) {
    return []
  }
  // A wildcard stands for many names; only names that are resolved one by one can share an address.
  return [...new Set(entry.hosts)].filter(host => !host.startsWith('*') || entry.resolution === 'DYNAMIC_DNS')
}

/** 240.240.0.0/16 and 2001:2::/48, without the first and the last address. */
const ranges = [
  { prefix: Buffer.of(240, 240, 0, 0), hostBits: 16 },
  { prefix: Buffer.from('20010002000000000000000000000000', 'hex'), hostBits: 80 }
] as const
/** Bits of an address that the hash chooses; more would not make it rarer that two hosts meet. */
const chosenBits = 16
const choices = 2 ** chosenBits

/** Addresses that are in use, by who has them. */
export type Owners = ReadonlyMap<Ip, string>

/** Who has which address: entries by age, so that of two with the same one the older keeps it. */
export function addressOwners(entries: readonly ServiceEntryObject[]): Owners {
  const owners = new Map<Ip, string>()
  const claim = (text: string, owner: string): void => {
    const ip = parseIp(text)
    if (ip !== undefined && !owners.has(ip)) owners.set(ip, owner)
  }
  // What an operator wrote is not ours to change, so it comes before all that was allocated.
  for (const entry of entries) for (const text of entry.addresses) claim(text, ownerOf(entry, ''))
  for (const entry of entries) {
    for (const { host, address } of entry.allocated) claim(address, ownerOf(entry, host))
  }
  return owners
}

/**
 * What the status of an entry should list: addresses that it has stay, unless another one has them; the rest
 * is chosen by hash, and the next one that is free. Undefined when its status is right.
 */
export function allocate(entry: ServiceEntryObject, owners: Owners): readonly Allocation[] | undefined {
  const taken = new Map(owners)
  const wanted = hostsToAllocate(entry).flatMap(host => {
    const owner = ownerOf(entry, host)
    const kept = entry.allocated.filter(each => each.host === host).map(({ address }) => parseIp(address))
    return ranges.flatMap((range, index): Allocation[] => {
      const length = range.prefix.length
      const own = kept.find(
        ip => ip !== undefined && ipToBytes(ip).length === length && taken.get(ip) === owner
      )
      const ip = own ?? free(range, `${keyOf(entry.meta)}/${host}/${index}`, taken)
      if (ip === undefined) return []
      taken.set(ip, owner)
      return [{ host, value: ip }]
    })
  })
  const text = (list: readonly { host: string; value: string }[]): string =>
    list
      .map(({ host, value }) => `${host} ${parseIp(value) ?? value}`)
      .toSorted()
      .join('\n')
  const present = entry.allocated.map(({ host, address }) => ({ host, value: address }))
  return text(wanted) === text(present) ? undefined : wanted
}

/** Who an address of this host belongs to. */
export function ownerOf(entry: ServiceEntryObject, host: string): string {
  return `${keyOf(entry.meta)}/${host}`
}

/** Undefined when the range is used up. */
function free(range: (typeof ranges)[number], name: string, taken: Owners): Ip | undefined {
  const first = hash('sha256', name, 'buffer').readUInt16BE(0)
  for (let step = 0; step < choices; step++) {
    const number = (first + step) % choices
    if (number === 0 || number === choices - 1) continue
    const bytes = Buffer.from(range.prefix)
    bytes.writeUInt16BE(number, bytes.length - 2)
    const ip = ipFromBytes(bytes)
    if (ip !== undefined && !taken.has(ip)) return ip
  }
  return undefined
}
