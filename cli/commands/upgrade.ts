/** `underpass upgrade`: from the installed version to this program's. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { CommandFailure, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { isCharted, nameOf } from '../install/manifest.ts'
import { leftOver, readInstalled, readObstacles, withoutOthersConfiguration } from '../install/present.ts'
import { readInstallation, writeInstallation, type Installation } from '../install/record.ts'
import { remove } from '../install/remove.ts'
import {
  bring,
  bringDefinitions,
  chosenSettings,
  installOptions,
  permitted,
  readyPatience,
  waitForAll
} from '../install/steps.ts'
import { settingsText } from '../install/settings.ts'
import { skewOf } from '../install/versions.ts'
import { meshOptions } from '../options.ts'
import { limit } from '../reach.ts'
import { objectsFor } from './install.ts'
import { planOptions, printPlan } from './upgrade-plan.ts'
import { clientVersion } from './version.ts'

export const command: LeafCommand = {
  name: 'upgrade',
  summary: 'bring an installed mesh to the version of this program',
  description: `Keeps the settings that were chosen before; --set changes them. Only the parts that were installed with this program
are upgraded. Versions that are more than one minor version apart are refused, as nodes of both work side by side
meanwhile.

${settingsText}`,
  options: [...planOptions, ...installOptions, ...meshOptions],
  examples: [
    { what: 'Which long connections it would cut', command: 'upgrade --plan' },
    { what: 'What would change', command: 'upgrade --dry-run' },
    { what: 'To this version', command: 'upgrade' },
    { what: 'Change a setting', command: 'upgrade --set logLevel=debug' }
  ],
  run: invocation => permitted(invocation, () => run(invocation))
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const { io } = invocation
  readyPatience(invocation)
  const chosen = await chosenSettings(invocation)
  const client = await invocation.client()
  const before = await readInstallation(client, limit(invocation))
  if (before === undefined) throw await nothingInstalled(invocation, client)
  if (invocation.flag('plan')) return printPlan(invocation, client, before)
  const version = clientVersion()
  const skew = skewOf(before.version, version)
  if (skew.kind === 'too far') throw new CommandFailure(skew.why)
  io.out(
    `${before.parts.join(', ')}: ${before.version} -> ${version}${skew.kind === 'same' ? ' (same)' : ''}\n`
  )

  const after: Installation = { ...before, version, settings: { ...before.settings, ...chosen } }
  const objects = await withoutOthersConfiguration(client, objectsFor(after), () => limit(invocation))
  const obsolete = leftOver(await readInstalled(client, objects, () => limit(invocation)), objects).filter(
    ({ kind }) => kind !== 'ConfigMap'
  )
  await bringDefinitions(invocation, client)
  await bring(invocation, client, objects)
  const dryRun = invocation.flag('dry-run')
  for (const object of obsolete) {
    if (!dryRun) await remove(client, object, { limit: () => limit(invocation) })
    io.out(`${dryRun ? 'would be ' : ''}removed: ${nameOf(object)}\n`)
  }
  if (dryRun) return 0
  await writeInstallation(client, after, limit(invocation))
  await waitForAll(invocation, client, objects)
  io.out(`upgraded to ${version}\n`)
  return 0
}

async function nothingInstalled(invocation: Invocation, client: KubeClient): Promise<CommandFailure> {
  const obstacles = await readObstacles(client, () => limit(invocation))
  return obstacles.some(({ object }) => isCharted(object.metadata.labels))
    ? new CommandFailure('this mesh was installed with Helm: use helm upgrade')
    : new CommandFailure('nothing was installed with underpass install in this cluster: use that')
}
