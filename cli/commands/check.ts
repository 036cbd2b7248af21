/** `underpass check`: what breaks meshes in practice, each with its remedy. */
import { checkCluster } from '../check/cluster.ts'
import { bySeverity, type Finding, type Severity } from '../check/findings.ts'
import { checkMesh } from '../check/mesh.ts'
import { findMissingPermissions } from '../check/permissions.ts'
import { Reader } from '../check/read.ts'
import type { Colour, ExitCode, Invocation, LeafCommand } from '../command.ts'
import { clusterOptions, meshOptions, outputOptions } from '../options.ts'
import { outputFormat, printListing } from '../output.ts'
import { limit } from '../reach.ts'
import { clientVersion } from './version.ts'

export const command: LeafCommand = {
  name: 'check',
  summary: 'find what keeps the mesh from working, with the remedy',
  description: `Looks at the cluster, the mesh, its pods, network policies and network plug-ins, and changes nothing. Each finding has an
id that never changes its meaning. Ends with 2 when an error was found; warnings and remarks end with 0.`,
  options: [
    { flags: '--pre', help: 'only what can be known before there is a mesh' },
    ...outputOptions,
    ...meshOptions,
    ...clusterOptions
  ],
  examples: [
    { what: 'Before installing', command: 'check --pre' },
    { what: 'Everything', command: 'check' },
    { what: 'For a program', command: 'check -o json' }
  ],
  run
}

async function run(invocation: Invocation): Promise<ExitCode> {
  const pre = invocation.flag('pre')
  const client = await invocation.client()
  const next = (): AbortSignal => limit(invocation)
  const reader = new Reader(client, next)
  const lists = await Promise.all([
    reader.read(() => findMissingPermissions(client, { pre }, next)),
    checkCluster({ client, reader, limit: next, now: invocation.io.now() }),
    pre ? [] : checkMesh(invocation, reader, clientVersion())
  ])
  const findings = [...lists.flatMap(list => list ?? []), ...reader.refused()].toSorted(bySeverity)
  await print(invocation, findings)
  return findings.some(({ severity }) => severity === 'error') ? 2 : 0
}

const colours: Readonly<Record<Severity, Colour>> = { error: 'red', warning: 'yellow', info: 'dim' }

async function print(invocation: Invocation, findings: readonly Finding[]): Promise<void> {
  const { io, paint } = invocation
  if (outputFormat(invocation) !== 'table') {
    return printListing(invocation, {
      kind: 'Finding',
      columns: [
        { heading: 'SEVERITY', cell: ({ severity }) => severity },
        { heading: 'ID', cell: ({ id }) => id },
        { heading: 'OBJECT', cell: ({ object }) => object },
        { heading: 'PROBLEM', cell: ({ problem }) => problem },
        { heading: 'REMEDY', cell: ({ remedy }) => remedy }
      ],
      rows: findings,
      name: ({ id, object }) => `${id}/${object}`,
      nothing: 'no findings'
    })
  }
  for (const { severity, id, object, problem, remedy } of findings) {
    io.out(`${paint(colours[severity], severity)} ${id} ${object}: ${problem}\n  ${remedy}\n`)
  }
  const count = (wanted: Severity): number => findings.filter(({ severity }) => severity === wanted).length
  io.out(`${count('error')} errors, ${count('warning')} warnings, ${count('info')} remarks\n`)
}
