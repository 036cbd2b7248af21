/**
 * The network of the lab: a bridge in the lab's own network namespace, one namespace per node joined to it,
 * one namespace per pod joined to its node by a veth pair and host routes. IPv4 and, where the kernel has it,
 * IPv6. Everything is made by `ip` inside namespaces that end with the lab.
 */
import { existsSync, readFileSync } from 'node:fs'
import { ip, type Ip } from '../shared/net/address.ts'
import { run } from './command.ts'

/** Where the kubelet's probes come from; capture rules let these addresses through (Istio's values). */
export const probeSource = {
  ipv4: ip('169.254.7.127'),
  ipv6: ip('fd16:9254:7127:1337:ffff:ffff:ffff:ffff')
}

/** The bridge: the API server and the cluster DNS listen here. */
export const fabric = { ipv4: ip('10.50.0.1'), ipv6: ip('fd00:50::1') }

/** Interfaces of the lab's own namespace and of the nodes, for whoever wants to capture packets. */
export const fabricLink = 'fabric'

export interface LabNode {
  readonly name: string
  readonly ipv4: Ip
  readonly ipv6: Ip | undefined
  readonly podCidrs: readonly string[]
  /** Path of its network namespace. */
  readonly netns: string
}

export interface PodNetwork {
  /** Path of its network namespace. */
  readonly netns: string
  readonly ips: readonly Ip[]
}

export class Network {
  readonly nodes: readonly LabNode[]
  readonly ipv6: boolean
  readonly #slots = new Map<string, PodSlots>()

  private constructor(nodes: readonly LabNode[], ipv6: boolean) {
    this.nodes = nodes
    this.ipv6 = ipv6
    for (const { name } of nodes) this.#slots.set(name, new PodSlots())
  }

  static async create(count: number): Promise<Network> {
    const ipv6 = existsSync('/proc/sys/net/ipv6') && !ipv6Disabled()
    const nodes = Array.from({ length: count }, (_, index) => describeNode(index + 1, ipv6))
    await run('sh', ['-s'], { input: fabricScript(nodes, ipv6) })
    return new Network(nodes, ipv6)
  }

  /** Makes a pod's network namespace and joins it to its node. `sandbox` names it among all pods, ever. */
  async addPod(node: LabNode, sandbox: string): Promise<PodNetwork> {
    const slot = this.#slots.get(node.name)?.take(sandbox)
    if (slot === undefined) throw new Error(`node ${node.name} has no free pod address`)
    const index = this.nodes.indexOf(node) + 1
    const ipv4 = ip(`10.244.${index}.${slot}`)
    const ipv6 = this.ipv6 ? ip(`fd00:244:${index}::${slot.toString(16)}`) : undefined
    try {
      await run('sh', ['-s'], { input: podScript({ node, index, slot, sandbox, ipv4, ipv6 }) })
    } catch (error) {
      await this.removePod(node, sandbox)
      throw error
    }
    return { netns: netnsPath(sandbox), ips: ipv6 === undefined ? [ipv4] : [ipv4, ipv6] }
  }

  /** Removes the namespace, and with it the veth pair and the routes. Idempotent. */
  async removePod(node: LabNode, sandbox: string): Promise<void> {
    if (existsSync(netnsPath(sandbox))) {
      // The namespace itself may live on while a process or a descriptor holds it: the link goes now.
      const link = linkName(this.#slots.get(node.name)?.of(sandbox) ?? 0)
      await run('sh', ['-s'], {
        input: `ip -n ${node.name} link delete ${link} 2>/dev/null; ip netns delete ${sandbox}`
      })
    }
    this.#slots.get(node.name)?.release(sandbox)
  }
}

/** Which of a node's 253 pod addresses are taken. Freed ones are given out again as late as possible. */
export class PodSlots {
  readonly #taken = new Map<string, number>()
  #next = 2

