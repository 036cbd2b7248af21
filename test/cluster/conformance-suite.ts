/**
 * The Gateway API's own conformance suite, run against a cluster. `UNDERPASS_KEEP_REPORT=1` writes what it reports to
 * docs/conformance/, `UNDERPASS_CONFORMANCE_TEST=Name` runs one test of it.
 */
import type { Test } from 'tap'
import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseYaml } from '../../shared/kube/yaml.ts'

export interface Claims {
  /** Of the kept report, without its ending. */
  readonly name: string
  readonly profiles: readonly string[]
  readonly features: readonly string[]
  /** What the profiles know and we do not have; none of them is missing here. */
  readonly leftOut: readonly string[]
  /** Further arguments of the suite. */
  readonly arguments: readonly string[]
}

interface Report {
  readonly profiles: readonly {
    readonly name: string
    readonly core: Result
    readonly extended?: Result & { readonly unsupportedFeatures?: readonly string[] }
  }[]
}

interface Result {
  readonly result: string
  readonly statistics: { readonly Passed: number; readonly Failed: number; readonly Skipped: number }
}

/** Every claimed profile succeeds, in its core and in all that it knows beyond. */
export async function conforms(t: Test, kubeconfig: string, claims: Claims): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-conformance-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const report = path.join(folder, 'report.yaml')
  const { code, output } = await suite(kubeconfig, report, claims)
  writeFileSync(wholeOutput(claims), output)
  const outcomes = output.split('\n').filter(line => /^ *--- (?:PASS|FAIL)/.test(line))
  for (const line of outcomes) t.comment(line.trim())
  t.strictSame(
    outcomes.filter(line => line.includes('--- FAIL')),
    [],
    `no test of the suite fails; all that it said is in ${wholeOutput(claims)}`
  )
  t.equal(code, 0, 'it says so')
  const { profiles } = parseYaml(readFileSync(report, 'utf8'), 'report') as Report
  t.strictSame(profiles.map(({ name }) => name).toSorted(), claims.profiles.toSorted())
  for (const { name, core, extended } of profiles) {
    t.equal(core.result, 'success', `${name}, core`)
    t.equal(extended?.result ?? 'success', 'success', `${name}, extended`)
    t.equal(core.statistics.Failed + core.statistics.Skipped, 0)
    t.strictSame(extended?.unsupportedFeatures ?? [], claims.leftOut, `${name}: nothing else is left out`)
  }
  if (process.env['UNDERPASS_KEEP_REPORT'] !== '1') return
  const kept = path.resolve(import.meta.dirname, '../../docs/conformance', `${claims.name}.yaml`)
  mkdirSync(path.dirname(kept), { recursive: true })
  copyFileSync(report, kept)
}

function wholeOutput({ name }: Claims): string {
  const folder = path.resolve(import.meta.dirname, '../../node_modules/.cache/underpass-conformance')
  mkdirSync(folder, { recursive: true })
  return path.join(folder, `${name}.log`)
}

async function suite(
  kubeconfig: string,
  report: string,
  { profiles, features, arguments: more }: Claims
): Promise<{ code: number; output: string }> {
  const program = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'gateway-api-conformance')
  const only = process.env['UNDERPASS_CONFORMANCE_TEST']
  const child = spawn(
    program,
    [
      ...['-test.v', '-test.run', '^TestConformance$', `--kubeconfig=${kubeconfig}`],
      '--cleanup-base-resources=false', // the cluster goes as a whole
      `--conformance-profiles=${profiles.join(',')}`,
      `--supported-features=${features.join(',')}`,
      ...['--organization=underpass', '--project=underpass'],
      ...['--url=https://underpass.dev', '--version=v0.1.0', '--contact=https://underpass.dev'],
      ...['--allow-crds-mismatch=true', `--report-output=${report}`],
      ...more,
      ...(only === undefined ? [] : [`--run-test=${only}`])
    ],
    { env: { ...process.env, KUBECONFIG: kubeconfig }, stdio: ['ignore', 'pipe', 'pipe'] }
  )
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  }
  const code = await new Promise<number>(resolve => child.on('close', status => resolve(status ?? 1)))
  return { code, output }
}
