/**
 * gRPC calls to a control plane over TLS 1.3, raw messages in and out. The only file that imports @grpc/grpc-js on
 * the client's side.
 */
import * as grpc from '@grpc/grpc-js'
import { existsSync, readFileSync } from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'
import { systemClock } from '../runtime/clock.ts'
import { messageOf } from '../runtime/errors.ts'

/** A server of Istio's control-plane protocols, and how to prove ourselves to it. */
export interface ControlPlaneTarget {
  /** `https://host:port`. */
  readonly address: string
  /** Root certificates: an existing path, `SYSTEM` for those of the operating system, or PEM. */
  readonly roots: string
  /** Name to expect in the server's certificate in place of the address's host. */
  readonly altHostname: string | undefined
  /** Bearer token: a path, read for every call, or the token; undefined sends none. */
  readonly token: string | undefined
  readonly clusterId: string
  /** Sent with every call. */
  readonly headers: readonly (readonly [name: string, value: string])[]
}

/** Names of gRPC status codes, as far as callers tell them apart. */
export type GrpcStatus = keyof typeof grpc.status

/** A call that ended with another status than OK, or that never reached the server (`connected` false). */
export class GrpcError extends Error {
  readonly status: GrpcStatus
  readonly connected: boolean

  constructor(status: GrpcStatus, details: string, connected: boolean) {
    super(connected ? `${status}: ${details}` : details)
    this.name = 'GrpcError'
    this.status = status
    this.connected = connected
  }
}

/** A stream of messages in both directions. */
export interface GrpcStream {
  send(message: Buffer): void
  cancel(): void
}

export interface GrpcStreamEvents {
  message(bytes: Buffer): void
  /** Once, last: undefined when the server ended the stream without an error. */
  end(error: GrpcError | undefined): void
}

const connectTimeoutMs = 5000
const maxMessageBytes = 200 << 20

const channelOptions: grpc.ChannelOptions = {
  'grpc.max_receive_message_length': maxMessageBytes,
  'grpc.max_send_message_length': maxMessageBytes,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 1,
  // Each client has its own connection with its own roots, and decides itself when to try again.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.enable_channelz': 0,
  // A first push of a large mesh would crawl through the default of 64 KiB.
  'grpc-node.flow_control_window': 4 << 20
}

/** One connection's worth of calls. Throws when the roots cannot be read. */
export class GrpcClient {
  readonly #client: grpc.Client
  readonly #target: ControlPlaneTarget

  constructor(target: ControlPlaneTarget) {
    this.#target = target
    const { host, hostname } = new URL(target.address)
    const context = tls.createSecureContext({ ca: readRoots(target.roots), minVersion: 'TLSv1.3' })
    const expected = target.altHostname ?? hostname.replaceAll(/^\[|\]$/g, '')
    const credentials = grpc.credentials.createFromSecureContext(context, {
      checkServerIdentity: (_name, certificate) => tls.checkServerIdentity(expected, certificate)
    })
    this.#client = new grpc.Client(host, credentials, {
      ...channelOptions,
      // Also the name that is sent (SNI), which must not be an address (RFC 6066); grpc-js cannot send none.
      'grpc.ssl_target_name_override': net.isIP(expected) === 0 ? expected : 'address.invalid'
    })
  }

  /** Throws when the token cannot be read. */
  stream(path: string, events: GrpcStreamEvents): GrpcStream {
    const call = this.#client.makeBidiStreamRequest<Buffer, Buffer>(path, raw, raw, this.#metadata())
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = this.#client.getChannel().getConnectivityState(false) !== grpc.connectivityState.READY
      if (timedOut) call.cancel()
    }, connectTimeoutMs)
    timer.unref()
    call.on('data', (bytes: Buffer) => events.message(bytes))
    call.on('error', () => undefined) // told by the status
    call.on('status', (status: grpc.StatusObject) => {
      clearTimeout(timer)
      if (timedOut) events.end(this.#notConnected(`no connection within ${connectTimeoutMs / 1000} s`))
      else events.end(status.code === grpc.status.OK ? undefined : this.#errorOf(status))
    })
    return { send: bytes => void call.write(bytes), cancel: () => call.cancel() }
  }

  /** One answer to one message. Throws a {@link GrpcError}, the signal's reason, or that the token cannot be read. */
  async unary(path: string, request: Buffer, deadlineMs: number, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    const deadline = systemClock.now() + deadlineMs // grpc-js makes a timer of it at once
    const call = this.#client.makeUnaryRequest<Buffer, Buffer>(
      path,
      raw,
      raw,
      request,
      this.#metadata(),
      { deadline },
      (error, answer) => {
        if (error !== null) reject(this.#errorOf(error))
        else if (answer === undefined) reject(new GrpcError('UNKNOWN', 'no answer', true))
        else resolve(answer)
      }
    )
    const onAbort = (): void => {
      reject(signal.reason)
      call.cancel()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await promise
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  close(): void {
    this.#client.close()
  }

  #metadata(): grpc.Metadata {
    const { token, clusterId, headers } = this.#target
    const metadata = new grpc.Metadata()
    const bearer = token === undefined ? undefined : readToken(token)
    if (bearer !== undefined) metadata.set('authorization', `Bearer ${bearer}`)
    metadata.set('clusterid', clusterId)
    for (const [name, value] of headers) metadata.set(name, value)
    return metadata
  }

  #errorOf({ code, details }: { code: grpc.status; details: string }): GrpcError {
    const neverConnected =
      code === grpc.status.UNAVAILABLE && /^(No connection established|Name resolution failed)/.test(details)
    if (neverConnected)
      return this.#notConnected(details.replace(/^No connection established\. Last error: /, ''))
    return new GrpcError(grpc.status[code] as GrpcStatus, details, true)
  }

  #notConnected(reason: string): GrpcError {
    return new GrpcError('UNAVAILABLE', `cannot connect to ${this.#target.address}: ${reason}`, false)
  }
}

const raw = (bytes: Buffer): Buffer => bytes

/** The roots that the target names, as they are now; undefined stands for those of the operating system. */
export function readRoots(roots: string): string | string[] {
  if (roots === 'SYSTEM') return tls.getCACertificates('system')
  if (roots.includes('-----BEGIN')) return roots
  try {
    return readFileSync(roots, 'utf8')
  } catch (cause) {
    throw new Error(`cannot read the root certificates ${roots}: ${messageOf(cause)}`, { cause })
  }
}

/** A path is read, also when it is not there yet: its text must not be sent as if it were the token. */
function readToken(token: string): string {
  if (!/^\.{0,2}\//.test(token) && !existsSync(token)) return token.trim()
  try {
    return readFileSync(token, 'utf8').trim()
  } catch (cause) {
    throw new Error(`cannot read the token ${token}: ${messageOf(cause)}`, { cause })
  }
}
