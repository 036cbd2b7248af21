/** What lies between namespaces of a benchmark: links, limits for many connections, the capture of a client. */
import { execFileSync } from 'node:child_process'

/** The user whose connections are captured: nobody. */
export const CAPTURED_UID = 65534

/** A namespace and its address in the network of 24 bits that the others are in too. */
export type Place = readonly [netns: string, address: string]

/** Two namespaces, one link. */
export function joinNamespaces([a, aAddress]: Place, [b, bAddress]: Place): void {
  ip('-n', a, 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth0', 'netns', b)
  bringUp([a, aAddress], 'veth0')
  bringUp([b, bAddress], 'veth0')
}

/** Many namespaces, all beside one another; the first carries the switch. */
export function switchNamespaces(center: Place, others: readonly Place[]): void {
  const [netns] = center
  ip('-n', netns, 'link', 'add', 'switch', 'type', 'bridge')
  bringUp(center, 'switch')
  for (const [number, place] of others.entries()) {
    const port = `port${number}`
    ip('-n', netns, 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'veth0', 'netns', place[0])
    ip('-n', netns, 'link', 'set', port, 'master', 'switch', 'up')
    bringUp(place, 'veth0')
  }
}

/** Connections of the captured user to this port go to another one of the same namespace. */
export function redirect(netns: string, port: number, to: number): void {
  const match = ['-p', 'tcp', '-m', 'owner', '--uid-owner', String(CAPTURED_UID), '--dport', String(port)]
  execFileSync('ip', [
    ...['netns', 'exec', netns, 'iptables', '-t', 'nat', '-A', 'OUTPUT', ...match],
    ...['-j', 'REDIRECT', '--to-ports', String(to)]
  ])
}

/** The command up to the program: inside of the namespace, as the captured user. */
export function asCaptured(netns: string): readonly [string, ...string[]] {
  return ['ip', 'netns', 'exec', netns, 'setpriv', `--reuid=${CAPTURED_UID}`, '--clear-groups']
}

export function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] })
}

function bringUp([netns, address]: Place, device: string): void {
  ip('-n', netns, 'address', 'add', `${address}/24`, 'dev', device)
  ip('-n', netns, 'link', 'set', device, 'up')
  ip('-n', netns, 'link', 'set', 'lo', 'up')
  const more = [
    'net.ipv4.ip_local_port_range=10000 60999',
    'net.ipv4.tcp_tw_reuse=1',
    'net.core.somaxconn=4096'
  ]
  for (const setting of more) execFileSync('ip', ['netns', 'exec', netns, 'sysctl', '-qw', setting])
}
