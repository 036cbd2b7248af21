/** Capture of one pod as a whole: writes rules and the loop route, reads both back, says what differs, removes both. */
import { desiredRules, type CaptureMode, type RuleOptions, type RuleSet } from './desired.ts'
import {
  applyIptables,
  desiredIptables,
  familiesOf,
  iptablesPrograms,
  type IptablesProgram,
  readIptables,
  removeIptables
} from './iptables.ts'
import { applyLoopRoute, desiredLoopRoute, readLoopRoute, removeLoopRoute } from './loop-route.ts'
import { applyNft, desiredNft, readNft, removeNft } from './nft.ts'
import { applySettings, changedSettings, readSettings, restoreSettings } from './settings.ts'
import { CommandError, mustRun } from '../run-command.ts'

/** How rules are written on this machine. */
export interface CaptureMethod {
  readonly backend: 'nft' | IptablesProgram
  readonly mode: CaptureMode
}

/** What differs between the rules that shall be there and those that are. */
export interface Drift {
  readonly missing: readonly string[]
  /** Lines of ours that should not be there, or stand elsewhere. */
  readonly unexpected: readonly string[]
}

export interface RuleState extends Drift {
  /** Whether there are any rules of ours; the loop route alone does not count, istio-cni has the same. */
  readonly present: boolean
  readonly generation: string
  readonly desired: readonly string[]
  readonly actual: readonly string[]
}

export interface Applied {
  readonly generation: string
  /** Kernel settings that could not be set; capture works without them. */
  readonly refusedSettings: readonly string[]
}

/**
 * Puts the rules in place, whatever was there of ours before, and reads them back. Idempotent. Throws when something
 * cannot be written or reads back differently; what was in force before stays in force then.
 */
export async function applyCapture(
  netns: number,
  method: CaptureMethod,
  options: RuleOptions
): Promise<Applied> {
  const rules = desiredRules(options)
  // The way back comes first: with rules but without the route, captured packets would be dropped.
  await applyLoopRoute(netns)
  const refusedSettings = applySettings(netns, rules)
  if (method.backend === 'nft') await applyNft(netns, rules)
  else await applyIptables(method.backend, netns, rules)
  const state = await readCapture(netns, method, options)
  if (hasDrift(state)) {
    throw new Error(`the rules do not read back as written: ${describeDrift(state)}`)
  }
  return { generation: rules.generation, refusedSettings }
}

/** Desired and actual rules with their differences. */
export async function readCapture(
  netns: number,
  method: CaptureMethod,
  options: RuleOptions
): Promise<RuleState> {
  const rules = desiredRules(options)
  const settings = readSettings(netns, rules)
  const desired = [...desiredOf(netns, method, rules), ...desiredLoopRoute(netns), ...settings.desired]
  const written = method.backend === 'nft' ? await readNft(netns) : await readIptables(method.backend, netns)
  const actual = [...written, ...(await readLoopRoute(netns)), ...settings.actual]
  return {
    generation: rules.generation,
    present: written.length > 0,
    desired,
    actual,
    ...differences(desired, actual)
  }
}

/** As {@link applyCapture}, and takes out what an agent that used another backend wrote. */
export async function repairCapture(
  netns: number,
  method: CaptureMethod,
  options: RuleOptions
): Promise<Applied> {
  const applied = await applyCapture(netns, method, options)
  if (method.backend === 'nft') {
    for (const program of iptablesPrograms) await tolerateMissing(() => removeIptables(program, netns))
  } else await tolerateMissing(() => removeNft(netns))
  return applied
}

/** Takes everything of ours out, by whichever backend it was written; the way back goes last, as it came first. */
export async function removeCapture(netns: number): Promise<void> {
  const { rules } = await findCapture(netns)
  await tolerateMissing(() => removeNft(netns))
  for (const program of iptablesPrograms) await tolerateMissing(() => removeIptables(program, netns))
  restoreSettings(netns, interfacesIn(rules))
  if (!(await othersLoop(netns))) await removeLoopRoute(netns)
}

export interface FoundCapture {
  readonly rules: readonly string[]
  /** Policy rules and routes; without rules of ours they are what an interrupted removal left. */
  readonly routes: readonly string[]
  /** Kernel settings that have the value which capture gives them. */
  readonly settings: readonly string[]
}

/** Everything of ours in a namespace, by whichever backend it was written. */
export async function findCapture(netns: number): Promise<FoundCapture> {
  const rules: string[] = []
  await tolerateMissing(async () => void rules.push(...(await readNft(netns))))
  for (const program of iptablesPrograms) {
    await tolerateMissing(async () => {
      const found = await readIptables(program, netns)
      rules.push(...found.filter(line => !rules.includes(line))) // `iptables` is one of the other two
    })
  }
  const routes = await readLoopRoute(netns)
  return {
    rules,
    routes: routes.length > 0 && (await othersLoop(netns)) ? [] : routes,
    settings: changedSettings(netns, interfacesIn(rules))
  }
}

/** Whether {@link findCapture} would find anything; cheap where there is nothing, as the route is there first. */
export async function hasCapture(netns: number): Promise<boolean> {
  if ((await readLoopRoute(netns)).length === 0) return false
  const { rules, routes } = await findCapture(netns)
  return rules.length + routes.length > 0
}

/** Whether rules of somebody else, such as istio-cni's, set the mark that our policy route serves as well. */
async function othersLoop(netns: number): Promise<boolean> {
  for (const [program, parameters] of [
    ['nft', ['list', 'ruleset']],
    ['iptables-save', []],
    ['iptables-legacy-save', []]
  ] as const) {
    let text = ''
    await tolerateMissing(async () => {
      text = await mustRun(netns, program, parameters)
    })
    if (/\bISTIO_|istio-(?:prerouting|output)/.test(text)) return true
  }
  return false
}

/** Names of the interfaces that rules match, `lo` aside. */
function interfacesIn(rules: readonly string[]): readonly string[] {
  const names = rules.flatMap(rule => /(?:\biifname| -i|: -i) (\S+)/.exec(rule)?.[1] ?? [])
  return [...new Set(names)].filter(name => name !== 'lo')
}

export function hasDrift({ missing, unexpected }: Drift): boolean {
  return missing.length > 0 || unexpected.length > 0
}

export function describeDrift({ missing, unexpected }: Drift): string {
  const parts = [
    missing.length > 0 ? `missing: ${missing.slice(0, 3).join(' | ')}${more(missing)}` : '',
    unexpected.length > 0 ? `unexpected: ${unexpected.slice(0, 3).join(' | ')}${more(unexpected)}` : ''
  ]
  return parts.filter(Boolean).join('; ')
}

/** Lines count with their order inside a chain: a rule below another may do nothing. */
export function differences(desired: readonly string[], actual: readonly string[]): Drift {
  if (desired.join('\n') === actual.join('\n')) return { missing: [], unexpected: [] }
  const missing = desired.filter(line => !actual.includes(line))
  const unexpected = actual.filter(line => !desired.includes(line))
  if (missing.length > 0 || unexpected.length > 0) return { missing, unexpected }
  return { missing: [], unexpected: ['the same rules in another order or more than once'] }
}

function desiredOf(netns: number, method: CaptureMethod, rules: RuleSet): readonly string[] {
  return method.backend === 'nft' ? desiredNft(rules) : desiredIptables(rules, familiesOf(netns))
}

function more(lines: readonly string[]): string {
  return lines.length > 3 ? ` and ${lines.length - 3} more` : ''
}

async function tolerateMissing(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    // A program that is not installed has written nothing.
    if (!(error instanceof CommandError && error.missing)) throw error
  }
}
