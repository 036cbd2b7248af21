/**
 * Rules in iptables and ip6tables: own chains whose names carry the generation, each entered by the first rule of a
 * built-in chain. One `iptables-restore --noflush` per family builds the new chains, moves the jump and drops the old
 * chains; every table is swapped at once. Rules of others are never touched.
 */
import { existsSync } from 'node:fs'
import type { Family } from '../../shared/net/address.ts'
import { inNetns } from '../../shared/net/netns.ts'
import { CommandError, mustRun } from '../run-command.ts'
import {
  type Action,
  type Chain,
  type Condition,
  loopMark,
  markMask,
  type Rule,
  type RuleSet
} from './desired.ts'

const ours = /\bUNDERPASS_[A-Z]+_[0-9a-f]+\b/
const tables = ['raw', 'mangle', 'nat'] as const
const tcp = '-p tcp -m tcp'

/** `iptables`, or where both kinds are installed one of them by name: `iptables-nft`, `iptables-legacy`. */
export type IptablesProgram = 'iptables' | 'iptables-nft' | 'iptables-legacy'
export const iptablesPrograms: readonly IptablesProgram[] = ['iptables', 'iptables-nft', 'iptables-legacy']

export async function applyIptables(
  program: IptablesProgram,
  netns: number | undefined,
  rules: RuleSet
): Promise<void> {
  for (const family of familiesOf(netns)) {
    const saved = await save(program, family, netns)
    const script = iptablesScript(rules, family, saved)
    await mustRun(netns, `${commandOf(program, family)}-restore`, ['--noflush', '--wait', '5'], {
      input: script
    })
  }
}

export async function removeIptables(program: IptablesProgram, netns: number | undefined): Promise<void> {
  for (const family of familiesOf(netns)) {
    const saved = await save(program, family, netns)
    if (!ours.test(saved)) continue
    const script = iptablesScript(undefined, family, saved)
    await mustRun(netns, `${commandOf(program, family)}-restore`, ['--noflush', '--wait', '5'], {
      input: script
    })
  }
}

/** Our chains, and the jumps to them with their place in the built-in chain. */
export async function readIptables(
  program: IptablesProgram,
  netns: number | undefined
): Promise<readonly string[]> {
  const lines: string[] = []
  for (const family of familiesOf(netns)) lines.push(...ownLines(await save(program, family, netns), family))
  return lines.toSorted(byChain)
}

/** What {@link readIptables} shall find where the given families exist. */
export function desiredIptables(rules: RuleSet, families: readonly Family[]): readonly string[] {
  return families.flatMap(family => ownLines(iptablesScript(rules, family, ''), family)).toSorted(byChain)
}

export function familiesOf(netns: number | undefined): readonly Family[] {
  const exists = (): boolean => existsSync('/proc/thread-self/net/if_inet6')
  return (netns === undefined ? exists() : inNetns(netns, exists)) ? [4, 6] : [4]
}

/** Input for iptables-restore that puts `rules` (none: nothing) in the place of what `saved` shows of ours. */
export function iptablesScript(rules: RuleSet | undefined, family: Family, saved: string): string {
  const current = sections(saved)
  return tables.map(table => tableScript(table, rules, family, current.get(table) ?? [])).join('')
}

function tableScript(
  table: Chain['table'],
  rules: RuleSet | undefined,
  family: Family,
  current: readonly string[]
): string {
  const chains = (rules?.chains ?? [])
    .filter(chain => chain.table === table)
    .map(chain => ({ ...chain, title: chainTitle(chain, rules?.generation ?? '') }))
  const titles = chains.map(({ title }) => title)
  const present = current.filter(line => ours.test(line))
  const oldJumps = present.filter(line => /^-A [A-Z]+ /.test(line))
  const oldChains = present
    .filter(line => line.startsWith(':'))
    .map(line => line.slice(1).split(' ')[0] ?? '')
  const obsolete = oldChains.filter(title => !titles.includes(title))
  if (chains.length === 0 && present.length === 0) return ''
  const lines = [
    `*${table}`,
    // A chain that is declared is emptied first, so repairing the present generation works the same way.
    ...[...titles, ...obsolete].map(title => `:${title} - [0:0]`),
    ...chains.flatMap(({ title, rules }) => rules.flatMap(rule => ruleLines(title, rule, family))),
    // Old jumps go before new ones come; nobody sees the moment between, as a table is committed at once.
    ...oldJumps.map(line => line.replace('-A', '-D')),
    ...chains.map(({ hook, title }) => `-I ${hook.toUpperCase()} 1 -j ${title}`),
    ...obsolete.map(title => `-X ${title}`),
    'COMMIT'
  ]
  return `${lines.join('\n')}\n`
}

