/** The mesh view written the obvious way over plain lists: what the shared-memory one is compared with. */
import { cidrContains, type Ip } from '../../shared/net/address.ts'
import {
  policyKey,
  serviceKey,
  type Endpoint,
  type Policy,
  type Service,
  type Workload
} from '../../shared/mesh/model.ts'

export class PlainView {
  readonly workloads = new Map<string, Workload>()
  readonly services = new Map<string, Service>()
  readonly policies = new Map<string, Policy>()

  workloadByAddress(network: string, ip: Ip): Workload | undefined {
    const rank = ({ uid, protocol }: Workload): number =>
      (uid.includes('//Pod/') ? 2 : 0) + (protocol === 'HBONE' ? 1 : 0)
    const claims = [...this.workloads.values()].filter(
      workload =>
        workload.networkMode === 'Standard' && workload.network === network && workload.addresses.includes(ip)
    )
    return claims.toReversed().toSorted((a, b) => rank(b) - rank(a))[0]
  }

  serviceByAddress(network: string, ip: Ip, client: string): Service | undefined {
    const visible = this.#visible(client)
    const exact = visible.filter(({ vips }) => vips.some(vip => vip.network === network && vip.ip === ip))
    if (exact.length > 0) return exact.toSorted((a, b) => this.#rank(b, client) - this.#rank(a, client))[0]
    const prefix = ({ cidrVips }: Service): number =>
      Math.max(
        ...cidrVips.map(({ network: own, cidr }) =>
          own === network && cidrContains(cidr, ip) ? cidr.length : -1
        ),
        -1
      )
    const own = (service: Service): number => (service.namespace === client ? 1 : 0)
    return visible
      .filter(service => prefix(service) >= 0)
      .toSorted(
        (a, b) => own(b) - own(a) || prefix(b) - prefix(a) || Number(b.canonical) - Number(a.canonical)
      )[0]
  }

  serviceByHostname(hostname: string, client: string): Service | undefined {
    return this.#visible(client)
      .filter(service => service.hostname === hostname)
      .toSorted((a, b) => this.#rank(b, client) - this.#rank(a, client))[0]
  }

  endpoints(key: string): readonly Endpoint[] {
    const service = this.services.get(key)
    if (service === undefined) return []
    const all = service.loadBalancer?.healthPolicy === 'AllowAll'
    return [...this.workloads.values()]
      .filter(({ services, status }) => services.has(key) && (all || status === 'Healthy'))
      .map(({ uid, services, status }) => ({
        workloadUid: uid,
        ports: services.get(key) ?? new Map(),
        status
      }))
  }

  policiesOf(workload: Workload): readonly string[] {
    return [...this.policies.values()]
      .filter(
        policy =>
          policy.scope === 'Global' ||
          (policy.scope === 'Namespace' && policy.namespace === workload.namespace) ||
          workload.authorizationPolicies.includes(policyKey(policy))
      )
      .map(policyKey)
      .toSorted()
  }

  putService(service: Service): void {
    this.services.set(serviceKey(service), service)
  }

  #visible(client: string): Service[] {
    return [...this.services.values()].filter(
      ({ visibility, namespace }) => visibility === 'Public' || namespace === client
    )
  }

  #rank({ namespace, canonical }: Service, client: string): number {
    return (namespace === client ? 2 : 0) + (canonical ? 1 : 0)
  }
}
