/** `trafficPolicy.connectionPool`. Source: Istio's published ConnectionPoolSettings. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import { noLimits, usualConnections, type ConnectionSettings, type Limits } from '../traffic-policy.ts'
import { readDuration, readInner, type Unsupported } from './read-part.ts'

const mostCount = 2 ** 31 - 1

export interface ConnectionPool {
  readonly limits: Limits
  readonly connections: ConnectionSettings
}

export function readConnectionPool(fields: Fields, unsupported: Unsupported): ConnectionPool {
  const tcp = readInner(fields, 'tcp', inner => readTcp(inner, unsupported))
  const http = readInner(fields, 'http', inner => readHttp(inner, unsupported))
  const idleMs = http?.idleMs ?? tcp?.idleMs
  return {
    limits: { ...noLimits, ...tcp?.limits, ...http?.limits },
    connections: { ...usualConnections, ...tcp?.connections, ...http?.connections, idleMs }
  }
}

interface Settings {
  readonly limits: Partial<Limits>
  readonly connections: Partial<ConnectionSettings>
  readonly idleMs: number | undefined
}

function readTcp(fields: Fields, unsupported: Unsupported): Settings {
  const idleMs = readDuration(fields, 'idleTimeout', 0)
  // Checked, and as in Istio's waypoints without an effect: connections to pods are tunnels, which are kept alive anyway.
  readInner(fields, 'tcpKeepalive', keepalive => {
    keepalive.integer('probes', 0, 2 ** 32 - 1)
    readDuration(keepalive, 'time')
    readDuration(keepalive, 'interval')
  })
  if (readDuration(fields, 'maxConnectionDuration') !== undefined) {
    unsupported.add(`${fields.path}.maxConnectionDuration`, 'is not carried out by waypoints; leave it out')
  }
  return {
    limits: { connections: count(fields, 'maxConnections') },
    connections: { connectTimeoutMs: readDuration(fields, 'connectTimeout') },
    idleMs: idleMs === 0 ? Infinity : idleMs
  }
}

function readHttp(fields: Fields, unsupported: Unsupported): Settings {
  const upgrade = fields.choice('h2UpgradePolicy', ['DEFAULT', 'DO_NOT_UPGRADE', 'UPGRADE'], 'DEFAULT')
  if (fields.flag('useClientProtocol', false)) {
    const remedy = "leave it out, and name the port's protocol in appProtocol"
    unsupported.add(`${fields.path}.useClientProtocol`, `is not carried out by waypoints; ${remedy}`)
  }
  const keepAlive = readInner(fields, 'http2KeepAlive', inner => {
    readDuration(inner, 'interval')
    readDuration(inner, 'timeout')
    return true
  })
  if (keepAlive === true) {
    unsupported.add(`${fields.path}.http2KeepAlive`, 'is not carried out by waypoints; leave it out')
  }
  return {
    limits: {
      pending: count(fields, 'http1MaxPendingRequests'),
      requests: count(fields, 'http2MaxRequests'),
      retries: count(fields, 'maxRetries')
    },
    connections: {
      maxRequestsPerConnection: count(fields, 'maxRequestsPerConnection'),
      maxConcurrentStreams: count(fields, 'maxConcurrentStreams'),
      upgradeToHttp2: upgrade === 'UPGRADE'
    },
    idleMs: readDuration(fields, 'idleTimeout')
  }
}

/** 0 is what these fields say when nobody set them: no limit. */
function count(fields: Fields, name: string): number {
  return fields.integer(name, 0, mostCount) || Infinity
}
