/** What is counted of the process itself. */
import { readFileSync, readdirSync } from 'node:fs'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import type { mainFamilies } from './families.ts'

export function countProcess(
  metrics: Metrics<typeof mainFamilies>,
  istioVersion: string,
  workers: number
): void {
  metrics.series('istio_build', 'ztunnel', istioVersion).set(1)
  metrics.series('underpass_workers').set(workers)
  const limits = readFileSync('/proc/self/limits', 'utf8')
  metrics.series('process_max_fds').set(Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 0))
  metrics.onCollect(() => metrics.series('process_open_fds').set(readdirSync('/proc/self/fd').length))
}
