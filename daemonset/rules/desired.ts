/**
 * The rules that a pod's network namespace shall hold, as data: a pure function of a few options. Renderers turn
 * them into nft or iptables. Both designs keep live connections: only a SYN is ever diverted.
 *
 * `tproxy` diverts without address translation; `redirect` is the design of istio-cni, for kernels without TPROXY.
 */
import { createHash } from 'node:crypto'
import { type Ip, ipFamily, type Family } from '../../shared/net/address.ts'

/** Ports and marks that istio-cni and ztunnel agree on. Source: Istio, cni/pkg/config. */
export const capturePorts = { outbound: 15001, inbound: 15006, hbone: 15008, dns: 15053 } as const

/** The low twelve bits of a mark are ours; other network plugins use the higher ones. */
export const markMask = 0xfff
/** On packets of ztunnel's own sockets. */
export const proxyMark = 0x539
/** On packets that have to come back to ztunnel through `lo`, and on their connections. */
export const loopMark = 0x111
export const loopTable = 100
export const loopPriority = 32764

export type CaptureMode = 'tproxy' | 'redirect'

export interface RuleOptions {
  readonly mode: CaptureMode
  /** False: traffic into the pod is not diverted ("ingress mode"). */
  readonly inbound: boolean
  readonly dns: boolean
  /** TCP that arrives on these interfaces comes from machines behind the pod and counts as outbound. */
  readonly virtualInterfaces: readonly string[]
  /** Sources that health probes have; taken without the proxy. */
  readonly probeAddresses: readonly Ip[]
  /** Drops what was meant for ztunnel and would leave in the clear, also from sockets bound to a device. */
  readonly leakGuard: boolean
}

export type Condition =
  | { readonly kind: 'mark' | 'connection-mark'; readonly value: number }
  | { readonly kind: 'in' | 'out'; readonly device: string; readonly negated?: boolean }
  | { readonly kind: 'source' | 'destination'; readonly block: string; readonly family: Family }
  | { readonly kind: 'tcp-syn' }
  | { readonly kind: 'tcp-port' | 'udp-port'; readonly port: number }
  | { readonly kind: 'udp-source-port'; readonly port: number }

export type Action =
  | { readonly kind: 'return' | 'drop' | 'mark-connection' | 'mark-packet' | 'restore-mark' }
  /** Without `marked` the packet keeps its mark: a mark on a packet from outside would fail the reverse path check. */
  | { readonly kind: 'tproxy'; readonly port: number; readonly marked: boolean }
  | { readonly kind: 'redirect'; readonly port: number }
  | { readonly kind: 'conntrack-zone'; readonly zone: number }

export interface Rule {
  readonly conditions: readonly Condition[]
  readonly action: Action
}

/** `name` is unique; `type` and `hook` are netfilter's, `priority` is that of iptables' table of that name. */
export interface Chain {
  readonly name: 'pre' | 'out' | 'post' | 'nat-pre' | 'nat-out' | 'raw-pre' | 'raw-out'
  readonly table: 'mangle' | 'nat' | 'raw'
  readonly hook: 'prerouting' | 'output' | 'postrouting'
  readonly rules: readonly Rule[]
}

export interface RuleSet {
  readonly chains: readonly Chain[]
  /** Interfaces that need the loose reverse path check. */
  readonly looseInterfaces: readonly string[]
  /** Changes whenever anything above changes; 8 hexadecimal digits. */
  readonly generation: string
}

const syn: Condition = { kind: 'tcp-syn' }
const proxyMarked: Condition = { kind: 'mark', value: proxyMark }
const loopMarked: Condition = { kind: 'mark', value: loopMark }
const loopConnection: Condition = { kind: 'connection-mark', value: loopMark }
const fromLoopback: Condition = { kind: 'in', device: 'lo' }
const toLoopback: Condition = { kind: 'out', device: 'lo' }
const loopbackBlocks: readonly Condition[] = [
  { kind: 'destination', block: '127.0.0.0/8', family: 4 },
  { kind: 'destination', block: '::1', family: 6 }
]
const dnsByUdp: Condition = { kind: 'udp-port', port: 53 }
const dnsByTcp: Condition = { kind: 'tcp-port', port: 53 }
/** What a DNS server of the pod says, which may go to port 53 too. */
const dnsAnswer: Condition = { kind: 'udp-source-port', port: 53 }
const toDnsProxy: Action = { kind: 'tproxy', port: capturePorts.dns, marked: true }
const pass: Action = { kind: 'return' }
const markConnection: Action = { kind: 'mark-connection' }

export function desiredRules(options: RuleOptions): RuleSet {
  const chains = options.mode === 'tproxy' ? tproxyChains(options) : redirectChains(options)
  const looseInterfaces = options.mode === 'tproxy' ? options.virtualInterfaces : []
  const generation = createHash('sha256')
    .update(JSON.stringify({ chains, looseInterfaces }))
    .digest('hex')
    .slice(0, 8)
  return { chains, looseInterfaces, generation }
}

