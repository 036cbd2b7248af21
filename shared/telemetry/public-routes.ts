/** What others may ask: metrics on 15020, readiness on 15021. */
import { HttpProblem, type Route } from '../runtime/admin-http.ts'
import type { Readiness } from '../runtime/readiness.ts'
import type { MetricFamilies, MetricsSnapshot } from './metrics.ts'

export function statsRoutes(
  families: MetricFamilies,
  snapshot: () => Promise<MetricsSnapshot>
): readonly Route[] {
  return ['/metrics', '/stats/prometheus'].map(path => ({
    method: 'GET',
    path,
    handle: async request => {
      const { metricsAnswer } = await import('./exposition.ts') // nobody may ever ask
      return metricsAnswer(request, families, await snapshot())
    }
  }))
}

export function readinessRoute(readiness: Readiness): Route {
  return {
    method: 'ANY',
    path: '/healthz/ready',
    handle: request => {
      if (request.method !== 'GET' && request.method !== 'HEAD')
        throw new HttpProblem(405, 'Invalid HTTP method')
      if (readiness.ready()) return { body: 'ready\n' }
      return { status: 500, body: `not ready, pending: ${readiness.pending().join(', ')}\n` }
    }
  }
}
