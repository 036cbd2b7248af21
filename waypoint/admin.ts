/** What an operator may ask a waypoint, on loopback: what it knows, and how much it says. */
import type { CertificateStore } from '../shared/identity/certificate-store.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import { HttpProblem, jsonAnswer, type Route } from '../shared/runtime/admin-http.ts'
import { formatLogFilter, parseLogFilter, type LogOutput } from '../shared/telemetry/logger.ts'
import type { Config } from './config.ts'
import { readImaginedRequest, type ImaginedRequest, type RequestExplanation } from './explain.ts'
import type { RouteStore } from './routes/route-store.ts'

export interface AdminDeps {
  readonly config: Config
  readonly view: () => MeshView
  readonly routes: RouteStore
  readonly certificates: Pick<CertificateStore, 'dump'>
  readonly xds: () => unknown
  readonly explain: (request: ImaginedRequest) => RequestExplanation
  readonly output: LogOutput
}

export function adminRoutes({
  config,
  view,
  routes,
  certificates,
  xds,
  explain,
  output
}: AdminDeps): readonly Route[] {
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
          routes: [...routes.all()]
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
    {
      method: 'POST',
      path: '/logging',
      handle: ({ query }) => {
        const text = query.get('level')
        if (text === null) return { body: `active log levels: ${formatLogFilter(output.filter)}\n` }
        const filter = parseLogFilter(text, output.filter)
        if (filter === undefined) throw new HttpProblem(400, `level=${text}: expected [target=]level,…`)
        output.setFilter(filter)
        return { body: `active log levels: ${formatLogFilter(filter)}\n` }
      }
    }
  ]
}
