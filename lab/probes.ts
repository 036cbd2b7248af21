/** Probes of containers: one attempt by HTTP, TCP, gRPC or a command, and the count of attempts that decides. */
import http2 from 'node:http2'
import http from 'node:http'
import type net from 'node:net'
import tls from 'node:tls'
import { ipFamily, type Ip } from '../shared/net/address.ts'
import { dialIn } from './dial.ts'
import type { LabContainer, Probe } from './kinds.ts'
import { probeSource } from './nodes.ts'

export type ProbeResult = { readonly ok: true } | { readonly ok: false; readonly reason: string }

export interface ProbeTarget {
  /** Descriptor of the node's network namespace: probes come from the node. */
  readonly netns: number
  readonly podIp: Ip
  /** The source address of the kubelet; on a pod of the host network, none in particular. */
  readonly fromProbeSource: boolean
  readonly container: LabContainer
  /** Runs a command in the container; resolves to its exit code. */
  exec(command: readonly string[], signal: AbortSignal): Promise<number>
}

/** One attempt; never rejects. */
export async function attempt(probe: Probe, target: ProbeTarget): Promise<ProbeResult> {
  const signal = AbortSignal.timeout((probe.timeoutSeconds ?? 1) * 1000)
  try {
    return await run(probe, target, signal)
  } catch (error) {
    const reason = signal.aborted
      ? `no answer within ${probe.timeoutSeconds ?? 1} s`
      : (error as Error).message
    return { ok: false, reason }
  }
}

async function run(probe: Probe, target: ProbeTarget, signal: AbortSignal): Promise<ProbeResult> {
  const { httpGet, tcpSocket, grpc, exec } = probe
  if (exec !== undefined) {
    const code = await target.exec(exec.command ?? [], signal)
    return code === 0 ? { ok: true } : { ok: false, reason: `the command ended with ${code}` }
  }
  if (tcpSocket !== undefined) {
    const socket = await connect(target, tcpSocket.port, signal)
    socket.destroy()
    return { ok: true }
  }
  if (grpc !== undefined) return grpcHealth(target, grpc, signal)
  if (httpGet !== undefined) return httpStatus(target, httpGet, signal)
  return { ok: true }
}

async function httpStatus(
  target: ProbeTarget,
  { port, path = '/', host, scheme = 'HTTP', httpHeaders = [] }: NonNullable<Probe['httpGet']>,
  signal: AbortSignal
): Promise<ProbeResult> {
  const socket = await connect(target, port, signal)
  const headers: Record<string, string> = { host: host ?? target.podIp, 'user-agent': 'kube-probe/1.36' }
  for (const { name, value } of httpHeaders) headers[name.toLowerCase()] = value
  // The certificate is not checked, as a kubelet does not.
  const stream = scheme === 'HTTPS' ? tls.connect({ socket, rejectUnauthorized: false }) : socket
  const status = await new Promise<number>((resolve, reject) => {
    stream.once('error', reject)
    const request = http.get({ path, headers, signal, createConnection: () => stream }, response => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
    request.on('error', reject)
  }).finally(() => socket.destroy())
  return status >= 200 && status < 400 ? { ok: true } : { ok: false, reason: `HTTP status ${status}` }
}

async function grpcHealth(
  target: ProbeTarget,
  { port, service = '' }: NonNullable<Probe['grpc']>,
  signal: AbortSignal
): Promise<ProbeResult> {
  const socket = await connect(target, port, signal)
  const session = http2.connect(`http://${target.podIp}`, { createConnection: () => socket })
  const name = Buffer.from(service)
  const message =
    name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name])
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  try {
    const answer = await new Promise<Buffer>((resolve, reject) => {
      session.on('error', reject)
      const stream = session.request(
        {
          ':method': 'POST',
          ':path': '/grpc.health.v1.Health/Check',
          'content-type': 'application/grpc',
          te: 'trailers'
        },
        { signal }
      )
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => resolve(Buffer.concat(chunks)))
      stream.on('error', reject)
      stream.end(Buffer.concat([head, message]))
    })
    // HealthCheckResponse.status, field 1, SERVING = 1.
    return answer[5] === 0x08 && answer[6] === 1 ? { ok: true } : { ok: false, reason: 'not SERVING' }
  } finally {
    session.destroy()
    socket.destroy()
  }
}

function connect(target: ProbeTarget, port: number | string, signal: AbortSignal): Promise<net.Socket> {
  const source = ipFamily(target.podIp) === 4 ? probeSource.ipv4 : probeSource.ipv6
  return dialIn(
    {
      netns: target.netns,
      to: { ip: target.podIp, port: portNumber(target.container, port) },
      ...(target.fromProbeSource ? { from: source } : {})
    },
    signal
  )
}

/** A port by number, or by the name that one of the container's ports has. */
export function portNumber(container: LabContainer, port: number | string): number {
  if (typeof port === 'number') return port
  const named = container.ports?.find(({ name }) => name === port)?.containerPort
  if (named === undefined && !/^\d+$/.test(port)) {
    throw new Error(`container ${container.name} has no port named ${port}`)
  }
  return named ?? Number(port)
}

/** Counts attempts in a row until a threshold turns the verdict. */
export class ProbeVerdict {
  readonly #probe: Probe
  #passed: boolean
  #inRow = 0
  #last: boolean | undefined

  /** `initially` holds until the first threshold is reached. */
  constructor(probe: Probe, initially: boolean) {
    this.#probe = probe
    this.#passed = initially
  }

  get passed(): boolean {
    return this.#passed
  }

  /** Returns the verdict after this attempt. */
  count(ok: boolean): boolean {
    this.#inRow = ok === this.#last ? this.#inRow + 1 : 1
    this.#last = ok
    const threshold = ok ? (this.#probe.successThreshold ?? 1) : (this.#probe.failureThreshold ?? 3)
    if (this.#inRow >= threshold) this.#passed = ok
    return this.#passed
  }
}
