/**
 * The way back to `lo`: packets that carry the loop mark are routed to a table whose only route is "local".
 * Other software flushes rules, so these are verified like any.
 */
import { readFileSync } from 'node:fs'
import type { Family } from '../../shared/net/address.ts'
import { inNetns } from '../../shared/net/netns.ts'
import { mustRun, runCommand } from '../run-command.ts'
import { loopMark, loopPriority, loopTable, markMask } from './desired.ts'

const mark = `0x${loopMark.toString(16)}/0x${markMask.toString(16)}`
const ruleText = `pref ${loopPriority} fwmark ${mark} lookup ${loopTable}`
const routeText = `local default dev lo table ${loopTable}`

/** Adds what is missing; throws when the pod then still lacks a way back. */
export async function applyLoopRoute(netns: number): Promise<void> {
  for (const family of routedFamilies(netns)) {
    const present = await read(netns, family)
    const commands = [
      ...(present.includes(ruleLine(family)) ? [] : [`rule add ${ruleText}`]),
      // A route over lo needs lo to be up, which in a new sandbox depends on who comes first.
      ...(present.includes(routeLine(family)) ? [] : ['link set lo up', `route replace ${routeText}`])
    ]
    if (commands.length > 0)
      await mustRun(netns, 'ip', [`-${family}`, '-batch', '-'], { input: `${commands.join('\n')}\n` })
  }
}

export async function removeLoopRoute(netns: number): Promise<void> {
  for (const family of routedFamilies(netns)) {
    const present = await read(netns, family)
    const commands = [
      ...present.filter(line => line === ruleLine(family)).map(() => `rule del ${ruleText}`),
      ...(present.includes(routeLine(family)) ? [`route del ${routeText}`] : [])
    ]
    if (commands.length > 0)
      await mustRun(netns, 'ip', [`-${family}`, '-batch', '-'], { input: `${commands.join('\n')}\n` })
  }
}

/** One line for our rule and one for our route of each family, as far as they are there. */
export async function readLoopRoute(netns: number): Promise<readonly string[]> {
  const lines: string[] = []
  for (const family of routedFamilies(netns)) lines.push(...(await read(netns, family)))
  return lines
}

export function desiredLoopRoute(netns: number): readonly string[] {
  return routedFamilies(netns).flatMap(family => [ruleLine(family), routeLine(family)])
}

/** IPv6 only where lo has it: the kernel takes no route over lo otherwise, and marked packets then fail closed. */
function routedFamilies(netns: number): readonly Family[] {
  return inNetns(netns, () => {
    try {
      const disabled = readFileSync('/proc/sys/net/ipv6/conf/lo/disable_ipv6', 'utf8').trim()
      return disabled === '0' ? [4, 6] : [4]
    } catch {
      return [4] // a kernel without IPv6
    }
  })
}

async function read(netns: number, family: Family): Promise<string[]> {
  // -force: asking for a table that does not exist is an error to some versions, and the answer all the same.
  const { stdout } = await runCommand(netns, 'ip', [`-${family}`, '-j', '-force', '-batch', '-'], {
    input: `rule show\nroute show table ${loopTable}\n`
  })
  const [rules = [], routes = []] = stdout
    .split('\n')
    .filter(line => line.startsWith('['))
    .map(line => JSON.parse(line) as readonly Readonly<Record<string, unknown>>[])
  return [
    ...rules
      .filter(
        rule =>
          rule['priority'] === loopPriority &&
          `${String(rule['fwmark'])}/${String(rule['fwmask'])}` === mark &&
          String(rule['table']) === String(loopTable)
      )
      .map(() => ruleLine(family)),
    ...routes
      .filter(route => route['type'] === 'local' && route['dst'] === 'default' && route['dev'] === 'lo')
      .map(() => routeLine(family))
  ]
}

function ruleLine(family: Family): string {
  return `ipv${family} rule ${ruleText}`
}

function routeLine(family: Family): string {
  return `ipv${family} route ${routeText}`
}