function ruleLines(title: string, rule: Rule, family: Family): string[] {
  const other = rule.conditions.some(condition => 'family' in condition && condition.family !== family)
  if (other) return []
  const conditions = rule.conditions
    .map(condition => matchOf(condition, family))
    .toSorted((a, b) => a.order - b.order)
    // The protocol is named once, whatever is asked of its header.
    .map(({ text }, index, all) =>
      all[index - 1]?.text.startsWith(tcp) === true ? text.replace(tcp, '').trimStart() : text
    )
  return [['-A', title, ...conditions, targetOf(rule.action, family)].join(' ')]
}

/** In the order and the words of iptables-save, so that what was written reads back the same. */
function matchOf(condition: Condition, family: Family): { readonly order: number; readonly text: string } {
  switch (condition.kind) {
    case 'source':
    case 'destination': {
      const text = condition.block.includes('/')
        ? condition.block
        : `${condition.block}/${family === 4 ? 32 : 128}`
      return { order: 0, text: `${condition.kind === 'source' ? '-s' : '-d'} ${text}` }
    }
    case 'in':
    case 'out': {
      const option = condition.kind === 'in' ? '-i' : '-o'
      return { order: 1, text: `${condition.negated === true ? '! ' : ''}${option} ${condition.device}` }
    }
    case 'tcp-port':
      return { order: 2, text: `${tcp} --dport ${condition.port}` }
    case 'tcp-syn':
      return { order: 3, text: `${tcp} --tcp-flags FIN,SYN,RST,ACK SYN` }
    case 'udp-port':
      return { order: 2, text: `-p udp -m udp --dport ${condition.port}` }
    case 'udp-source-port':
      return { order: 2, text: `-p udp -m udp --sport ${condition.port}` }
    case 'mark':
      return { order: 4, text: `-m mark --mark ${hex(condition.value)}/${hex(markMask)}` }
    case 'connection-mark':
      return { order: 5, text: `-m connmark --mark ${hex(condition.value)}/${hex(markMask)}` }
    default:
      return condition satisfies never
  }
}

function targetOf(action: Action, family: Family): string {
  const loop = `${hex(loopMark)}/${hex(markMask)}`
  switch (action.kind) {
    case 'return':
      return '-j RETURN'
    case 'drop':
      return '-j DROP'
    case 'mark-connection':
      return `-j CONNMARK --set-xmark ${loop}`
    case 'mark-packet':
      return `-j MARK --set-xmark ${loop}`
    case 'restore-mark':
      return `-j CONNMARK --restore-mark --nfmask ${hex(markMask)} --ctmask ${hex(markMask)}`
    case 'tproxy': {
      const mark = action.marked ? loop : '0x0/0x0'
      return `-j TPROXY --on-port ${action.port} --on-ip ${family === 4 ? '0.0.0.0' : '::'} --tproxy-mark ${mark}`
    }
    case 'redirect':
      return `-j REDIRECT --to-ports ${action.port}`
    case 'conntrack-zone':
      return `-j CT --zone ${action.zone}`
    default:
      return action satisfies never
  }
}

function chainTitle(chain: Chain, generation: string): string {
  const direction = chain.hook === 'prerouting' ? 'PRE' : chain.hook === 'output' ? 'OUT' : 'POST'
  return `UNDERPASS_${direction}_${generation}`
}

/** Lines of each table of an iptables-save text. */
function sections(saved: string): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>()
  let lines: string[] | undefined
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) found.set(line.slice(1), (lines = []))
    else if (line === 'COMMIT') lines = undefined
    else lines?.push(line.replace(/^\[\d+:\d+\] /, ''))
  }
  return found
}

function ownLines(text: string, family: Family): string[] {
  const lines: string[] = []
  for (const [table, section] of sections(text)) {
    const places = new Map<string, number>()
    for (const line of section) {
      const [command, chain = '', ...rest] = line.split(' ')
      if (command !== '-A' && command !== '-I') continue
      if (ours.test(chain)) {
        lines.push(`ipv${family} ${table} ${chain}: ${rest.join(' ')}`)
        continue
      }
      const place = (places.get(chain) ?? 0) + 1
      places.set(chain, place)
      const target = rest.slice(command === '-I' ? 1 : 0).join(' ')
      if (ours.test(line)) lines.push(`ipv${family} ${table} ${chain}: rule ${place} ${target}`)
    }
  }
  return lines
}

/** By chain, keeping the order of rules inside it. */
function byChain(a: string, b: string): number {
  const [left, right] = [a.slice(0, a.indexOf(':')), b.slice(0, b.indexOf(':'))]
  return left < right ? -1 : left > right ? 1 : 0
}

async function save(program: IptablesProgram, family: Family, netns: number | undefined): Promise<string> {
  try {
    return await mustRun(netns, `${commandOf(program, family)}-save`, [])
  } catch (error) {
    if (error instanceof CommandError && error.missing && family === 6) {
      throw new CommandError('ip6tables-save', 'not installed, but the machine has IPv6', true)
    }
    throw error
  }
}

function commandOf(program: IptablesProgram, family: Family): string {
  return family === 4 ? program : program.replace(/^ip/, 'ip6')
}

function hex(value: number): string {
  return `0x${value.toString(16)}`
}
