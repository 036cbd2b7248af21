/** Whether a ztunnel serves a pod: its listeners, as the kernel shows them to whoever is in the namespace. */
import { readFileSync } from 'node:fs'
import { inNetns } from '../shared/net/netns.ts'
import { capturePorts } from './rules/desired.ts'

const needed = [capturePorts.outbound, capturePorts.inbound, capturePorts.hbone]

/** True when every capture port is open, for IPv4 or for both families. */
export function ztunnelListensIn(netns: number): boolean {
  const open = inNetns(netns, () => new Set(['tcp', 'tcp6'].flatMap(name => listeningPorts(name))))
  return needed.every(port => open.has(port))
}

function listeningPorts(name: string): readonly number[] {
  try {
    return portsListening(readFileSync(`/proc/thread-self/net/${name}`, 'utf8'))
  } catch {
    return [] // a kernel without IPv6
  }
}

/** Ports in state LISTEN (0A) of a /proc/net/tcp table. */
export function portsListening(table: string): readonly number[] {
  return table.split('\n').flatMap(line => {
    const [, port, state] =
      /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) /.exec(line) ?? []
    return port !== undefined && state === '0A' ? [Number.parseInt(port, 16)] : []
  })
}
