/**
 * `--internet`: a link from the lab to the network of the host, with address translation on both sides. The only
 * thing that the lab ever makes outside its walls; needs root. A guard removes it whatever happens to the lab; if the
 * guard is killed too, the next start does, by the names.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { run } from './command.ts'

const tablePrefix = 'underpass-lab-'
const forwardingFile = '/proc/sys/net/ipv4/ip_forward'

export interface Outside {
  /** Removes rules and link; the host forwards again as it did before. */
  disconnect(): Promise<void>
}

/** Joins the network namespace of process `inside` (as the host sees it) with this one. */
export async function connectOutside(pid: number, inside: number): Promise<Outside> {
  const forwards = readFileSync(forwardingFile, 'utf8').trim() === '1'
  const table = tableName(pid, forwards)
  const link = `ulab${pid}`
  const [host, lab] = linkAddresses(pid)
  await run('sh', ['-s'], {
    input: `set -eu
nft -f - <<'END'
table ip ${table} {
  chain out { type nat hook postrouting priority srcnat; ip saddr ${lab} masquerade; }
}
END
ip link add ${link} type veth peer name uplink netns ${inside}
ip addr add ${host}/30 dev ${link}
ip link set ${link} up
echo 1 > ${forwardingFile}
nsenter --target=${inside} --net sh -eu <<'END'
ip addr add ${lab}/30 dev uplink
ip link set uplink up
ip route add default via ${host}
nft add table ip underpass-uplink
nft 'add chain ip underpass-uplink out { type nat hook postrouting priority srcnat; }'
nft add rule ip underpass-uplink out oifname uplink masquerade
END
`
  })
  return guard(table)
}

/** A process that waits for the end of its input, which comes also when this process is killed, and then cleans up. */
function guard(table: string): Outside {
  const child = spawn('sh', ['-c', `cat >/dev/null; ${removalScript(table)}`], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true
  })
  const gone = new Promise<void>(resolve => child.once('exit', () => resolve()))
  return {
    disconnect: () => {
      child.stdin.end()
      return gone
    }
  }
}

/** Removes what labs left whose process is gone. */
export async function removeLeftovers(): Promise<void> {
  const listed = await run('nft', ['list', 'tables', 'ip'])
  const names = listed.split('\n').flatMap(line => /^table ip (\S+)$/.exec(line)?.[1] ?? [])
  for (const name of names.filter(table => isLeftover(table, pid => existsSync(`/proc/${pid}`)))) {
    await run('sh', ['-c', removalScript(name)])
  }
}

/** The name tells who made it, and whether the host forwarded packets before. */
export function tableName(pid: number, forwarded: boolean): string {
  return `${tablePrefix}${pid}${forwarded ? '' : '-forward0'}`
}

export function isLeftover(table: string, runs: (pid: number) => boolean): boolean {
  const [, pid] = /^underpass-lab-(\d+)(?:-forward0)?$/.exec(table) ?? []
  return pid !== undefined && !runs(Number(pid))
}

/** Two addresses of a block of four, below 100.127.0.0/16 (RFC 6598), another block for each process. */
export function linkAddresses(pid: number): readonly [host: string, lab: string] {
  const base = (pid % 16_384) * 4
  const at = (offset: number): string => `100.127.${(base + offset) >> 8}.${(base + offset) & 255}`
  return [at(1), at(2)]
}

function removalScript(table: string): string {
  const [, pid] = /(\d+)/.exec(table) ?? []
  const restore = table.endsWith('-forward0') ? `echo 0 > ${forwardingFile};` : ''
  return `nft delete table ip ${table}; ip link delete ulab${pid} 2>/dev/null; ${restore} true`
}

/** Name servers of the host that the lab can reach; those on the host's own loopback it cannot. */
export function hostResolvers(read: (file: string) => string | undefined): readonly string[] {
  const serversIn = (text: string | undefined): string[] =>
    (text ?? '').split('\n').flatMap(line => /^nameserver\s+(\d+\.\d+\.\d+\.\d+)/.exec(line)?.[1] ?? [])
  const usual = serversIn(read('/etc/resolv.conf')).filter(server => !server.startsWith('127.'))
  // Where systemd-resolved listens on 127.0.0.53 it keeps the real ones here.
  return usual.length > 0 ? usual : serversIn(read('/run/systemd/resolve/resolv.conf'))
}
