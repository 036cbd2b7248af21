/**
 * The HTTP ports: metrics, version, /debug and the explanation of connections on 15014, readiness on 8080.
 * Source of the paths: istiod's.
 */
import { isLoopback, parseIp, type Ip } from '../../shared/net/address.ts'
import {
  HttpProblem,
  jsonAnswer,
  serveAdmin,
  type AdminRequest,
  type AdminServer,
  type Handler,
  type Route
} from '../../shared/runtime/admin-http.ts'
import { packageVersion } from '../../shared/runtime/package-version.ts'
import type { Readiness } from '../../shared/runtime/readiness.ts'
import { metricsAnswer } from '../../shared/telemetry/exposition.ts'
import { answerLogging, levelsOf } from '../../shared/telemetry/log-levels.ts'
import type { LogOutput } from '../../shared/telemetry/logger.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import type { Config } from '../config.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import type { Explain } from './explain.ts'
import { metricFamilies } from '../metrics.ts'
import type { TokenAuthenticator } from '../access/token.ts'
import type { Watch } from '../cluster/watch.ts'
import { buildInfo } from '../xds/debug-stream.ts'
import type { DebugPage } from './debug.ts'

export interface HttpOptions {
  readonly config: Pick<Config, 'ports' | 'debugAuthentication' | 'mesh'>
  readonly listen: Ip
  readonly desired: DesiredState
  /** By the name that follows `/debug/`. */
  readonly debug: ReadonlyMap<string, DebugPage>
  readonly metrics: Metrics<typeof metricFamilies>
  readonly readiness: Readiness
  readonly tokens: TokenAuthenticator
  readonly watching: Watch
  readonly logs: LogOutput
  readonly explain: Explain | undefined
}

export interface HttpServers {
  readonly monitoring: AdminServer
  readonly ready: AdminServer
}

export async function serveHttp(options: HttpOptions): Promise<HttpServers> {
  const { config, listen, logs } = options
  const logger = logs.logger('http')
  const { ports } = config
  const levels = levelsOf(logs)
  const readyRoutes: readonly Route[] = [
    { method: 'GET', path: '/ready', handle: ready(options) },
    ...debug(options)
  ]
  const monitoring = await serveAdmin({
    listen: [{ ip: listen, port: ports.monitoring }],
    logger,
    routes: [
      {
        method: 'GET',
        path: '/metrics',
        handle: async request => metricsAnswer(request, metricFamilies, options.metrics.snapshot())
      },
      {
        method: 'GET',
        path: '/version',
        handle: () => jsonAnswer(versionAnswer(config.mesh.revision))
      },
      {
        method: 'ANY',
        path: '/logging',
        handle: guarded(options, request => answerLogging(levels, request))
      },
      ...explanation(options),
      ...readyRoutes
    ]
  })
  try {
    const readyServer = await serveAdmin({
      listen: [{ ip: listen, port: ports.ready }],
      logger,
      routes: readyRoutes
    })
    return { monitoring, ready: readyServer }
  } catch (error) {
    await monitoring.close()
    throw error
  }
}

/** `clientVersion` is where istioctl looks for the version. */
function versionAnswer(revision: string): object {
  const version = packageVersion()
  return { version, revision, clientVersion: buildInfo(version) }
}

function ready({ readiness, watching }: HttpOptions): Handler {
  return () => {
    const pending = readiness.pending()
    const reasons = watching.problems().map(problem => `  ${problem}\n`)
    // What is known goes on being served when the API server is gone: that is no reason to take clients away.
    if (pending.length === 0) return { body: `ready\n${reasons.join('')}` }
    return { status: 503, body: `waiting for: ${pending.join(', ')}\n${reasons.join('')}` }
  }
}

function debug(options: HttpOptions): readonly Route[] {
  return [...options.debug].map(([name, page]) => ({
    method: 'GET',
    path: `/debug/${name}`,
    handle: guarded(options, request => jsonAnswer(page(request.query)))
  }))
}

function explanation({ explain, desired, ...options }: HttpOptions): readonly Route[] {
  if (explain === undefined) return []
  const handle: Handler = async request => jsonAnswer(await explain(desired, await request.json()))
  return [{ method: 'POST', path: '/v1/explain', handle: guarded(options, handle) }]
}

/** What the mesh holds is for those who may ask: from this machine (a port-forward), or with a token of the system namespace. */
export function guarded(options: Pick<HttpOptions, 'config' | 'tokens'>, handle: Handler): Handler {
  return async request => {
    if (options.config.debugAuthentication && !isLocal(request)) {
      const answer = await options.tokens.authenticate(request.headers.authorization)
      if (answer.kind !== 'caller') throw new HttpProblem(401, answer.reason)
      if (answer.caller.namespace !== options.config.mesh.systemNamespace) {
        throw new HttpProblem(
          403,
          `only accounts of namespace ${options.config.mesh.systemNamespace} may ask`
        )
      }
    }
    return handle(request)
  }
}

function isLocal(request: AdminRequest): boolean {
  const address = parseIp(request.remoteAddress)
  return address !== undefined && isLoopback(address)
}
