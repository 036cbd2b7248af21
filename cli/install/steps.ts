/** The steps that `install` and `upgrade` share: what to bring, bring it, wait for it. */
import { readFile } from 'node:fs/promises'
import { parseDuration } from '../../shared/runtime/env.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import { CommandFailure, UsageError, type Invocation, type OptionSpec } from '../command.ts'
import { describeFailure } from '../failure.ts'
import { clusterOptions } from '../options.ts'
import { limit } from '../reach.ts'
import { applyAll, type Applied } from './apply.ts'
import { compareDefinitions, createDefinitions } from './definitions.ts'
import { nameOf, type Manifest } from './manifest.ts'
import { parseSettings, readSettings, type Settings } from './settings.ts'
import { waitUntilReady } from './wait.ts'

export const installOptions: readonly OptionSpec[] = [
  { flags: '--set <name=value>', help: 'a setting, listed above (repeatable)', repeatable: true },
  { flags: '--values <file>', help: 'settings in a YAML file; --set wins' },
  { flags: '--dry-run', help: 'ask the API server what would change; change nothing' },
  { flags: '--no-wait', help: 'do not wait until everything is ready' },
  { flags: '--ready-timeout <duration>', help: 'how long to wait for that', fallback: '5m' },
  ...clusterOptions
]

export async function chosenSettings(invocation: Invocation): Promise<Settings> {
  const file = invocation.text('values')
  const fromWords = parseSettings(invocation.list('set'))
  if (file === undefined) return fromWords
  const { parseYaml } = await import('../../shared/kube/yaml.ts')
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    throw new UsageError(`--values ${file}: ${messageOf(error)}`)
  }
  return { ...readSettings(parseYaml(text, file), file), ...fromWords }
}

/** Creates the definitions that are absent, and names those that are older than ours. */
export async function bringDefinitions(invocation: Invocation, client: KubeClient): Promise<void> {
  const { io } = invocation
  const dryRun = invocation.flag('dry-run')
  const compared = await compareDefinitions(client, limit(invocation))
  const absent = compared.filter(({ state }) => state.kind === 'absent').map(({ definition }) => definition)
  await createDefinitions(client, absent, { dryRun, limit: () => limit(invocation) })
  const done = dryRun ? 'would be created' : 'created'
  io.out(`definitions: ${absent.length} ${done}, ${compared.length - absent.length} were there\n`)
  for (const { definition, state } of compared) {
    if (state.kind !== 'older') continue
    io.err(
      `warning: ${definition.metadata.name} ${state.lacks}; it is left as it is, upgrade it with what brought it\n`
    )
  }
}

export async function bring(
  invocation: Invocation,
  client: KubeClient,
  objects: readonly Manifest[]
): Promise<void> {
  const dryRun = invocation.flag('dry-run')
  let unchanged = 0
  for await (const applied of applyAll(client, objects, { dryRun, limit: () => limit(invocation) })) {
    if (applied.kind === 'unchanged') unchanged += 1
    else invocation.io.out(`${appliedText(applied, dryRun)}\n`)
  }
  if (unchanged > 0) invocation.io.out(`${unchanged} objects are as they should be\n`)
}

/** Fields that are named; more only tell that there are more. */
const shownFields = 4

function appliedText(applied: Applied, dryRun: boolean): string {
  const name = nameOf(applied.object)
  const would = dryRun ? 'would be ' : ''
  if (applied.kind !== 'changed') return `${would}${applied.kind}: ${name}`
  const shown = applied.fields.slice(0, shownFields).join(', ')
  const more = applied.fields.length - shownFields
  return `${would}changed: ${name} (${shown}${more > 0 ? ` and ${more} more` : ''})`
}

/** How long to wait, in milliseconds. Throws a {@link UsageError}: call it before anything is changed. */
export function readyPatience(invocation: Invocation): number {
  const text = invocation.text('ready-timeout') ?? '5m'
  const patienceMs = parseDuration(text)
  if (patienceMs === undefined) {
    throw new UsageError(`--ready-timeout ${JSON.stringify(text)}: expected a duration such as 90s or 5m`)
  }
  return patienceMs
}

/** Throws a {@link CommandFailure} that says what is not ready, and why. */
export async function waitForAll(
  invocation: Invocation,
  client: KubeClient,
  objects: readonly Manifest[]
): Promise<void> {
  if (invocation.flag('dry-run') || !invocation.flag('wait')) return
  const patienceMs = readyPatience(invocation)
  const workloads = objects.filter(({ kind }) => kind === 'Deployment' || kind === 'DaemonSet')
  const problems = await waitUntilReady(client, workloads, {
    say: line => invocation.io.out(`${line}\n`),
    limit: () => limit(invocation),
    patienceMs
  })
  if (problems.length === 0) return
  throw new CommandFailure(
    `not ready after ${invocation.text('ready-timeout')}:\n${problems.join('\n')}\nwhat was brought stays; the same command again waits on`
  )
}

/** Runs a command that needs many permissions; a refusal says where to find them all. */
export async function permitted(invocation: Invocation, run: () => Promise<number>): Promise<number> {
  try {
    return await run()
  } catch (error) {
    if (!(error instanceof KubeError) || error.status !== 403) throw error
    invocation.io.err(describeFailure(error))
    invocation.io.err('everything that installing takes: underpass install --print-rbac\n')
    return 1
  }
}
