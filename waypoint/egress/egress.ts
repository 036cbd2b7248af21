/**
 * The way out of the mesh: where the endpoints of a ServiceEntry are that are no addresses, at the moment of a request or
 * connection. Source: `resolution` of Istio's ServiceEntry.
 */
import type { Authority } from '../../shared/hbone/connect.ts'
import { cidrContains, parseIp, type Cidr, type Ip } from '../../shared/net/address.ts'
import { serviceKey, type Service, type Workload } from '../../shared/mesh/model.ts'
import { usableEndpoints, type UsableEndpoint } from '../../shared/mesh/pick.ts'
import type { MeshView } from '../../shared/mesh/view.ts'
import { hostOf } from '../gateway/hostname.ts'
import { replies, type LocalReply } from '../local-reply.ts'
import { ownWorkload, type OwnPlace } from '../own-workload.ts'
import { unknownWorkload } from '../unknown-workload.ts'
import type { Found, Names } from './names.ts'
import { isPublic } from './public-address.ts'

export interface EgressOptions {
  readonly view: () => MeshView
  readonly config: OwnPlace
  readonly names: Pick<Names, 'find'>
  /** Where names under a wildcard may lead though it is not public. */
  readonly allowed: readonly Cidr[]
}

/** What a client says of whom it wants. */
export interface Asked {
  /** Of a request its Host, of a TLS client the server that it names; empty where nobody is named. */
  readonly host: string
  /** As its connection was addressed. */
  readonly addressed: Authority
}

export type WayOut =
  | {
      readonly kind: 'endpoints'
      /** At least one. */
      readonly endpoints: readonly UsableEndpoint[]
      /** They are the service's own, so that its traffic policy spreads requests over them. */
      readonly balanced: boolean
    }
  | { readonly kind: 'refused'; readonly reply: LocalReply }

/** Whether an {@link Egress} has to be asked where the service's endpoints are. */
export function leadsOut({ traffic, loadBalancer }: Service): boolean {
  return traffic?.resolution !== undefined || loadBalancer?.mode === 'Passthrough'
}

export class Egress {
  readonly #options: EgressOptions
  /** What became of endpoints while their names meant the same. */
  readonly #known = new WeakMap<readonly UsableEndpoint[], Resolved>()

  constructor(options: EgressOptions) {
    this.#options = options
  }

  /** At once where no name has to be looked up first. Never rejects. */
  find(service: Service, port: number, asked: Asked): WayOut | Promise<WayOut> {
    switch (service.traffic?.resolution) {
      case undefined:
        return this.#asAddressed(service, port, asked.addressed)
      case 'DYNAMIC_DNS':
        return this.#byHost(service, port, hostOf(asked.host))
      default:
        return this.#byNames(service, port)
    }
  }

  /** The original destination, where it is the service's. */
  #asAddressed(service: Service, port: number, addressed: Authority): WayOut {
    const ip = addressed.kind === 'address' ? addressed.address.ip : undefined
    if (ip === undefined || !hasAddress(service, ip)) {
      return { kind: 'refused', reply: notAddressed(service) }
    }
    return { kind: 'endpoints', endpoints: [endpointAt(service, '', ip, port)], balanced: false }
  }

  #byHost(service: Service, port: number, host: string): WayOut | Promise<WayOut> {
    if (!isUnder(service.hostname, host)) return { kind: 'refused', reply: replies.noRoute }
    const found = this.#options.names.find(host)
    const to = (found: Found): WayOut => this.#underWildcard(service, port, host, found)
    return found instanceof Promise ? found.then(to) : to(found)
  }

  #underWildcard(service: Service, port: number, host: string, found: Found): WayOut {
    if (found.kind === 'none') return failure(found.reason)
    const addresses = found.addresses.filter(ip => this.#mayLeadTo(ip))
    if (addresses.length === 0) return { kind: 'refused', reply: forbidden(host) }
    const target = service.ports.get(port) || port
    const endpoints = addresses.map(ip => endpointAt(service, host, ip, target))
    return { kind: 'endpoints', endpoints, balanced: false }
  }

  /** Whoever asks chooses the name, so it must not lead to what only we can reach. */
  #mayLeadTo(ip: Ip): boolean {
    const { view, config, allowed } = this.#options
    const mesh = view()
    if (mesh.workloadByAddress(config.network, ip) !== undefined) return false
    const service = mesh.serviceByAddress(config.network, ip, config.podNamespace)
    if (service?.vips.some(vip => vip.ip === ip) === true) return false
    return isPublic(ip) || allowed.some(block => cidrContains(block, ip))
  }

  #byNames(service: Service, port: number): WayOut | Promise<WayOut> {
    const { view, config, names } = this.#options
    const mesh = view()
    const declared = usableEndpoints(mesh, service, port, ownWorkload(mesh, config))
    if (declared.length === 0) return { kind: 'refused', reply: replies.noHealthyUpstream }
    const found = declared.map(({ workload }) =>
      isName(workload) ? names.find(workload.hostname) : undefined
    )
    if (found.every(isKnown)) return this.#resolved(service, declared, found)
    return Promise.all(found.map(async each => each)).then(all => this.#resolved(service, declared, all))
  }

  #resolved(
    service: Service,
    declared: readonly UsableEndpoint[],
    found: readonly (Found | undefined)[]
  ): WayOut {
    const known = this.#known.get(declared)
    if (known !== undefined && known.found.every((each, index) => each === found[index])) return known.wayOut
    const wayOut = waysOf(service, declared, found)
    this.#known.set(declared, { found, wayOut })
    return wayOut
  }
}

