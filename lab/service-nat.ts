/**
 * The role of kube-proxy: on every node, nftables rules that turn the addresses of Services into those of their
 * endpoints. A pod's traffic that the mesh does not capture leaves the pod and is translated on its node.
 */
import { endpointSlices, services, type EndpointSlice, type Service } from '../shared/kube/core-api.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { Logger } from '../shared/telemetry/logger.ts'
import type { ObjectAccess } from './api-store/object-access.ts'
import { run } from './command.ts'
import { namespaceOf } from './kinds.ts'
import type { LabNode } from './nodes.ts'

export interface VirtualAddress {
  readonly address: string
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  readonly endpoints: readonly { readonly address: string; readonly port: number }[]
  /** Connections of one client go to one endpoint. */
  readonly sticky: boolean
}

const debounceMs = 30
const serviceNetwork = '10.96.0.0/16'

export class ServiceNat {
  readonly #objects: ObjectAccess
  readonly #nodes: readonly LabNode[]
  readonly #logger: Logger
  readonly #written = new Map<string, string>()
  #pending = false
  #writing: Promise<void> = Promise.resolve()

  constructor(objects: ObjectAccess, nodes: readonly LabNode[], logger: Logger) {
    this.#objects = objects
    this.#nodes = nodes
    this.#logger = logger
  }

  start(signal: AbortSignal): void {
    this.#objects.watch(services, {}, () => this.#changed(signal), signal)
    this.#objects.watch(endpointSlices, {}, () => this.#changed(signal), signal)
  }

  #changed(signal: AbortSignal): void {
    if (this.#pending) return
    this.#pending = true
    setTimeout(() => {
      this.#pending = false
      this.#writing = this.#writing.then(() => (signal.aborted ? undefined : this.#write()))
    }, debounceMs)
  }

  async #write(): Promise<void> {
    const all = virtualAddresses(this.#objects.list(services), this.#objects.list(endpointSlices))
    await Promise.all(
      this.#nodes.map(async node => {
        const rules = ruleset(node, all)
        if (this.#written.get(node.name) === rules) return
        try {
          await run('nsenter', [`--net=${node.netns}`, 'nft', '-f', '-'], { input: rules })
          this.#written.set(node.name, rules)
        } catch (error) {
          this.#logger.error(`${node.name}: the rules for Services cannot be written: ${messageOf(error)}`)
        }
      })
    )
  }
}

/** Every address and port of every Service, also those without endpoints: these are refused, not forgotten. */
export function virtualAddresses(
  allServices: readonly Service[],
  slices: readonly EndpointSlice[]
): readonly VirtualAddress[] {
  return allServices.flatMap(service => {
    const { clusterIPs = [], clusterIP, ports = [], externalIPs = [], type } = service.spec ?? {}
    const own = clusterIPs.length > 0 ? clusterIPs : clusterIP === undefined ? [] : [clusterIP]
    const ingress = (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) =>
      ip === undefined ? [] : [ip]
    )
    // Pods have addresses of both families, Services of IPv4 only.
    const addresses = [...own, ...externalIPs, ...ingress].filter(address => /^\d+\./.test(address))
    if (addresses.length === 0 && type !== 'NodePort' && type !== 'LoadBalancer') return []
    const ofService = slices.filter(
      ({ metadata, addressType }) =>
        addressType === 'IPv4' &&
        metadata.namespace === namespaceOf(service) &&
        metadata.labels?.['kubernetes.io/service-name'] === service.metadata.name
    )
    const sticky = service.spec?.sessionAffinity === 'ClientIP'
    return ports.flatMap(({ name = '', port, protocol = 'TCP', nodePort }) => {
      if (protocol === 'SCTP') return []
      const endpoints = readyEndpoints(ofService, name, protocol)
      const common = { protocol: protocol.toLowerCase() as 'tcp' | 'udp', endpoints, sticky }
      return [
        ...addresses.map(address => ({ ...common, address, port })),
        ...(nodePort === undefined ? [] : [{ ...common, address: 'node', port: nodePort }])
      ]
    })
  })
}

