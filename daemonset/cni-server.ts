/**
 * Where the CNI plug-in announces a new pod before anything in it runs: `POST /cmdadd` on a unix socket.
 * 200: the pod is enrolled, or is not to be. Anything else: the pod must not start; the runtime tries again.
 * Source: Istio, cni/pkg/nodeagent (the body's fields are Go's encoding of its CNIPluginAddEvent).
 */
import http from 'node:http'
import { chmodSync, rmSync } from 'node:fs'
import { type Ip, parseIp } from '../shared/net/address.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'

export interface CniAdd {
  /** Path of the network namespace. */
  readonly netns: string
  readonly namespace: string
  readonly name: string
  /** As the network plug-in gave them; the pod's status has none yet. */
  readonly addresses: readonly Ip[]
}

export interface CniServerOptions {
  readonly path: string
  /** Rejects when the pod must not start. */
  readonly onAdd: (add: CniAdd) => Promise<void>
  readonly onAnswer: (status: number) => void
  readonly log: Logger
}

const maxBodyBytes = 64 << 10

export async function serveCni(options: CniServerOptions): Promise<{ close(): Promise<void> }> {
  rmSync(options.path, { force: true })
  const server = http.createServer((request, response) => {
    void answer(options, request).then(({ status, text }) => {
      options.onAnswer(status)
      const body = text === '' ? '' : `${text}\n`
      // With its length, as the plug-in reads no chunks.
      response.writeHead(status, {
        'content-type': 'text/plain; charset=utf-8',
        'content-length': Buffer.byteLength(body)
      })
      response.end(body)
    })
  })
  server.requestTimeout = 10_000
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.path, () => resolve())
  })
  chmodSync(options.path, 0o600)
  return {
    close: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    }
  }
}

async function answer(
  options: CniServerOptions,
  request: http.IncomingMessage
): Promise<{ readonly status: number; readonly text: string }> {
  if (request.url !== '/cmdadd') return { status: 404, text: 'the only path is /cmdadd' }
  if (request.method !== 'POST') return { status: 405, text: '/cmdadd takes POST' }
  let add: CniAdd
  try {
    add = readCniAdd(JSON.parse(await bodyOf(request)))
  } catch (error) {
    return { status: 400, text: messageOf(error) }
  }
  try {
    await options.onAdd(add)
    return { status: 200, text: '' }
  } catch (error) {
    const pod = `${add.namespace}/${add.name}`
    options.log.warn('a new pod may not start yet', { pod, problem: messageOf(error) })
    return { status: 500, text: `${pod} cannot be enrolled: ${messageOf(error)}` }
  }
}

/** Throws with the name of the field that is missing or wrong. */
export function readCniAdd(body: unknown): CniAdd {
  const { Netns: netns, PodName: name, PodNamespace: namespace, IPs } = objectOf(body, 'the body')
  const text = (value: unknown, field: string): string => {
    if (typeof value !== 'string' || value === '') throw new Error(`${field}: expected a text`)
    return value
  }
  if (!Array.isArray(IPs) || IPs.length === 0) throw new Error('IPs: expected at least one address')
  return {
    netns: text(netns, 'Netns'),
    name: text(name, 'PodName'),
    namespace: text(namespace, 'PodNamespace'),
    addresses: IPs.map((entry: unknown, index) => readAddress(entry, `IPs[${index}]`))
  }
}

/** `{ Address: { IP, Mask } }` from Go's net.IPNet, or an address as text with or without its prefix length. */
function readAddress(entry: unknown, field: string): Ip {
  const { Address: address } = objectOf(entry, field)
  const text = typeof address === 'string' ? address : objectOf(address, `${field}.Address`)['IP']
  const parsed = typeof text === 'string' ? parseIp(text.replace(/\/\d+$/, '')) : undefined
  if (parsed === undefined) throw new Error(`${field}.Address: expected an IP address`)
  return parsed
}

function objectOf(value: unknown, field: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) throw new Error(`${field}: expected an object`)
  return value as Readonly<Record<string, unknown>>
}

async function bodyOf(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBodyBytes) throw new Error(`the body is larger than ${maxBodyBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
