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
import {
  applyLoopRoute,
  applySettings,
  desiredLoopRoute,
  readLoopRoute,
  removeLoopRoute
} from './loop-route.ts'
import { applyNft, desiredNft, readNft, removeNft } from './nft.ts'
import { CommandError } from '../run-command.ts'

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
  const desired = [...desiredOf(netns, method, rules), ...desiredLoopRoute(netns)]
  const written = method.backend === 'nft' ? await readNft(netns) : await readIptables(method.backend, netns)
  const actual = [...written, ...(await readLoopRoute(netns))]
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

/** Takes everything of ours out, by whichever backend it was written. */
export async function removeCapture(netns: number): Promise<void> {
  await tolerateMissing(() => removeNft(netns))
  for (const program of iptablesPrograms) await tolerateMissing(() => removeIptables(program, netns))
  await removeLoopRoute(netns)
}

/** Everything of ours in a namespace, by whichever backend it was written. */
export async function findCapture(netns: number): Promise<readonly string[]> {
  const lines: string[] = []
  await tolerateMissing(async () => void lines.push(...(await readNft(netns))))
  for (const program of iptablesPrograms) {
    await tolerateMissing(async () => void lines.push(...(await readIptables(program, netns))))
  }
  return lines
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