function tproxyChains(options: RuleOptions): Chain[] {
  const { probeAddresses, virtualInterfaces, dns } = options
  const pre = [
    // ztunnel's connection to the application, with the client's address: remember it, so that answers come back.
    rule([proxyMarked], markConnection),
    rule([proxyMarked], pass),
    ...virtualInterfaces.flatMap(device => {
      const arriving: Condition = { kind: 'in', device }
      return [
        rule([arriving, syn], markConnection),
        // Their targets are elsewhere, so every packet needs the loop route, not the first alone.
        rule([arriving, loopConnection], { kind: 'mark-packet' }),
        rule([arriving, syn], { kind: 'tproxy', port: capturePorts.outbound, marked: true }),
        rule([arriving], pass)
      ]
    }),
    // What the application sends, sent round through lo by the output chain and the loop route.
    ...(dns
      ? [
          rule([fromLoopback, loopMarked, dnsByTcp, syn], toDnsProxy),
          rule([fromLoopback, loopMarked, dnsByUdp], toDnsProxy)
        ]
      : []),
    rule([fromLoopback, loopMarked, syn], { kind: 'tproxy', port: capturePorts.outbound, marked: true }),
    rule([fromLoopback], pass),
    ...probeAddresses.map(address => rule([source(address)], pass)),
    ...loopbackBlocks.map(block => rule([block], pass)),
    rule([{ kind: 'tcp-port', port: capturePorts.hbone }], pass),
    ...(options.inbound ? [rule([syn], { kind: 'tproxy', port: capturePorts.inbound, marked: false })] : [])
  ]
  const out = [
    rule([proxyMarked], pass),
    rule([toLoopback], pass),
    ...probeAddresses.map(address => rule([destination(address)], pass)),
    ...loopbackBlocks.map(block => rule([block], pass)),
    rule([syn], markConnection),
    ...(dns
      ? [
          rule([dnsAnswer], pass),
          // Its scope is lost on the way to the proxy, which could not ask it.
          rule([{ kind: 'destination', block: 'fe80::/10', family: 6 }, dnsByUdp], pass),
          rule([dnsByUdp], markConnection)
        ]
      : []),
    rule([loopConnection], { kind: 'restore-mark' })
  ]
  return [chain('pre', 'mangle', 'prerouting', pre), chain('out', 'mangle', 'output', out), ...guard(options)]
}

function redirectChains(options: RuleOptions): Chain[] {
  const { probeAddresses, virtualInterfaces, dns } = options
  const redirect = (port: number): Action => ({ kind: 'redirect', port })
  const natPre = [
    ...virtualInterfaces.flatMap(device => [
      rule([{ kind: 'in', device }, syn], redirect(capturePorts.outbound)),
      rule([{ kind: 'in', device }], pass)
    ]),
    rule([fromLoopback], pass),
    ...probeAddresses.map(address => rule([source(address)], pass)),
    ...loopbackBlocks.map(block => rule([block], pass)),
    rule([proxyMarked], pass),
    rule([{ kind: 'tcp-port', port: capturePorts.hbone }], pass),
    ...(options.inbound ? [rule([syn], redirect(capturePorts.inbound))] : [])
  ]
  const natOut = [
    rule([proxyMarked], pass),
    rule([loopMarked], pass),
    rule([toLoopback], pass),
    ...probeAddresses.map(address => rule([destination(address)], pass)),
    ...loopbackBlocks.map(block => rule([block], pass)),
    ...(dns
      ? [
          rule([dnsAnswer], pass),
          rule([dnsByUdp], redirect(capturePorts.dns)),
          rule([dnsByTcp, syn], redirect(capturePorts.dns))
        ]
      : []),
    rule([syn], redirect(capturePorts.outbound))
  ]
  return [
    chain('pre', 'mangle', 'prerouting', [rule([proxyMarked], markConnection)]),
    chain('out', 'mangle', 'output', [rule([loopConnection], { kind: 'restore-mark' })]),
    chain('nat-pre', 'nat', 'prerouting', natPre),
    chain('nat-out', 'nat', 'output', natOut),
    ...(dns ? dnsZones() : []),
    ...guard(options)
  ]
}

/** ztunnel's own queries have the same addresses as the application's redirected ones: they get their own zone. */
function dnsZones(): Chain[] {
  const zone: Action = { kind: 'conntrack-zone', zone: 1 }
  return [
    chain('raw-out', 'raw', 'output', [rule([proxyMarked, dnsByUdp], zone)]),
    chain('raw-pre', 'raw', 'prerouting', [rule([dnsAnswer], zone)])
  ]
}

function guard({ leakGuard }: RuleOptions): Chain[] {
  if (!leakGuard) return []
  const leaving: Condition = { kind: 'out', device: 'lo', negated: true }
  return [chain('post', 'mangle', 'postrouting', [rule([leaving, loopMarked], { kind: 'drop' })])]
}

function rule(conditions: readonly Condition[], action: Action): Rule {
  return { conditions, action }
}

function chain(
  name: Chain['name'],
  table: Chain['table'],
  hook: Chain['hook'],
  rules: readonly Rule[]
): Chain {
  return { name, table, hook, rules }
}

function source(address: Ip): Condition {
  return { kind: 'source', block: address, family: ipFamily(address) }
}

function destination(address: Ip): Condition {
  return { kind: 'destination', block: address, family: ipFamily(address) }
}
