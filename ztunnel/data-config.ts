/** The part of ztunnel's configuration that the threads with the connections need; plain values, so that it can be posted. */
import type { EnvReader } from '../shared/runtime/env.ts'
import { readDnsConfig, type DnsConfig, type DnsConfigContext } from './dns/config.ts'

/** Where SOCKS5 listens when it does. */
export const SOCKS_PORT = 15_080

export interface DataConfig {
  readonly network: string
  readonly clusterId: string
  /** Ports of the listeners in each pod. Only tests move them. */
  readonly ports: { readonly outbound: number; readonly inbound: number; readonly passthrough: number }
  /** Listen for SOCKS5 on the pod's loopback. */
  readonly socks5: boolean
  readonly ipv6: boolean
  /** Mark of every socket that we make in a pod; undefined sets none. */
  readonly packetMark: number | undefined
  readonly portReuse: boolean
  readonly originalSource: 'auto' | 'always' | 'never'
  readonly keepAlive:
    | { readonly idleSeconds: number; readonly intervalSeconds: number; readonly probes: number }
    | undefined
  /** TCP_USER_TIMEOUT in milliseconds; undefined leaves the kernel's. */
  readonly userTimeoutMs: number | undefined
  readonly pool: { readonly maxStreams: number; readonly unusedReleaseMs: number }
  readonly http2: {
    readonly streamWindow: number
    readonly connectionWindow: number
    readonly frameSize: number
  }
  readonly localhostAppTunnel: boolean
  readonly responseBaggage: boolean
  readonly logPolicyDecisions: boolean
  readonly tls12: boolean
  readonly compliance: 'none' | 'pqc'
  readonly sameNode: 'tunnel' | 'direct'
  readonly nodeName: string
  readonly outboundTrafficPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY'
  readonly connectTimeoutMs: number
  /** 0 = connections may be idle for ever. */
  readonly idleTimeoutMs: number
  readonly dialRetries: number
  readonly loadBalancing: 'random' | 'least-request'
  /** Addresses are asked for when connections go to them. */
  readonly onDemand: boolean
  /** Undefined: nobody answers the pods' DNS queries. */
  readonly dns: DnsConfig | undefined
}

export interface DataConfigContext {
  readonly mode: 'shared' | 'dedicated'
  readonly clusterId: string
  readonly nodeName: string
  readonly dns: Pick<DnsConfigContext, 'domain' | 'metadata' | 'readFile'>
}

export function readDataConfig(env: EnvReader, context: DataConfigContext): DataConfig {
  const { mode, clusterId, nodeName } = context
  const ipv6 = env.flag('IPV6_ENABLED', true, 'Listen on IPv6 too')
  const onDemand = env.flag('XDS_ON_DEMAND', false, 'Ask only for the addresses that connections go to')
  return {
    network: env.text('NETWORK', '', 'Name of the own network'),
    clusterId,
    nodeName,
    ports: {
      outbound: env.port('UNDERPASS_OUTBOUND_PORT', 15001, 'Port of captured outgoing connections'),
      inbound: env.port('UNDERPASS_INBOUND_PORT', 15008, 'Port of HBONE'),
      passthrough: env.port(
        'UNDERPASS_PASSTHROUGH_PORT',
        15006,
        'Port of captured incoming plaintext connections'
      )
    },
    socks5: env.flag(
      'UNSTABLE_ENABLE_SOCKS5',
      false,
      "SOCKS5 on port 15080 of the pod's loopback, for trying things without capture"
    ),
    ipv6,
    packetMark: packetMark(env, mode),
    portReuse: env.flag(
      'INPOD_PORT_REUSE',
      true,
      'SO_REUSEPORT, so that an old and a new ztunnel overlap in an upgrade'
    ),
    originalSource: originalSource(env),
    ...keepAlive(env),
    pool: {
      maxStreams: env.integer('POOL_MAX_STREAMS_PER_CONNECTION', 100, 'Connections in one HBONE session', {
        min: 1,
        max: 65_535
      }),
      unusedReleaseMs: env.duration(
        'POOL_UNUSED_RELEASE_TIMEOUT',
        '5m',
        'Idle time after which a session is let go'
      )
    },
    http2: http2(env),
    localhostAppTunnel: env.flag('LOCALHOST_APP_TUNNEL', true, 'Dial a sandboxed waypoint over loopback'),
    responseBaggage: env.flag(
      'ENABLE_RESPONSE_BAGGAGE',
      true,
      'Describe the destination in the CONNECT response, and read it'
    ),
    logPolicyDecisions: env.flag('AUTHZ_POLICY_INFO_LOGGING', false, 'Log policy decisions at info'),
    tls12: env.flag('TLS12_ENABLED', false, 'Take TLS 1.2 too'),
    compliance: env.choice(
      'COMPLIANCE_POLICY',
      ['none', 'pqc'],
      'none',
      'pqc allows the key exchange X25519MLKEM768 only'
    ),
    sameNode: env.choice(
      'UNDERPASS_SAME_NODE',
      ['tunnel', 'direct'],
      'tunnel',
      'How two pods of one node talk: by TLS like all others, or inside ztunnel with the same checks'
    ),
    outboundTrafficPolicy: env.choice(
      'UNDERPASS_OUTBOUND_TRAFFIC_POLICY',
      ['ALLOW_ANY', 'REGISTRY_ONLY'],
      'ALLOW_ANY',
      'What happens with destinations that nobody registered'
    ),
    connectTimeoutMs: env.duration(
      'UNDERPASS_CONNECT_TIMEOUT',
      '10s',
      'Longest time to wait for a connection'
    ),
    idleTimeoutMs: env.duration(
      'UNDERPASS_IDLE_TIMEOUT',
      '0',
      'Close connections without a byte for so long; 0 never'
    ),
    dialRetries: env.integer('UNDERPASS_DIAL_RETRIES', 2, 'Other endpoints to try when a dial fails', {
      max: 10
    }),
    loadBalancing: env.choice(
      'UNDERPASS_LOAD_BALANCING',
      ['random', 'least-request'],
      'random',
      'How an endpoint is chosen'
    ),
    onDemand,
    dns: readDnsConfig(env, { ...context.dns, mode, ipv6, onDemand })
  }
}

