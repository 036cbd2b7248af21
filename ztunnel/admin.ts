/** The admin interface on loopback: what istioctl asks of a ztunnel, and our own paths under /v1. */
import type { CertificateStore } from '../shared/identity/certificate-store.ts'
import { explainEndpoint } from '../shared/mesh/explain-endpoint.ts'
import type { MeshView } from '../shared/mesh/view.ts'
import {
  HttpProblem,
  jsonAnswer,
  type AdminRequest,
  type Answer,
  type Route
} from '../shared/runtime/admin-http.ts'
import type { Readiness } from '../shared/runtime/readiness.ts'
import { answerLogging, type LogLevels } from '../shared/telemetry/log-levels.ts'
import type { Config } from './config.ts'
import { certificateJson, configDump, type DumpSources } from './config-dump.ts'
import type { Pods } from './pods.ts'
import { pprofOf, type V8Profile } from './pprof.ts'
import { printedConfig } from './printed-config.ts'
import { cpuProfile, heapProfile } from './profile.ts'
import type { Watchers } from './watchers.ts'
import type { Workers } from './workers.ts'

export interface AdminDeps {
  readonly config: Config
  readonly version: Record<string, string>
  readonly view: () => MeshView
  readonly certificates: CertificateStore
  readonly pods: Pods
  readonly workers: Workers
  readonly watchers: Watchers
  readonly readiness: Readiness
  readonly staticConfig: () => Promise<DumpSources['staticConfig']>
  readonly levels: LogLevels
  /** State of the connection to the control plane. */
  readonly xds: () => unknown
  readonly shutDown: () => void
}

export function adminRoutes(deps: AdminDeps): readonly Route[] {
  const { workers, watchers, pods, readiness } = deps
  const { network, outboundTrafficPolicy } = deps.config.data
  return [
    {
      method: 'ANY',
      path: '/',
      handle: () => ({ contentType: 'text/html; charset=utf-8', body: indexPage })
    },
    { method: 'ANY', path: '/config_dump', handle: async () => jsonAnswer(await dump(deps)) },
    { method: 'ANY', path: '/logging', handle: request => answerLogging(deps.levels, request) },
    { method: 'ANY', path: '/quitquitquit', handle: request => quit(deps, request) },
    { method: 'ANY', path: '/debug/pprof/profile', handle: async request => profile(deps, request) },
    { method: 'ANY', path: '/debug/pprof/heap', handle: async () => heap(deps) },
    { method: 'GET', path: '/v1/version', handle: () => jsonAnswer(deps.version) },
    {
      method: 'GET',
      path: '/v1/healthz',
      handle: () =>
        jsonAnswer({ ready: readiness.ready(), pending: readiness.pending() }, readiness.ready() ? 200 : 503)
    },
    { method: 'GET', path: '/v1/pods', handle: () => jsonAnswer(pods.states()) },
    { method: 'GET', path: '/v1/connections', handle: async request => connections(request) },
    {
      method: 'GET',
      path: '/v1/certs',
      handle: () => jsonAnswer(deps.certificates.dump().map(certificateJson))
    },
    { method: 'GET', path: '/v1/xds', handle: () => jsonAnswer(deps.xds()) },
    { method: 'POST', path: '/v1/tap', handle: async request => watchers.watch(await request.json()) },
    explainEndpoint(deps.view, 'ztunnel', { network, outboundTrafficPolicy })
  ]

  async function connections(request: AdminRequest): Promise<ReturnType<Watchers['watch']> | Answer> {
    const live = await liveConnections(workers)
    if (request.query.get('follow') !== 'true') return jsonAnswer(live)
    const stream = watchers.watch(undefined)
    return {
      ...stream,
      run: async (sink, signal) => {
        for (const { uid, connections: open } of live) {
          for (const connection of open)
            sink.write(`${JSON.stringify({ kind: 'open', pod: uid, ...connection })}\n`)
        }
        await stream.run(sink, signal)
      }
    }
  }
}

