/**
 * Rules of the node for health probes: what a process of the node itself (the kubelet) sends to a probed port of an
 * enrolled pod gets a fixed source address, which the rules in the pod let through to the application.
 * Only declared probe ports: whoever connects from the node to another port is captured and judged like anybody.
 */
import { type Family, type Ip, ipFamily } from '../../shared/net/address.ts'
import { mustRun, runCommand } from '../run-command.ts'
import type { CaptureMethod } from './capture.ts'
import type { Json, JsonObject } from './nft-words.ts'

export const hostTable = 'underpass_host'
const hostChain = 'UNDERPASS_PROBES'
/** Before the network plugin's masquerading at 100. */
const priority = 99

const iptablesSavers = ['iptables', 'ip6tables', 'iptables-legacy', 'ip6tables-legacy']

export interface ProbeTarget {
  readonly ip: Ip
  readonly port: number
  readonly uid: string
}

export interface ProbeRules {
  /** Replaces all targets at once. */
  write(targets: readonly ProbeTarget[]): Promise<void>
  /** Whether what is in the kernel is what was written last. */
  verify(targets: readonly ProbeTarget[]): Promise<boolean>
}

export function probeRules(
  backend: CaptureMethod['backend'],
  sources: readonly Ip[],
  netns?: number
): ProbeRules {
  return backend === 'nft' ? nftProbes(sources, netns) : iptablesProbes(backend, sources, netns)
}

/** The node's rules as nft and iptables-save print them, by whichever backend they were written. */
export async function findProbeRules(netns?: number): Promise<readonly string[]> {
  const table = await attempt(() => mustRun(netns, 'nft', ['list', 'table', 'inet', hostTable]))
  const saved = await Promise.all(
    iptablesSavers.map(program => attempt(() => mustRun(netns, `${program}-save`, ['-t', 'nat'])))
  )
  const rules = saved.flatMap(text => text.split('\n')).filter(line => line.includes(hostChain))
  return [...table.split('\n').filter(line => line.trim() !== ''), ...new Set(rules)]
}

/** Removes the node's rules, by whichever backend they were written; `keep` is one that is in use now. */
export async function removeProbeRules(netns?: number, keep?: CaptureMethod['backend']): Promise<void> {
  if (keep !== 'nft') {
    const table: JsonObject = { table: { family: 'inet', name: hostTable } }
    const transaction = { nftables: [{ add: table }, { delete: table }] }
    await attempt(() => mustRun(netns, 'nft', ['-j', JSON.stringify(transaction)]))
  }
  if (keep !== undefined && keep !== 'nft') return
  for (const program of iptablesSavers) {
    await attempt(async () => {
      const saved = await mustRun(netns, `${program}-save`, ['-t', 'nat'])
      if (!saved.includes(hostChain)) return ''
      return mustRun(netns, `${program}-restore`, ['--noflush'], { input: removalScript(saved) })
    })
  }
}

function nftProbes(sources: readonly Ip[], netns: number | undefined): ProbeRules {
  return {
    write: async targets => {
      const transaction = JSON.stringify({ nftables: nftHostTable(sources, targets) })
      await mustRun(netns, 'nft', ['-j', '-f', '-'], { input: transaction }) // a parameter may have 128 KiB only
    },
    verify: async targets => {
      const { code, stdout } = await runCommand(netns, 'nft', ['-j', 'list', 'table', 'inet', hostTable])
      if (code !== 0) return false
      const listed = (JSON.parse(stdout) as { nftables: readonly JsonObject[] }).nftables
      return nftHostLines(listed) === nftHostLines(nftHostTable(sources, targets).map(asListed))
    }
  }
}

/** The whole table in one transaction. */
export function nftHostTable(sources: readonly Ip[], targets: readonly ProbeTarget[]): readonly JsonObject[] {
  const family = 'inet'
  const table = { table: { family, name: hostTable } }
  const chain = {
    family,
    table: hostTable,
    name: 'probes',
    type: 'nat',
    hook: 'postrouting',
    prio: priority,
    policy: 'accept'
  }
  return [
    { add: table },
    { delete: table },
    { add: table },
    { add: { chain } },
    ...sources.flatMap((source): JsonObject[] => {
      const version = ipFamily(source)
      const name = `probed-v${version}`
      const elements = targetsOf(targets, version).map(({ ip, port, uid }): Json => ({
        elem: { val: { concat: [ip, port] }, comment: uid }
      }))
      const protocol = version === 4 ? 'ip' : 'ip6'
      const expr: Json = [
        // Only packets of a socket of this machine have an owner; forwarded ones do not match.
        { match: { op: '!=', left: { meta: { key: 'skuid' } }, right: 4294967295 } },
        {
          match: {
            op: '==',
            left: {
              concat: [
                { payload: { protocol, field: 'daddr' } },
                { payload: { protocol: 'tcp', field: 'dport' } }
              ]
            },
            right: `@${name}`
          }
        },
        { snat: { family: protocol, addr: source } }
      ]
      return [
        {
          add: {
            set: {
              family,
              name,
              table: hostTable,
              type: [version === 4 ? 'ipv4_addr' : 'ipv6_addr', 'inet_service'],
              ...(elements.length === 0 ? {} : { elem: elements })
            }
          }
        },
        { add: { rule: { family, table: hostTable, chain: 'probes', expr } } }
      ]
    })
  ]
}