function isKnown<T>(value: T | Promise<T>): value is T {
  return !(value instanceof Promise)
}

interface Resolved {
  readonly found: readonly (Found | undefined)[]
  readonly wayOut: WayOut
}

/** An endpoint for each address, or one for all of them where they race. */
function waysOf(
  { traffic }: Service,
  declared: readonly UsableEndpoint[],
  found: readonly (Found | undefined)[]
): WayOut {
  const reasons: string[] = []
  const endpoints = declared.flatMap((endpoint, index): readonly UsableEndpoint[] => {
    const answer = found[index]
    if (answer === undefined) return [endpoint]
    if (answer.kind === 'none') {
      reasons.push(answer.reason)
      return []
    }
    const { addresses } = answer
    if (traffic?.resolution === 'DNS_ROUND_ROBIN') return [at(endpoint, addresses.slice(0, 1))]
    if (traffic?.racing === true) return [at(endpoint, addresses)]
    return addresses.map(ip => at(endpoint, [ip]))
  })
  if (endpoints.length === 0) return failure(reasons.join('; '))
  return { kind: 'endpoints', endpoints, balanced: true }
}

function at({ workload, port, capacity }: UsableEndpoint, addresses: readonly Ip[]): UsableEndpoint {
  const uid = `${workload.uid}/${addresses.toSorted().join()}`
  return { workload: { ...workload, uid, addresses }, port, capacity }
}

function isName({ addresses, hostname }: Workload): boolean {
  return addresses.length === 0 && hostname !== ''
}

function hasAddress({ vips, cidrVips }: Service, ip: Ip): boolean {
  return vips.some(vip => vip.ip === ip) || cidrVips.some(({ cidr }) => cidrContains(cidr, ip))
}

const name = /^[a-z0-9_](?:[-a-z0-9_]*[a-z0-9_])?(?:\.[a-z0-9_](?:[-a-z0-9_]*[a-z0-9_])?)*$/
const longestName = 253

/** `*.example.com`: any name that ends so, however many labels come before. Addresses are no names. */
function isUnder(wildcard: string, host: string): boolean {
  const ending = wildcard.slice(1).toLowerCase()
  if (host.length <= ending.length || !host.endsWith(ending)) return false
  return host.length <= longestName && name.test(host) && parseIp(host) === undefined
}

function failure(reason: string): WayOut {
  const reply = {
    status: 503,
    body: `DNS resolution failure: ${reason}`,
    flag: 'DF',
    details: 'dns_resolution_failure'
  }
  return { kind: 'refused', reply }
}

function notAddressed({ hostname }: Service): LocalReply {
  const body = `${hostname} is whoever was addressed, and none of its addresses was`
  return { status: 503, body, flag: 'UH', details: 'original_destination_unknown' }
}

function forbidden(host: string): LocalReply {
  const body = `${host} leads to addresses that are not public`
  return { status: 403, body, flag: '-', details: 'egress_address_not_public' }
}

/** Connections are shared by those only who ask for the same name of the same service. */
function endpointAt(service: Service, hostname: string, ip: Ip, port: number): UsableEndpoint {
  const uid = `egress ${serviceKey(service)} ${hostname} ${ip}`
  return { workload: { ...unknownWorkload, uid, hostname, addresses: [ip] }, port, capacity: 1 }
}
