/** Who listens in a network namespace, as the kernel shows it to whoever is inside. */
import { closeSync, openSync, readSync } from 'node:fs'
import { inNetns } from './netns.ts'

/** TCP ports in state LISTEN, once for each socket; of this thread's namespace when none is given. */
export function listeningPorts(netns?: number): readonly number[] {
  const read = (): number[] => ['tcp', 'tcp6'].flatMap(name => portsOfTable(name))
  return netns === undefined ? read() : inNetns(netns, read)
}

/** The ports of a piece of a /proc/net/tcp table, and whether connections begin in it: sockets that listen come first. */
export function portsListening(table: string): { readonly ports: readonly number[]; readonly over: boolean } {
  const ports: number[] = []
  for (const line of table.split('\n')) {
    const [, port, state] =
      /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) /.exec(line) ?? []
    if (port === undefined) continue
    if (state !== '0A') return { ports, over: true }
    ports.push(Number.parseInt(port, 16))
  }
  return { ports, over: false }
}

function portsOfTable(name: string): readonly number[] {
  let fd: number
  try {
    fd = openSync(`/proc/thread-self/net/${name}`, 'r')
  } catch {
    return [] // a kernel without IPv6
  }
  try {
    const page = Buffer.allocUnsafe(1 << 16)
    const ports: number[] = []
    // The kernel gives whole lines, at most a page of them at a time.
    for (let length = readSync(fd, page); length > 0; length = readSync(fd, page)) {
      const found = portsListening(page.toString('latin1', 0, length))
      ports.push(...found.ports)
      if (found.over) break
    }
    return ports
  } finally {
    closeSync(fd)
  }
}