function readyEndpoints(
  slices: readonly EndpointSlice[],
  portName: string,
  protocol: string
): VirtualAddress['endpoints'] {
  const found = slices.flatMap(({ endpoints = [], ports = [] }) => {
    const port = ports.find(
      candidate => (candidate.name ?? '') === portName && (candidate.protocol ?? 'TCP') === protocol
    )
    if (port?.port === undefined) return []
    const number = port.port
    return endpoints.flatMap(({ addresses = [], conditions }) =>
      addresses.map(address => ({ address, port: number, conditions }))
    )
  })
  const ready = found.filter(({ conditions }) => conditions?.ready !== false)
  // While all are going away, those that still serve are better than none, as kube-proxy has it.
  const chosen =
    ready.length > 0
      ? ready
      : found.filter(({ conditions }) => conditions?.serving === true && conditions.terminating === true)
  return chosen.map(({ address, port }) => ({ address, port }))
}

/** A whole table that replaces the former one in one transaction. */
export function ruleset(node: Pick<LabNode, 'ipv4'>, all: readonly VirtualAddress[]): string {
  const lines: string[] = []
  const rules: string[] = []
  const taken = new Set<string>()
  for (const [index, { address, protocol, port, endpoints, sticky }] of all.entries()) {
    const to = address === 'node' ? node.ipv4 : address
    const match = `${to} . ${protocol} . ${port}`
    // Two Services may claim one external address: the first has it.
    if (endpoints.length === 0 || taken.has(match)) continue
    taken.add(match)
    const chain = `service-${index}`
    const pick = sticky
      ? `jhash ip saddr mod ${endpoints.length} seed 0x1`
      : `numgen random mod ${endpoints.length}`
    const targets = endpoints
      .map((endpoint, at) => `${at} : ${endpoint.address} . ${endpoint.port}`)
      .join(', ')
    const [only] = endpoints
    lines.push(
      `  chain ${chain} {`,
      endpoints.length === 1 && only !== undefined
        ? `    meta l4proto ${protocol} dnat ip to ${only.address}:${only.port}`
        : `    meta l4proto ${protocol} dnat ip to ${pick} map { ${targets} }`,
      '  }'
    )
    rules.push(`${match} : goto ${chain}`)
  }
  const addresses = new Set(all.flatMap(({ endpoints }) => endpoints.map(({ address }) => address)))
  const selves = [...addresses].map(address => `${address} . ${address}`)
  const translate = `ip daddr . meta l4proto . th dport vmap @services`
  // The declaration in front makes the deletion succeed also the first time.
  return [
    'table ip underpass-services',
    'delete table ip underpass-services',
    'table ip underpass-services {',
    ...lines,
    '  map services {',
    '    type ipv4_addr . inet_proto . inet_service : verdict',
    ...(rules.length === 0 ? [] : [`    elements = { ${rules.join(', ')} }`]),
    '  }',
    '  set selves {',
    '    type ipv4_addr . ipv4_addr',
    ...(selves.length === 0 ? [] : [`    elements = { ${selves.join(', ')} }`]),
    '  }',
    '  chain prerouting {',
    '    type nat hook prerouting priority dstnat; policy accept;',
    `    ${translate}`,
    '  }',
    '  chain output {',
    '    type nat hook output priority -100; policy accept;',
    `    ${translate}`,
    '  }',
    '  chain postrouting {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    // A pod that reaches itself through a Service would not know what to do with its own address.
    '    ct status dnat ip saddr . ip daddr @selves masquerade',
    '  }',
    // What is still addressed to a Service has no endpoint: say so at once.
    '  chain refuse-forward {',
    '    type filter hook forward priority filter; policy accept;',
    `    ip daddr ${serviceNetwork} reject with icmp type port-unreachable`,
    '  }',
    '  chain refuse-output {',
    '    type filter hook output priority filter; policy accept;',
    `    ip daddr ${serviceNetwork} reject with icmp type port-unreachable`,
    '  }',
    '}',
    ''
  ].join('\n')
}