function asListed(command: JsonObject): JsonObject {
  return (command['add'] as JsonObject | undefined) ?? {}
}

/** What decides: the statements of the rules and the elements of the sets, in one comparable text. */
function nftHostLines(objects: readonly JsonObject[]): string {
  const lines = objects.flatMap(({ rule, set }) => {
    if (rule !== undefined) return [JSON.stringify((rule as JsonObject)['expr'])]
    if (set === undefined) return []
    const { name, elem } = set as { name: string; elem?: readonly JsonObject[] }
    return (elem ?? []).map(
      element => `${name} ${JSON.stringify((element['elem'] as JsonObject | undefined)?.['val'] ?? element)}`
    )
  })
  return lines.toSorted().join('\n')
}

function iptablesProbes(
  program: Exclude<CaptureMethod['backend'], 'nft'>,
  sources: readonly Ip[],
  netns: number | undefined
): ProbeRules {
  const commands = sources.map(source => ({
    source,
    command: ipFamily(source) === 4 ? program : program.replace(/^ip/, 'ip6')
  }))
  return {
    write: async targets => {
      for (const { source, command } of commands) {
        const script = iptablesHostScript(source, targets)
        const saved = await mustRun(netns, `${command}-save`, ['-t', 'nat'])
        const old = saved
          .split('\n')
          .filter(line => line.startsWith('-A POSTROUTING') && line.includes(hostChain))
        const removal = old.map(line => line.replace('-A', '-D'))
        await mustRun(netns, `${command}-restore`, ['--noflush', '--wait', '5'], {
          input: `*nat\n${[...script, ...removal, `-I POSTROUTING 1 -j ${hostChain}`, 'COMMIT'].join('\n')}\n`
        })
      }
    },
    verify: async targets => {
      for (const { source, command } of commands) {
        const lines = (await mustRun(netns, `${command}-save`, ['-t', 'nat'])).split('\n')
        const first = lines.find(line => line.startsWith('-A POSTROUTING'))
        const rules = lines.filter(line => line.startsWith(`-A ${hostChain} `))
        const wanted = iptablesHostScript(source, targets).slice(1)
        if (first !== `-A POSTROUTING -j ${hostChain}` || rules.join('\n') !== wanted.join('\n')) return false
      }
      return true
    }
  }
}

/** The chain's declaration and its rules, in the words of iptables-save. */
export function iptablesHostScript(source: Ip, targets: readonly ProbeTarget[]): readonly string[] {
  const version = ipFamily(source)
  const rules = targetsOf(targets, version).map(
    ({ ip, port }) =>
      `-A ${hostChain} -d ${ip}/${version === 4 ? 32 : 128} -p tcp -m tcp --dport ${port} -m owner --socket-exists -j SNAT --to-source ${source}`
  )
  return [`:${hostChain} - [0:0]`, ...rules]
}

function removalScript(saved: string): string {
  const jumps = saved
    .split('\n')
    .filter(line => line.startsWith('-A POSTROUTING') && line.includes(hostChain))
  return `*nat\n:${hostChain} - [0:0]\n${jumps.map(line => line.replace('-A', '-D')).join('\n')}\n-X ${hostChain}\nCOMMIT\n`
}

/** One target per address and port, the latest pod winning: addresses are used again before the old pod is gone. */
function targetsOf(targets: readonly ProbeTarget[], family: Family): readonly ProbeTarget[] {
  const byPlace = new Map<string, ProbeTarget>()
  for (const target of targets) {
    if (ipFamily(target.ip) === family) byPlace.set(`${target.ip} ${target.port}`, target)
  }
  return [...byPlace.values()]
}

async function attempt(work: () => Promise<string>): Promise<string> {
  try {
    return await work()
  } catch {
    // Not installed, or no such table: then nothing of ours is there either.
    return ''
  }
}
