/** A DNS server of a test on loopback, which says what the test wants and counts who asks. */
import type { Test } from 'tap'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { ip, ipFamily } from '../../../shared/net/address.ts'
import { readMessage, writeAnswer, writeFailure } from '../../../ztunnel/dns/message.ts'

/** Addresses of a name; `refuse`: SERVFAIL; `silent`: no answer. */
export type Zone = Map<string, readonly string[] | 'refuse' | 'silent'>

const nobodyHasIt = 3
const serverFailure = 2
const types = { 4: 1, 6: 28 }

export interface DnsServer {
  /** `ip:port`. */
  readonly address: string
  readonly zone: Zone
  /** Seconds for which answers hold. */
  ttl: number
  /** Names in the order in which their IPv4 addresses were asked for. */
  readonly asked: string[]
}

export async function startDns(
  t: Test,
  entries: Readonly<Record<string, readonly string[] | 'refuse' | 'silent'>>
): Promise<DnsServer> {
  const socket = dgram.createSocket('udp4')
  const server: { -readonly [K in keyof DnsServer]: DnsServer[K] } = {
    address: '',
    zone: new Map(Object.entries(entries)),
    ttl: 60,
    asked: []
  }
  socket.on('message', (bytes, from) => {
    const query = readMessage(bytes)
    if (query.kind !== 'query') return
    if (query.type === types[4]) server.asked.push(query.name)
    const entry = server.zone.get(query.name)
    if (entry === 'silent') return
    const failure = entry === 'refuse' ? serverFailure : nobodyHasIt
    const answer =
      typeof entry === 'object'
        ? writeAnswer(
            query,
            {
              alias: undefined,
              addresses: entry.map(ip).filter(address => types[ipFamily(address)] === query.type),
              ttl: server.ttl
            },
            4096
          )
        : writeFailure(bytes, failure)
    if (answer !== undefined) socket.send(answer, from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  server.address = `127.0.0.1:${socket.address().port}`
  return server
}
