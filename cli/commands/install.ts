/** `underpass install`: brings the mesh, or takes over one part of another. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { CommandFailure, UsageError, type ExitCode, type Invocation, type LeafCommand } from '../command.ts'
import { obstacleText, type Obstacle } from '../install/in-the-way.ts'
import {
  isCharted,
  marked,
  partOf,
  parts,
  readManifest,
  type Manifest,
  type Part
} from '../install/manifest.ts'
import { installerRole } from '../install/permissions.ts'
import { readObstacles, withoutOthersConfiguration } from '../install/present.ts'
import {
  forgetInstallation,
  readInstallation,
  writeInstallation,
  type Installation
} from '../install/record.ts'
import { giveBack, makeWay } from '../install/replace.ts'
import { settingsText, withSettings, type Settings } from '../install/settings.ts'
import {
  bring,
  bringDefinitions,
  chosenSettings,
  installOptions,
  permitted,
  readyPatience,
  waitForAll
} from '../install/steps.ts'
import { limit } from '../reach.ts'
import { clientVersion } from './version.ts'

export const command: LeafCommand = {
  name: 'install',
  summary: 'install the mesh, or take over one part of another mesh',
  description: `Brings the definitions of Istio's and the Gateway API's kinds where they are absent, and the mesh's own objects
into istio-system; then waits until everything is ready. Doing it again changes nothing.

Where another mesh is installed it refuses and names what is in the way. --replace takes over one part of it: what is
replaced is recorded, its certificate authority's Secret stays in use, and --restore gives it back as it was.

${settingsText}`,
  options: [
    ...installOptions,
    { flags: '--replace <part>', help: 'take over this part of another mesh', choices: parts },
    { flags: '--restore <part>', help: 'undo --replace of this part', choices: parts },
    { flags: '--print-rbac', help: 'print the permissions that installing takes, as a ClusterRole' }
  ],
  examples: [
    { what: 'Everything', command: 'install' },
    { what: 'What would change', command: 'install --dry-run' },
    {
      what: 'From a registry of your own',
      command: 'install --set image=registry.example.com/underpass:0.1.0'
    },
    { what: "Only Istio's ztunnel is replaced", command: 'install --replace ztunnel' },
    { what: '… and put back', command: 'install --restore ztunnel' },
    { what: 'Permissions for somebody else', command: 'install --print-rbac' }
  ],
  run: invocation => permitted(invocation, () => run(invocation))
}

async function run(invocation: Invocation): Promise<ExitCode> {
  if (invocation.flag('print-rbac')) {
    const { stringifyYaml } = await import('../../shared/kube/yaml.ts')
    invocation.io.out(stringifyYaml(installerRole(readManifest())))
    return 0
  }
  const [replaced, restored] = [partOption(invocation, 'replace'), partOption(invocation, 'restore')]
  if (replaced !== undefined && restored !== undefined) {
    throw new UsageError('--replace and --restore exclude each other')
  }
  readyPatience(invocation)
  const settings = await chosenSettings(invocation)
  const client = await invocation.client()
  if (restored !== undefined) return restore(invocation, client, restored)
  return install(invocation, client, replaced, settings)
}

function partOption(invocation: Invocation, option: string): Part | undefined {
  return parts.find(part => part === invocation.text(option))
}

async function install(
  invocation: Invocation,
  client: KubeClient,
  replaced: Part | undefined,
  chosen: Settings
): Promise<ExitCode> {
  const { io } = invocation
  const started = io.now()
  const version = clientVersion()
  const before = await readInstallation(client, limit(invocation))
  if (before !== undefined && before.version !== version) {
    throw new CommandFailure(
      `version ${before.version} is installed and this is ${version}: underpass upgrade goes from one to the other`
    )
  }
  const obstacles = await readObstacles(client, () => limit(invocation))
  refuse(obstacles, replaced)
  const ours = replaced === undefined ? parts : [...new Set([...(before?.parts ?? []), replaced])]
  const installation: Installation = {
    version,
    settings: { ...besideOthers(ours), ...before?.settings, ...chosen },
    parts: ours
  }
  const objects = await withoutOthersConfiguration(client, objectsFor(installation), () => limit(invocation))
  if (replaced !== undefined) {
    await takeOver(
      invocation,
      client,
      replaced,
      objects,
      obstacles.filter(({ part }) => part === replaced)
    )
  }
  await bringDefinitions(invocation, client)
  await bring(invocation, client, objects)
  if (invocation.flag('dry-run')) return 0
  await writeInstallation(client, installation, limit(invocation))
  await waitForAll(invocation, client, objects)
  const seconds = ((io.now() - started) / 1000).toFixed(0)
  io.out(`installed in ${seconds} s; next: underpass enroll NAMESPACE\n`)
  return 0
}

/** Istio's ztunnel answers captured DNS only where it is diverted by REDIRECT. */
function besideOthers(ours: readonly Part[]): Settings {
  return ours.includes('node-agent') && !ours.includes('ztunnel') ? { captureMode: 'redirect' } : {}
}

/** The objects of an installation, as they shall be. */
export function objectsFor({ version, settings, parts }: Installation): readonly Manifest[] {
  const wanted = readManifest().filter(object => {
    const part = partOf(object)
    return part === 'base' || parts.includes(part)
  })
  return withSettings(wanted, settings).map(object => marked(object, version))
}

/** Only what is of the part to be replaced may be in the way, and nothing of our own chart. */
function refuse(obstacles: readonly Obstacle[], replaced: Part | undefined): void {
  const refused = obstacles.filter(
    ({ part, object }) => replaced === undefined || (part === replaced && isCharted(object.metadata.labels))
  )
  if (refused.length > 0) throw new CommandFailure(obstacleText(refused))
}

async function takeOver(
  invocation: Invocation,
  client: KubeClient,
  part: Part,
  objects: readonly Manifest[],
  obstacles: readonly Obstacle[]
): Promise<void> {
  const { io } = invocation
  const own = objects.filter(object => partOf(object) === part)
  if (invocation.flag('dry-run')) {
    for (const { object, why } of obstacles) {
      io.out(`would be replaced: ${object.kind} ${object.metadata.name}: ${why}\n`)
    }
    return
  }
  await makeWay(client, part, own, obstacles, {
    say: line => io.out(`${line}\n`),
    limit: () => limit(invocation)
  })
}

async function restore(invocation: Invocation, client: KubeClient, part: Part): Promise<ExitCode> {
  const { io } = invocation
  if (invocation.flag('dry-run')) throw new UsageError('--restore has no --dry-run')
  const done = await giveBack(client, part, {
    say: line => io.out(`${line}\n`),
    limit: () => limit(invocation)
  })
  if (!done) throw new CommandFailure(`nothing was replaced by --replace ${part} in this cluster`)
  const before = await readInstallation(client, limit(invocation))
  if (before !== undefined) {
    const left = before.parts.filter(other => other !== part)
    if (left.length === 0) await forgetInstallation(client, limit(invocation))
    else await writeInstallation(client, { ...before, parts: left }, limit(invocation))
  }
  io.out(`${part} is as it was before\n`)
  return 0
}
