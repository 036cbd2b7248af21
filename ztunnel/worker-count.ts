/** How many threads carry traffic. */
import type { EnvReader } from '../shared/runtime/env.ts'
import type { ProxyConfig } from './proxy-config.ts'

/**
 * Source: Istio ztunnel: an explicit number or share of the cores, else
 * ProxyConfig concurrency (0 = all cores), else the CPU limit, else a quarter of the cores and at least 2.
 */
export function readWorkerCount(env: EnvReader, proxyConfig: ProxyConfig, machineCores: number): number {
  const limit = env.integer('ZTUNNEL_CPU_LIMIT', 0, 'Number of cores to count on; 0 = those of the machine')
  const cores = limit > 0 ? Math.min(limit, machineCores) : machineCores
  const wanted = env.optional(
    'ZTUNNEL_WORKER_THREADS',
    'Threads that carry traffic: a number (0 = one for each core) or N%'
  )
  const resourceLimit = env.integer('ZTUNNEL_RESOURCE_CPU_LIMIT', 0, "The container's CPU limit in cores")
  const resourceRequest = env.integer(
    'ZTUNNEL_RESOURCE_CPU_REQUEST',
    0,
    "The container's CPU request in cores"
  )
  if (wanted !== undefined) {
    const [, number, percent] = /^(\d+)(%?)$/.exec(wanted) ?? []
    if (number === undefined || (percent === '%' && Number(number) > 100)) {
      env.problem(
        `ZTUNNEL_WORKER_THREADS=${JSON.stringify(wanted)}: expected a number or a percentage up to 100%`
      )
      return 1
    }
    if (percent === '%') return Math.max(1, Math.ceil((cores * Number(number)) / 100))
    return Number(number) === 0 ? cores : Number(number)
  }
  if (proxyConfig.concurrency !== undefined)
    return proxyConfig.concurrency === 0 ? cores : proxyConfig.concurrency
  if (resourceLimit > 0) return Math.max(resourceLimit, resourceRequest)
  return Math.max(Math.ceil(cores / 4), resourceRequest, 2)
}
