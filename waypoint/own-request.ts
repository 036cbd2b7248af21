/** A request of the waypoint's own, to a service of the mesh: bounded, and over the connections that others use. */
import type { Service, WorkloadUid } from '../shared/mesh/model.ts'
import { anyOf } from './egress/any-of.ts'
import { leadsOut, type Egress } from './egress/egress.ts'
import type { MeshService } from './extension-provider.ts'
import type { Body, BodySink } from './http/body.ts'
import type { ClientConnection, ClientRequest, ResponseHead } from './http/exchange.ts'
import type { Framing } from './http/framing.ts'
import type { HeaderList } from './http/header-list.ts'
import { pickPod } from './pick-pod.ts'
import type { Clusters } from './upstream/clusters.ts'
import { Waiting, type Terms, type UpstreamProtocol } from './upstream/place.ts'
import type { Target } from './upstream/tunnels.ts'
import type { Waypoint } from './waypoint.ts'

export interface OwnRequest extends Omit<ClientRequest, 'framing' | 'scheme' | 'upgrade'> {
  readonly protocol: UpstreamProtocol
  readonly body?: Buffer
  /** Bytes of an answer's body that are kept. */
  readonly maxBody: number
}

export interface OwnAnswer {
  readonly status: number
  readonly headers: HeaderList
  readonly body: Buffer
  /** False: there was more of the body than was kept, and its end was not waited for. */
  readonly whole: boolean
  readonly trailers: HeaderList | undefined
}

export type Means = Pick<Waypoint, 'view' | 'config' | 'random' | 'connections'> & {
  readonly clusters: Pick<Clusters, 'of'>
  readonly egress: Pick<Egress, 'find'>
}

/** Rejects with an Error where no answer comes, and with the signal's reason; then nothing goes on. */
export async function sendOwnRequest(
  means: Means,
  service: MeshService,
  request: OwnRequest,
  signal: AbortSignal
): Promise<OwnAnswer> {
  signal.throwIfAborted()
  const { connections } = means
  const { target, terms } = await endpointOf(means, service)
  signal.throwIfAborted()
  const done = connections.count(target, request.protocol)
  try {
    const taken = connections.take(target, request.protocol, terms)
    if (taken === 'overflow') throw new Error(`service ${service.hostname} has no connection to spare`)
    if (!(taken instanceof Waiting)) return await exchangeOn(taken, request, signal)
    return await whenReady(taken, signal, connection => exchangeOn(connection, request, signal))
  } finally {
    done()
  }
}

/** Throws where nothing may be sent. */
async function endpointOf(
  means: Means,
  { namespace, hostname, port }: MeshService
): Promise<{ readonly target: Target; readonly terms: Terms | undefined }> {
  const found = means.view().serviceByHostname(hostname, means.config.self.namespace, namespace)
  if (found === undefined || (namespace !== undefined && found.namespace !== namespace)) {
    const where = namespace === undefined ? '' : ` in namespace ${namespace}`
    throw new Error(`service ${hostname}${where} is not known to this waypoint`)
  }
  const target = leadsOut(found) ? await outside(means, found, port) : pickPod(means, found, port)
  if (target === undefined) throw new Error(`service ${hostname} has no ready endpoint for port ${port}`)
  const cluster = means.clusters.of(found, port)
  const { unsupported } = cluster?.policy ?? {}
  if (unsupported !== undefined) throw new Error(`the traffic policy cannot be carried out: ${unsupported}`)
  return { target, terms: cluster?.terms }
}

/** Of a service that we name ourselves, not a client. */
async function outside(
  { egress, random }: Means,
  service: Service,
  port: number
): Promise<Target | undefined> {
  const { hostname } = service
  const addressed = { kind: 'hostname', hostname, port } as const
  const way = await egress.find(service, port, { host: hostname, addressed })
  if (way.kind === 'refused') throw new Error(`service ${hostname} cannot be reached: ${way.reply.body}`)
  return anyOf(way.endpoints, none, random)
}

const none: ReadonlySet<WorkloadUid> = new Set()

function whenReady<T>(
  waiting: Waiting,
  signal: AbortSignal,
  use: (connection: ClientConnection) => Promise<T>
): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      waiting.cancel()
      reject(signal.reason as Error)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    const over = (): void => signal.removeEventListener('abort', onAbort)
    waiting.settle(
      connection => {
        over()
        resolve(use(connection))
      },
      (error: unknown) => {
        over()
        reject(error)
      }
    )
  })
}

function exchangeOn(
  connection: ClientConnection,
  { body = Buffer.alloc(0), maxBody, protocol: _, ...request }: OwnRequest,
  signal: AbortSignal
): Promise<OwnAnswer> {
  return new Promise((resolve, reject) => {
    const framing: Framing = body.length === 0 ? { kind: 'none' } : { kind: 'length', bytes: body.length }
    let sink: BodySink | undefined
    let answer: Body | undefined
    const onAbort = (): void => {
      reject(signal.reason as Error)
      if (answer === undefined) sink?.fail(signal.reason as Error)
      else answer.cancel()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    const over = (): void => signal.removeEventListener('abort', onAbort)
    const fail = (error: Error): void => {
      over()
      reject(error)
    }
    const answered = ({ status, headers }: ResponseHead, incoming: Body): void => {
      answer = incoming
      const parts: Buffer[] = []
      let bytes = 0
      const finish = (whole: boolean, trailers?: HeaderList): void => {
        over()
        resolve({ status, headers, body: Buffer.concat(parts).subarray(0, maxBody), whole, trailers })
      }
      incoming.pipe({
        data: chunk => {
          if (bytes > maxBody) return true
          parts.push(chunk)
          bytes += chunk.length
          if (bytes > maxBody) {
            finish(false)
            incoming.cancel()
          }
          return true
        },
        end: trailers => finish(bytes <= maxBody, trailers),
        fail
      })
    }
    sink = connection.send({ ...request, scheme: 'http', framing }, { answered, failed: fail })
    if (body.length > 0) sink.data(body)
    sink.end()
  })
}
