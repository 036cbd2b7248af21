/** The lines of the access log. Source: Istio's ztunnel, target `access`. */
import { formatSocketAddress, type SocketAddress } from '../net/address.ts'
import type { RelayCounters } from '../net/relay.ts'
import { workloadIdentity } from '../mesh/model.ts'
import { Unquoted, type Fields, type Logger } from './logger.ts'
import type { Party, TrafficFacts } from './traffic-metrics.ts'

export interface LoggedConnection extends TrafficFacts {
  readonly sourceAddress: SocketAddress
  /** Outbound: the peer that was dialled. Inbound HBONE: the accepted address, with port 15008. */
  readonly destinationAddress: SocketAddress
  /** CONNECT authority; undefined without HBONE. */
  readonly authority: string | undefined
}

export interface RefusedConnection {
  readonly direction: 'inbound' | 'outbound'
  readonly sourceAddress: SocketAddress
  readonly destinationAddress: SocketAddress
}

export class AccessLog {
  readonly #logger: Logger

  constructor(logger: Logger) {
    this.#logger = logger
  }

  opened(connection: LoggedConnection): void {
    if (this.#logger.enabled('debug')) this.#logger.debug('connection opened', fieldsOf(connection))
  }

  /** `bytes` as the relay counts them: aToB from client to server. */
  closed(connection: LoggedConnection, bytes: RelayCounters, durationMs: number, error?: string): void {
    if (!this.#logger.enabled(error === undefined ? 'info' : 'error')) return
    const outbound = connection.reporter === 'source'
    const fields = {
      ...fieldsOf(connection),
      bytes_sent: outbound ? bytes.aToB : bytes.bToA,
      bytes_recv: outbound ? bytes.bToA : bytes.aToB,
      duration: `${Math.floor(durationMs)}ms`
    }
    if (error === undefined) this.#logger.info('connection complete', fields)
    else this.#logger.error('connection complete', { ...fields, error })
  }

  /** What was turned away before it was known whose connection it is. */
  refused({ direction, sourceAddress, destinationAddress }: RefusedConnection, error: string): void {
    this.#logger.warn('connection failed', {
      'src.addr': addressOf(sourceAddress),
      'dst.addr': addressOf(destinationAddress),
      direction,
      error
    })
  }
}

/** Unknown fields are left out. */
function fieldsOf(connection: LoggedConnection): Fields {
  const { source, destination, mutualTls } = connection
  const outbound = connection.reporter === 'source'
  return {
    'src.addr': addressOf(connection.sourceAddress),
    'src.workload': nameOf(source),
    'src.namespace': source.workload?.namespace ?? text(source.baggage?.namespace),
    'src.identity': source.identity,
    'src.cluster': text(source.workload?.clusterId ?? source.baggage?.cluster),
    'dst.addr': addressOf(connection.destinationAddress),
    'dst.hbone_addr': connection.authority === undefined ? undefined : new Unquoted(connection.authority),
    'dst.service': connection.service?.hostname,
    'dst.workload': nameOf(destination),
    'dst.namespace': destination.workload?.namespace ?? text(destination.baggage?.namespace),
    'dst.identity': mutualTls ? destinationIdentity(destination) : undefined,
    'dst.cluster': text(destination.workload?.clusterId ?? destination.baggage?.cluster),
    direction: outbound ? 'outbound' : 'inbound'
  }
}

function addressOf(address: SocketAddress): Unquoted {
  return new Unquoted(formatSocketAddress(address))
}

function nameOf({ workload, baggage }: Party): string | undefined {
  return workload?.name ?? text(baggage?.workloadName)
}

function destinationIdentity({ identity, workload }: Party): string | undefined {
  return identity ?? (workload === undefined ? undefined : workloadIdentity(workload))
}

function text(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}
