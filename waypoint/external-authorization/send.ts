/** How a waypoint reaches its authorizers: as services of the mesh, by their own protocol. */
import { HeaderList } from '../http/header-list.ts'
import { sendOwnRequest, type Means, type OwnAnswer, type OwnRequest } from '../own-request.ts'
import type { Sender } from './check.ts'
import type { MeshService } from '../extension-provider.ts'

/** Of a message that an authorizer sends by gRPC. */
const maxMessage = 1 << 20
/** At once: each may hold a connection, and an authorizer that hangs must not take all that there are. */
const maxQuestions = 1024
/** Whether it is compressed, one byte, then its length, four. */
const prefixBytes = 5

/** Throws when too many questions are under way, beside what {@link sendOwnRequest} throws. */
export function senderOf(means: Means): Sender {
  let underWay = 0
  const send = async (to: MeshService, request: OwnRequest, signal: AbortSignal): Promise<OwnAnswer> => {
    if (underWay >= maxQuestions) throw new Error(`${maxQuestions} questions are under way already`)
    underWay += 1
    try {
      return await sendOwnRequest(means, to, request, signal)
    } finally {
      underWay -= 1
    }
  }
  return {
    sendHttp: (to, { method, target, authority, headers, maxBody }, signal) =>
      send(to, { method, target, authority, headers, maxBody, protocol: 'http1' }, signal),

    sendGrpc: async (to, path, message, signal) => {
      const request = {
        protocol: 'http2',
        method: 'POST',
        target: path,
        authority: to.hostname,
        headers: HeaderList.of('content-type', 'application/grpc', 'te', 'trailers'),
        body: framed(message),
        maxBody: prefixBytes + maxMessage
      } as const
      const answer = await send(to, request, signal)
      const { status, trailers, body, whole } = answer
      const grpcStatus = trailers?.get('grpc-status') ?? answer.headers.get('grpc-status')
      if (status !== 200 || grpcStatus !== '0') {
        const told = readable(trailers?.get('grpc-message') ?? answer.headers.get('grpc-message') ?? '')
        throw new Error(`answered ${status}, grpc-status ${grpcStatus ?? 'missing'} ${told}`.trimEnd())
      }
      if (!whole) throw new Error(`answered more than ${maxMessage} bytes`)
      return unframed(body)
    }
  }
}

/** gRPC sends its messages percent-encoded; what is not is shown as it is. */
function readable(message: string): string {
  try {
    return decodeURIComponent(message)
  } catch {
    return message
  }
}

/** A message as gRPC has it on the wire. */
export function framed(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(prefixBytes + message.length)
  bytes.writeUInt8(0, 0)
  bytes.writeUInt32BE(message.length, 1)
  bytes.set(message, prefixBytes)
  return bytes
}

/** Throws unless it is one message and nothing else. */
export function unframed(bytes: Buffer): Buffer {
  if (bytes.length < prefixBytes || bytes.readUInt32BE(1) !== bytes.length - prefixBytes) {
    throw new Error('its answer is not one whole message')
  }
  if (bytes.readUInt8(0) !== 0) throw new Error('its answer is compressed, which nobody asked for')
  return bytes.subarray(prefixBytes)
}
