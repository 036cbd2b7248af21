/** What an operator may ask a waypoint, on loopback: what it knows, and how much it says. */
import type { CertificateStore } from '../shared/identity/certificate-store.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import { jsonAnswer, type Route } from '../shared/runtime/admin-http.ts'
import { answerLogging, levelsOf } from '../shared/telemetry/log-levels.ts'
import type { LogOutput } from '../shared/telemetry/logger.ts'
import type { Config } from './config.ts'
import { readImaginedRequest, type ImaginedRequest, type RequestExplanation } from './explain.ts'
import type { GatewayState } from './gateway/gateway-state.ts'
import type { RouteStore } from './routes/route-store.ts'
import type { BackendTlsPolicies } from './upstream/backend-tls-policies.ts'
import type { VirtualServiceStore } from './virtual-services/virtual-service-store.ts'

export interface AdminDeps {
  readonly config: Config
  readonly view: () => MeshView
  readonly routes: RouteStore
  readonly virtualServices: Pick<VirtualServiceStore, 'all'>
  readonly backendTls: Pick<BackendTlsPolicies, 'all'>
  readonly gateway: GatewayState
  readonly certificates: Pick<CertificateStore, 'dump'>
  readonly xds: () => unknown
  readonly explain: (request: ImaginedRequest) => RequestExplanation
  readonly output: LogOutput
}

export function adminRoutes({
  config,
  view,
  routes,
  virtualServices,
  backendTls,
  gateway,
  certificates,
  xds,
  explain,
  output
}: AdminDeps): readonly Route[] {
  const levels = levelsOf(output)
  return [
    {
      method: 'GET',
      path: '/config_dump',
      handle: () =>
        jsonAnswer({
          self: { ...config.self, identity: config.identity },
          xds: xds(),
          certificates: certificates.dump().map(({ identity, state }) => ({ identity, state })),
          services: [...view().services()].map(({ ports, protocols, ...service }) => ({
            ...service,
            ports: Object.fromEntries(ports),
            protocols: Object.fromEntries(protocols)
          })),
          workloads: [...view().workloads()].map(({ uid, addresses, status }) => ({
            uid,
            addresses,
            status
          })),
          routes: [...routes.all()],
          virtualServices: [...virtualServices.all()],
          backendTls: [...backendTls.all()],
          ...(config.role === 'gateway' ? { gateway: gateway.dump() } : {})
        })
    },
    {
      method: 'POST',
      path: '/v1/explain',
      handle: async request => {
        const result = explain(readImaginedRequest(await request.json()))
        return jsonAnswer({ apiVersion: 'underpass.dev/v1', state: config.podName, result })
      }
    },
    { method: 'ANY', path: '/logging', handle: request => answerLogging(levels, request) }
  ]
}
