/** Whether a ztunnel serves a pod: its listeners, as the kernel shows them to whoever is in the namespace. */
import { listeningPorts } from '../shared/net/listening-ports.ts'
import { capturePorts } from './rules/desired.ts'

const needed = [capturePorts.outbound, capturePorts.inbound, capturePorts.hbone]

/** True when every capture port is open, for IPv4 or for both families. */
export function ztunnelListensIn(netns: number): boolean {
  const open = new Set(listeningPorts(netns))
  return needed.every(port => open.has(port))
}
