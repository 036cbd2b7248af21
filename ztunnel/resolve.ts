/** Addresses of workloads that are known by host name only, asked of the node's resolver. */
import dns from 'node:dns/promises'
import type { Workload } from '../shared/mesh/model.ts'
import type { Route } from '../shared/mesh/route.ts'
import { ipFamily, parseIp, type Ip } from '../shared/net/address.ts'
import { MeshError } from '../shared/runtime/errors.ts'
import { inTime } from '../shared/runtime/in-time.ts'
import { sourceLabelValues } from '../shared/telemetry/traffic-metrics.ts'
import type { Pod } from './pod.ts'

/** Throws MeshError CONNECT_FAILED. Prefers the family that the client used. */
export async function resolveHostname(
  pod: Pod,
  source: Workload,
  route: Route & { kind: 'resolve' }
): Promise<Ip> {
  const { hostname, prefer } = route
  pod.metrics.series('istio_on_demand_dns_total', ...sourceLabelValues(source), hostname).add()
  let addresses: readonly Ip[]
  try {
    addresses = await addressesOf(pod, hostname)
  } catch (cause) {
    throw new MeshError(
      'CONNECT_FAILED',
      `no ip addresses were resolved for workload ${route.workload.uid} (${hostname})`,
      { cause }
    )
  }
  const preferred = addresses.filter(ip => ipFamily(ip) === prefer)
  const candidates = preferred.length > 0 ? preferred : addresses
  const chosen = candidates[Math.floor(pod.random() * candidates.length)]
  if (chosen === undefined)
    throw new MeshError('CONNECT_FAILED', `dns response had no valid IP addresses for ${hostname}`)
  return chosen
}

/** What the node's resolver says of a name. Throws what it says when it knows none, or nothing in time. */
export async function addressesOf({ config }: Pod, hostname: string): Promise<readonly Ip[]> {
  const lookup = dns.lookup(hostname, { all: true, family: config.ipv6 ? 0 : 4 })
  const { connectTimeoutMs } = config
  const late = `the resolver did not answer within ${connectTimeoutMs} ms`
  const answers = await inTime(lookup, connectTimeoutMs, late)
  return answers.map(({ address }) => parseIp(address)).filter(ip => ip !== undefined)
}
