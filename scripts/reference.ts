/**
 * Writes what docs/reference says of configuration and metrics from the programs' own tables.
 *
 *   node scripts/reference.ts           write docs/reference/{configuration,metrics}.md
 *   node scripts/reference.ts --check   fail when they are not up to date
 */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { EnvVariable } from '../shared/runtime/env.ts'
import type { MetricFamilies } from '../shared/telemetry/metrics.ts'
import { readConfig as readControlPlaneConfig } from '../controlplane/config.ts'
import { metricFamilies as controlPlaneFamilies } from '../controlplane/metrics.ts'
import { readConfig as readNodeAgentConfig } from '../daemonset/config.ts'
import { families as nodeAgentFamilies } from '../daemonset/families.ts'
import { withVariables as ztunnelVariables } from '../ztunnel/config.ts'
import { readConfig as readWaypointConfig } from '../waypoint/config.ts'
import { families as waypointFamilies } from '../waypoint/families.ts'
import { families as ztunnelFamilies } from '../ztunnel/families.ts'

const reference = path.join(path.dirname(import.meta.dirname), 'docs/reference')

const programs: readonly (readonly [title: string, variables: readonly EnvVariable[]])[] = [
  ['ztunnel', (await ztunnelVariables({ env: {}, readFile: () => undefined, cores: 1 })).variables],
  ['Waypoint', readWaypointConfig({ env: {}, readFile: () => undefined }).variables],
  ['Node agent', readNodeAgentConfig({ NODE_NAME: 'node' }).variables],
  ['Control plane', readControlPlaneConfig({}).variables]
]
const families: readonly (readonly [title: string, families: MetricFamilies])[] = [
  ['ztunnel', ztunnelFamilies],
  ['Waypoint', waypointFamilies],
  ['Node agent', nodeAgentFamilies],
  ['Control plane', controlPlaneFamilies]
]

const pages: Readonly<Record<string, string>> = {
  'configuration.md': configurationPage(),
  'metrics.md': metricsPage()
}
const check = process.argv.includes('--check')
for (const [name, text] of Object.entries(pages)) {
  const file = path.join(reference, name)
  if (!check) writeFileSync(file, text)
  else if (read(file) !== text) {
    process.stderr.write(`docs/reference/${name} is not up to date: run node scripts/reference.ts\n`)
    process.exitCode = 1
  }
}

function configurationPage(): string {
  const sections = programs.map(([title, variables]) => {
    const rows = variables.map(
      ({ name, kind, fallback, meaning }) =>
        `| \`${name}\` | ${cell(kind)} | ${fallback === '' ? 'empty' : `\`${cell(fallback)}\``} | ${cell(meaning)} |`
    )
    return [`## ${title}`, '', '| variable | kind | default | meaning |', '|---|---|---|---|', ...rows].join(
      '\n'
    )
  })
  return [
    '# Configuration',
    '',
    'Every program reads its environment once, at its start, and reports all problems together. Durations carry their unit.',
    'This page is generated from the readers.',
    '',
    ...sections.flatMap(section => [section, ''])
  ]
    .join('\n')
    .replace(/\n+$/, '\n')
}

function metricsPage(): string {
  const sections = families.map(([title, table]) => {
    const rows = Object.entries(table).map(
      ([name, { type, help, labels }]) =>
        `| \`${name}\` | ${type} | ${cell(help)} | ${labels.length === 0 ? '' : labels.map(label => `\`${label}\``).join(' ')} |`
    )
    return [`## ${title}`, '', '| name | type | meaning | labels |', '|---|---|---|---|', ...rows].join('\n')
  })
  return [
    '# Metrics',
    '',
    'This page is generated from the tables in the code.',
    '',
    ...sections.flatMap(section => [section, ''])
  ]
    .join('\n')
    .replace(/\n+$/, '\n')
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ')
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined // not written yet
  }
}