  take(sandbox: string): number | undefined {
    const used = new Set(this.#taken.values())
    for (let tried = 0; tried < 253; tried += 1) {
      const slot = this.#next
      this.#next = slot === 254 ? 2 : slot + 1
      if (used.has(slot)) continue
      this.#taken.set(sandbox, slot)
      return slot
    }
    return undefined
  }

  of(sandbox: string): number | undefined {
    return this.#taken.get(sandbox)
  }

  release(sandbox: string): void {
    this.#taken.delete(sandbox)
  }
}

function netnsPath(name: string): string {
  return `/run/netns/${name}`
}

function linkName(slot: number): string {
  return `veth${slot}`
}

function ipv6Disabled(): boolean {
  return readFileSync('/proc/sys/net/ipv6/conf/all/disable_ipv6', 'utf8').trim() === '1'
}

function describeNode(index: number, ipv6: boolean): LabNode {
  const name = `node${index}`
  return {
    name,
    ipv4: ip(`10.50.0.${10 + index}`),
    ipv6: ipv6 ? ip(`fd00:50::${(10 + index).toString(16)}`) : undefined,
    podCidrs: [`10.244.${index}.0/24`, ...(ipv6 ? [`fd00:244:${index}::/64`] : [])],
    netns: netnsPath(name)
  }
}

/**
 * Settings of a namespace before its first link: no duplicate address detection (it would hold back IPv6 for
 * a second), no router advertisements, no reverse path filter (capture rules route packets by mark).
 */
function namespaceScript(ipv6: boolean, forwards: boolean): string {
  const lines = ['for i in all default; do echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter; done']
  if (forwards) lines.push('echo 1 > /proc/sys/net/ipv4/ip_forward')
  // As container runtimes do: programs that are not root may listen on port 80.
  else lines.push('echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start')
  if (ipv6) {
    if (forwards) lines.push('echo 1 > /proc/sys/net/ipv6/conf/all/forwarding')
    lines.push(
      'for i in all default; do for s in accept_dad accept_ra router_solicitations; do',
      '  echo 0 > /proc/sys/net/ipv6/conf/$i/$s; done; done'
    )
  }
  return [...lines, 'ip link set lo up'].join('\n')
}

function fabricScript(nodes: readonly LabNode[], ipv6: boolean): string {
  const lines = ['set -eu', namespaceScript(ipv6, true), `ip link add ${fabricLink} type bridge`]
  lines.push(`ip addr add ${fabric.ipv4}/24 dev ${fabricLink}`)
  if (ipv6) lines.push(`ip addr add ${fabric.ipv6}/64 dev ${fabricLink} nodad`)
  lines.push(`ip link set ${fabricLink} up`)
  for (const node of nodes) lines.push(...nodeLines(node, ipv6))
  for (const node of nodes) {
    for (const other of nodes) {
      if (other !== node) lines.push(...podRouteLines(`ip -n ${node.name}`, other))
    }
    lines.push(...podRouteLines('ip', node))
  }
  return lines.join('\n')
}

function nodeLines(node: LabNode, ipv6: boolean): string[] {
  const { name } = node
  const inside = `ip -n ${name}`
  return [
    `ip netns add ${name}`,
    `nsenter --net=${node.netns} sh -eu <<'END'`,
    namespaceScript(ipv6, true),
    'END',
    `ip link add ${name} type veth peer name eth0 netns ${name}`,
    `ip link set ${name} master ${fabricLink} up`,
    `${inside} addr add ${node.ipv4}/24 dev eth0`,
    `${inside} addr add ${probeSource.ipv4}/32 dev lo`,
    ...(ipv6
      ? [
          `${inside} addr add ${node.ipv6}/64 dev eth0 nodad`,
          `${inside} addr add ${probeSource.ipv6}/128 dev lo nodad`
        ]
      : []),
    `${inside} link set eth0 up`,
    `${inside} route add default via ${fabric.ipv4}`,
    ...(ipv6 ? [`${inside} -6 route add default via ${fabric.ipv6}`] : [])
  ]
}

function podRouteLines(command: string, node: LabNode): string[] {
  const [pods4, pods6] = node.podCidrs
  return [
    `${command} route add ${pods4} via ${node.ipv4}`,
    ...(pods6 === undefined ? [] : [`${command} -6 route add ${pods6} via ${node.ipv6}`])
  ]
}

interface PodLink {
  readonly node: LabNode
  readonly index: number
  readonly slot: number
  readonly sandbox: string
  readonly ipv4: Ip
  readonly ipv6: Ip | undefined
}

function podScript({ node, index, slot, sandbox, ipv4, ipv6 }: PodLink): string {
  const link = linkName(slot)
  const gateway4 = `10.244.${index}.1`
  const gateway6 = `fd00:244:${index}::1`
  return [
    'set -eu',
    `ip netns add ${sandbox}`,
    `nsenter --net=${netnsPath(sandbox)} sh -eu <<'END'`,
    namespaceScript(ipv6 !== undefined, false),
    'END',
    `ip -n ${node.name} link add ${link} type veth peer name eth0 netns ${sandbox}`,
    `ip -n ${node.name} -batch - <<'END'`,
    `addr add ${gateway4}/32 dev ${link}`,
    ...(ipv6 === undefined ? [] : [`addr add ${gateway6}/128 dev ${link} nodad`]),
    `link set ${link} up`,
    `route add ${ipv4}/32 dev ${link}`,
    ...(ipv6 === undefined ? [] : [`route add ${ipv6}/128 dev ${link}`]),
    'END',
    `ip -n ${sandbox} -batch - <<'END'`,
    `addr add ${ipv4}/32 dev eth0`,
    ...(ipv6 === undefined ? [] : [`addr add ${ipv6}/128 dev eth0 nodad`]),
    'link set eth0 up',
    `route add ${gateway4}/32 dev eth0 scope link`,
    `route add default via ${gateway4} dev eth0`,
    ...(ipv6 === undefined
      ? []
      : [`route add ${gateway6}/128 dev eth0`, `route add default via ${gateway6} dev eth0`]),
    'END'
  ].join('\n')
}
