/** The kinds of configuration that only a gateway takes. */
import type { Config } from '../config.ts'
import type { ConfigType } from '../config-types.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { readTlsRoute, tlsStandIn } from '../routes/tls-route.ts'
import type { GatewayState } from './gateway-state.ts'
import { readBackendCertificate, readGateway, readServerCertificate } from './gateway.ts'

/** By type URL, in the order in which they are asked for: ports are opened when what applies to them is known. */
export function gatewayTypes(
  state: GatewayState,
  { podNamespace, gateway, clusterDomain }: Pick<Config, 'podNamespace' | 'gateway' | 'clusterDomain'>,
  log: Logger
): ReadonlyMap<string, ConfigType> {
  const own = `${podNamespace}/${gateway.name}`
  return new Map<string, ConfigType>([
    [
      'gateway.networking.k8s.io/v1/TLSRoute',
      {
        has: name => state.tlsRoutes.has(name),
        put: (name, resource) => state.tlsRoutes.put(name, readTlsRoute(resource, clusterDomain)),
        putStandIn: (name, resource) => state.tlsRoutes.put(name, tlsStandIn(resource, clusterDomain)),
        remove: name => state.tlsRoutes.remove(name)
      }
    ],
    [
      'core/v1/Secret',
      {
        has: name => state.hasCertificate(name),
        put: (name, resource) => {
          try {
            state.putCertificate(name, readServerCertificate(resource))
          } catch (error) {
            if (state.hasCertificate(name)) throw error
            // Not refused: a gateway begins when all that it is told is taken, and one certificate is not all.
            const fields = { secret: name, error: messageOf(error) }
            log.error('a certificate cannot be used: its listeners refuse clients', fields)
          }
        },
        putStandIn: () => undefined,
        remove: name => state.removeCertificate(name)
      }
    ],
    [
      'gateway.networking.k8s.io/v1/Gateway',
      {
        has: () => true, // without listeners nothing is let in
        put: (name, resource) => {
          if (name !== own) return
          const certificate = readBackendCertificate(resource)
          state.setListeners(readGateway(resource))
          state.setBackendCertificate(certificate)
        },
        putStandIn: () => undefined,
        remove: name => {
          if (name !== own) return
          state.setListeners([])
          state.setBackendCertificate(undefined)
        }
      }
    ]
  ])
}
