/**
 * Envoy as a waypoint, in the three steps that Istio gives one: a listener that ends mutual TLS and CONNECT, an
 * internal listener that reads HTTP and chooses the route, an internal listener that wraps what goes to the pod into
 * CONNECT again. Nothing beside: no access log, no filter but the router, one worker.
 * Source: Envoy's API v3; Istio's published waypoint design.
 */
import type { RouteSet } from './waypoint-routes.ts'

export interface EnvoyWaypoint {
  /** `ip:port` of the application, and where its ztunnel takes tunnels. */
  readonly application: string
  readonly tunnel: { readonly ip: string; readonly port: number }
  /** Files in PEM. */
  readonly files: { readonly chain: string; readonly key: string; readonly roots: string }
  readonly routes: RouteSet
}

/** The bootstrap as Envoy reads it from a JSON file. */
export function envoyBootstrap({ application, tunnel, files, routes }: EnvoyWaypoint): object {
  const credentials = {
    alpn_protocols: ['h2'],
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    tls_certificates: [
      { certificate_chain: { filename: files.chain }, private_key: { filename: files.key } }
    ],
    validation_context: { trusted_ca: { filename: files.roots } }
  }
  const terminate = {
    name: 'terminate',
    address: address('0.0.0.0', 15_008),
    filter_chains: [
      {
        transport_socket: extension('tls', 'transport_sockets.tls.v3.DownstreamTlsContext', {
          require_client_certificate: true,
          common_tls_context: credentials
        }),
        filters: [
          connectionManager({
            stat_prefix: 'terminate',
            codec_type: 'HTTP2',
            http2_protocol_options: { allow_connect: true },
            upgrade_configs: [{ upgrade_type: 'CONNECT' }],
            routes: [
              {
                match: { connect_matcher: {} },
                route: { cluster: 'http', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] }
              }
            ]
          })
        ]
      }
    ]
  }
  const choose = {
    name: 'http',
    internal_listener: {},
    filter_chains: [
      { filters: [connectionManager({ stat_prefix: 'http', codec_type: 'AUTO', routes: routesOf(routes) })] }
    ]
  }
  const wrap = {
    name: 'wrap',
    internal_listener: {},
    filter_chains: [
      {
        filters: [
          extension('tcp', 'filters.network.tcp_proxy.v3.TcpProxy', {
            stat_prefix: 'wrap',
            cluster: 'ztunnel',
            tunneling_config: { hostname: application }
          })
        ]
      }
    ]
  }
  const ztunnel = {
    ...cluster('ztunnel', address(tunnel.ip, tunnel.port)),
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: { allow_connect: true } }
      }
    },
    transport_socket: extension('tls', 'transport_sockets.tls.v3.UpstreamTlsContext', {
      common_tls_context: credentials
    })
  }
  return {
    bootstrap_extensions: [
      {
        name: 'envoy.bootstrap.internal_listener',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener'
        }
      }
    ],
    static_resources: {
      listeners: [terminate, choose, wrap],
      clusters: [cluster('http', internal('http')), cluster('pod', internal('wrap', 'pod')), ztunnel]
    }
  }
}

/** In order of precedence, since Envoy takes the first that matches. */
function routesOf(routes: RouteSet): readonly object[] {
  return routes.map(({ prefix, header, timeout }) => ({
    match: {
      prefix,
      ...(header && { headers: [{ name: header.name, string_match: { exact: header.value } }] })
    },
    route: {
      cluster: 'pod',
      ...(timeout && {
        timeout,
        retry_policy: { retry_on: 'connect-failure,refused-stream,unavailable,cancelled', num_retries: 2 }
      })
    }
  }))
}

function connectionManager({
  routes,
  ...rest
}: {
  readonly stat_prefix: string
  readonly codec_type: string
  readonly routes: readonly object[]
  readonly [setting: string]: unknown
}): object {
  return extension('http', 'filters.network.http_connection_manager.v3.HttpConnectionManager', {
    ...rest,
    http_filters: [extension('router', 'filters.http.router.v3.Router', {})],
    route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], routes }] }
  })
}

function extension(name: string, type: string, settings: object): object {
  return { name, typed_config: { '@type': `type.googleapis.com/envoy.extensions.${type}`, ...settings } }
}

function cluster(name: string, at: object): object {
  return {
    name,
    type: 'STATIC',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: at } }] }] }
  }
}

function address(ip: string, port: number): object {
  return { socket_address: { address: ip, port_value: port } }
}

function internal(listener: string, endpoint?: string): object {
  return {
    envoy_internal_address: { server_listener_name: listener, ...(endpoint && { endpoint_id: endpoint }) }
  }
}
