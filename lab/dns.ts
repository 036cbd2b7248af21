/** The cluster's DNS server, by UDP and TCP. Names elsewhere do not exist, unless there is a resolver to ask. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import net from 'node:net'
import { endpointSlices, namespaces, services } from '../shared/kube/core-api.ts'
import type { Ip } from '../shared/net/address.ts'
import type { ObjectAccess } from './api-store/object-access.ts'
import { readQuestion, writeAnswer, type DnsAnswer } from './dns-message.ts'
import { resolve, type ClusterNames } from './dns-records.ts'

export interface DnsOptions {
  readonly names: ClusterNames
  readonly address: Ip
  readonly port: number
  /** Answers a query for a name elsewhere, message for message; undefined where there is no outside. */
  readonly forward?: (message: Buffer) => Promise<Buffer>
}

const idleMs = 10_000
const forwardMs = 4000
const largestMessage = 65535

export interface DnsServer {
  readonly port: number
  close(): void
}

export async function startDns(options: DnsOptions): Promise<DnsServer> {
  const udp = createSocket(options.address.includes(':') ? 'udp6' : 'udp4')
  udp.on('message', (message, from) => {
    answer(options, message, true)
      .then(reply => reply !== undefined && udp.send(reply, from.port, from.address))
      .catch(() => undefined /* The client asks again. */)
  })
  await new Promise<void>((resolve, reject) => {
    udp.once('error', reject)
    udp.bind(options.port, options.address, resolve)
  })
  const { port } = udp.address()
  udp.on('error', () => undefined)
  const tcp = net.createServer(socket => serveTcp(options, socket))
  await new Promise<void>((resolve, reject) => {
    tcp.once('error', reject)
    tcp.listen(port, options.address, resolve)
  })
  return { port, close: () => close(udp, tcp) }
}

/** Reads what the answers need from the cluster's objects, each time anew. */
export function clusterNames(objects: ObjectAccess): ClusterNames {
  return {
    service: (namespace, name) => objects.get(services, { namespace, name }),
    slices: (namespace, service) =>
      objects.list(endpointSlices, { namespace, labelSelector: `kubernetes.io/service-name=${service}` }),
    hasNamespace: name => objects.get(namespaces, { name }) !== undefined
  }
}

/** One query to another server by UDP; rejects when it does not answer in time. */
export function askResolver(server: string, message: Buffer, port = 53): Promise<Buffer> {
  const socket = createSocket('udp4')
  return new Promise<Buffer>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${server} does not answer`)), forwardMs)
    timer.unref()
    socket.once('error', reject)
    socket.once('message', reply => {
      clearTimeout(timer)
      resolve(reply)
    })
    // Connected, so that only this server's answers arrive.
    socket.connect(port, server, () => socket.send(message))
  }).finally(() => socket.close())
}

async function answer(options: DnsOptions, message: Buffer, byUdp: boolean): Promise<Buffer | undefined> {
  const question = readQuestion(message)
  if (question === undefined) return undefined
  const own = resolve(options.names, question.name, question.type)
  if (own === undefined && options.forward !== undefined) return options.forward(message)
  const known: DnsAnswer = own ?? { kind: 'no-such-name' }
  return writeAnswer(question, known, byUdp ? question.udpSize : largestMessage)
}

/** Each message has its length in front, two bytes (RFC 1035, 4.2.2). */
function serveTcp(options: DnsOptions, socket: net.Socket): void {
  let waiting = Buffer.alloc(0)
  socket.setTimeout(idleMs, () => socket.destroy())
  socket.on('error', () => socket.destroy())
  socket.on('data', chunk => {
    waiting = Buffer.concat([waiting, chunk])
    while (waiting.length >= 2 && waiting.length >= 2 + waiting.readUInt16BE(0)) {
      const end = 2 + waiting.readUInt16BE(0)
      const message = waiting.subarray(2, end)
      waiting = waiting.subarray(end)
      answer(options, message, false)
        .then(reply => {
          if (reply === undefined) socket.destroy()
          else socket.write(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 0xff]), reply]))
        })
        .catch(() => socket.destroy())
    }
  })
}

function close(udp: UdpSocket, tcp: net.Server): void {
  udp.close()
  tcp.close()
}