/** One list for each pod, whichever workers carry its connections. */
async function liveConnections(workers: Workers): Promise<DumpSources['connections']> {
  const perWorker = (await workers.askAll('connections', undefined)).flat()
  const byPod = Map.groupBy(perWorker, ({ uid }) => uid)
  return [...byPod].map(([uid, parts]) => ({
    uid,
    connections: parts.flatMap(({ connections }) => connections).toSorted((a, b) => b.ageMs - a.ageMs)
  }))
}

async function dump(deps: AdminDeps): Promise<Record<string, unknown>> {
  const { config, view, certificates, pods, workers, staticConfig, version } = deps
  return configDump({
    view: view(),
    certificates: certificates.dump(),
    pods: pods.states(),
    connections: await liveConnections(workers),
    config: printedConfig(config),
    staticConfig: await staticConfig(),
    version
  })
}

function quit(deps: AdminDeps, request: AdminRequest): Answer {
  if (request.method !== 'POST')
    return { status: 405, headers: { allow: 'POST' }, body: 'Invalid HTTP method\n' }
  setImmediate(deps.shutDown)
  return { body: 'shutdown now\n' }
}

/** pprof by default; `format=cpuprofile` gives V8's own JSON, one object for each thread. */
async function profile({ workers }: AdminDeps, { query }: AdminRequest): Promise<Answer> {
  const seconds = inRange(query, 'seconds', 10, 300)
  const frequency = inRange(query, 'frequency', 100, 1000)
  const [main, threads] = await Promise.all([
    cpuProfile(seconds, frequency),
    workers.askAll('cpuProfile', { seconds, frequency })
  ])
  const all = [main, ...threads].map((text, index) => ({
    thread: index === 0 ? 'main' : `worker ${index - 1}`,
    profile: JSON.parse(text) as V8Profile
  }))
  if (query.get('format') === 'cpuprofile') return jsonAnswer(all)
  const headers = { 'content-disposition': 'attachment; filename="cpu.pb.gz"' }
  return { contentType: 'application/octet-stream', headers, body: pprofOf(all, frequency) }
}

/** V8's sampling heap profile of each thread. */
async function heap({ workers }: AdminDeps): Promise<Answer> {
  const [main, threads] = await Promise.all([heapProfile(), workers.askAll('heapProfile', undefined)])
  return jsonAnswer(
    [main, ...threads].map((text, index) => ({
      thread: index === 0 ? 'main' : `worker ${index - 1}`,
      memory: index === 0 ? process.memoryUsage() : undefined,
      profile: JSON.parse(text) as unknown
    }))
  )
}

function inRange(query: URLSearchParams, name: string, fallback: number, max: number): number {
  const text = query.get(name)
  const value = text === null ? fallback : Number(text)
  if (Number.isInteger(value) && value >= 1 && value <= max) return value
  throw new HttpProblem(400, `${name} is a whole number from 1 to ${max}`)
}

const indexPage = `<!DOCTYPE html>
<html lang="en">
<head><title>ztunnel admin</title></head>
<body>
<h1>ztunnel</h1>
<table>
<tr><td><a href="config_dump">config_dump</a></td><td>everything that this ztunnel holds</td></tr>
<tr><td>POST /logging?level=…</td><td>log levels</td></tr>
<tr><td>POST /quitquitquit</td><td>shut down</td></tr>
<tr><td><a href="debug/pprof/profile">debug/pprof/profile</a></td><td>CPU profile (seconds, frequency, format)</td></tr>
<tr><td><a href="debug/pprof/heap">debug/pprof/heap</a></td><td>heap profile</td></tr>
<tr><td><a href="v1/version">v1/version</a></td><td>what runs</td></tr>
<tr><td><a href="v1/healthz">v1/healthz</a></td><td>what it waits for</td></tr>
<tr><td><a href="v1/pods">v1/pods</a></td><td>pods that it carries</td></tr>
<tr><td><a href="v1/connections">v1/connections</a></td><td>live connections (follow=true streams)</td></tr>
<tr><td><a href="v1/certs">v1/certs</a></td><td>workload certificates</td></tr>
<tr><td><a href="v1/xds">v1/xds</a></td><td>the connection to the control plane</td></tr>
<tr><td>POST /v1/tap</td><td>connections as they come and go</td></tr>
<tr><td>POST /v1/explain</td><td>which path a connection would take, and why</td></tr>
</table>
</body>
</html>
`