function packetMark(env: EnvReader, mode: 'shared' | 'dedicated'): number | undefined {
  const text = env.optional('PACKET_MARK', 'SO_MARK of our sockets; 1337 in shared mode, else none')
  if (text === undefined) return mode === 'shared' ? 1337 : undefined
  const mark = /^\d+$/.test(text) ? Number(text) : NaN
  if (!(mark <= 0xffffffff)) env.problem(`PACKET_MARK=${JSON.stringify(text)}: expected a number of 32 bits`)
  return mark
}

function keepAlive(env: EnvReader): Pick<DataConfig, 'keepAlive' | 'userTimeoutMs'> {
  const enabled = env.flag('KEEPALIVE_ENABLED', true, 'TCP keepalive on application connections')
  const idle = env.duration('KEEPALIVE_TIME', '180s', 'Idle time before the first keepalive probe')
  const interval = env.duration('KEEPALIVE_INTERVAL', '180s', 'Time between keepalive probes')
  const probes = env.integer('KEEPALIVE_RETRIES', 9, 'Unanswered probes before a connection is dead', {
    min: 1,
    max: 127
  })
  const userTimeout = env.flag(
    'USER_TIMEOUT_ENABLED',
    false,
    'Also give up sent data that stays unacknowledged as long'
  )
  return {
    keepAlive: enabled
      ? { idleSeconds: seconds(idle), intervalSeconds: seconds(interval), probes }
      : undefined,
    userTimeoutMs: userTimeout ? idle + interval * probes : undefined
  }
}

function http2(env: EnvReader): DataConfig['http2'] {
  const streamWindow = env.integer(
    'HTTP2_STREAM_WINDOW_SIZE',
    4 << 20,
    'Unread bytes of one connection in a session',
    { min: 65_535, max: 0x7fffffff }
  )
  const connectionWindow = env.integer(
    'HTTP2_CONNECTION_WINDOW_SIZE',
    16 << 20,
    'Unread bytes of a whole session',
    { min: 65_535, max: 0x7fffffff }
  )
  const frameSize = env.integer('HTTP2_FRAME_SIZE', 1 << 20, 'Largest HTTP/2 frame to take', {
    min: 16_384,
    max: 16_777_215
  })
  if (connectionWindow <= streamWindow) {
    env.problem(
      'HTTP2_CONNECTION_WINDOW_SIZE must be larger than HTTP2_STREAM_WINDOW_SIZE, or one slow reader stops its whole session'
    )
  }
  return { streamWindow, connectionWindow, frameSize }
}

function originalSource(env: EnvReader): DataConfig['originalSource'] {
  const text = env.optional(
    'ENABLE_ORIG_SRC',
    "Connect to applications from the client's address; unset = where it is allowed"
  )
  if (text === undefined) return 'auto'
  if (text === 'true') return 'always'
  if (text !== 'false') env.problem(`ENABLE_ORIG_SRC=${JSON.stringify(text)}: expected true or false`)
  return 'never'
}

function seconds(ms: number): number {
  return Math.max(1, Math.round(ms / 1000))
}
