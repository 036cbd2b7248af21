/**
 * Runs the tests: every `*.test.ts` below `test/`, one process a file, and prints each suite's time and a
 * closing line `N passed, N failed` (assertions).
 *
 *   npm test                  all that this machine allows; what is skipped is named with its reason
 *   npm test -- FOLDER|FILE…  only those below `test/`
 *   UNDERPASS_NO_SKIP=1       a skipped test counts as a failure
 */
import { spawn } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { Parser } from 'tap-parser'

interface Outcome {
  readonly file: string
  readonly seconds: number
  readonly passed: number
  readonly failures: readonly string[]
  readonly skips: readonly string[]
}

const testRoot = import.meta.dirname
const projectRoot = path.dirname(testRoot)
const noSkip = process.env['UNDERPASS_NO_SKIP'] === '1'
/** Longest time one file may take; netns, peers, cluster and fault tests have minutes of real waiting. */
const fileTimeoutMs = Number(process.env['UNDERPASS_TEST_TIMEOUT'] ?? 600) * 1000
/**
 * Suites whose files run one after the other, lane beside lane: those of one lane share fixed ports or names of the
 * machine. All of a step are over before the next begins.
 */
const lanes: readonly (readonly (readonly string[])[])[] = [
  [['bench']], // timed
  [['cluster'], ['netns', 'process', 'fresh']],
  // A lab looks at the machine for what it may have left behind, and a cluster has nodes of the same names.
  [['peers'], ['lab']]
]
const inLanes = lanes.flat(2)

const selected = process.argv.slice(2).map(argument => argument.replace(/^test\//, '').replace(/\/$/, ''))
const files = globSync('**/*.test.ts', { cwd: testRoot })
  .filter(
    file => selected.length === 0 || selected.some(part => file === part || file.startsWith(`${part}/`))
  )
  .toSorted((a, b) => a.localeCompare(b))
if (files.length === 0) {
  process.stderr.write(`no test matches ${selected.join(' ')}\n`)
  process.exit(1)
}

const outcomes: Outcome[] = []
const unit = files.filter(file => !inLanes.includes(suiteOf(file)))
await Promise.all([drainQueue(unit), drainQueue(unit)])
for (const step of lanes) {
  await Promise.all(
    step.map(async lane => {
      for (const suite of lane) await drainQueue(files.filter(file => suiteOf(file) === suite))
    })
  )
}
report(outcomes)

function suiteOf(file: string): string {
  const [first = '', second] = file.split('/')
  return second === undefined ? 'project' : first
}

async function drainQueue(queue: string[]): Promise<void> {
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const outcome = await runFile(file)
    outcomes.push(outcome)
    const verdict = outcome.failures.length > 0 ? 'FAIL' : 'ok  '
    process.stdout.write(
      `${verdict} ${file}  ${outcome.passed} passed  ${outcome.seconds.toFixed(1)} s\n` +
        outcome.failures.map(failure => `     ${failure.replaceAll('\n', '\n     ')}\n`).join('') +
        outcome.skips.map(skip => `     skipped: ${skip}\n`).join('')
    )
  }
}

async function runFile(file: string): Promise<Outcome> {
  const started = performance.now()
  const failures: string[] = []
  const skips: string[] = []
  let passed = 0
  const child = spawn(process.execPath, nodeOptionsOf(file), {
    cwd: projectRoot,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '', FORCE_COLOR: '0', TAP_TIMEOUT: String(fileTimeoutMs / 1000) }
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-8000)
  })
  const parser = new Parser({ strict: false }, () => undefined)
  listen(parser, [])
  child.stdout.pipe(parser)
  const timer = setTimeout(() => {
    failures.push(`did not end within ${fileTimeoutMs / 1000} s`)
    child.kill('SIGKILL')
  }, fileTimeoutMs)
  const parsed = new Promise(resolve => parser.on('complete', resolve))
  const exit = await new Promise<string>(resolve =>
    child.on('close', (code, signal) => resolve(signal ?? String(code)))
  )
  clearTimeout(timer)
  await parsed
  if (exit !== '0' && failures.length === 0) failures.push(`ended with ${exit}`)
  if (passed === 0 && failures.length === 0 && skips.length === 0) failures.push('ran no assertion')
  if (failures.length > 0 && stderr !== '') failures.push(`stderr: ${stderr.trim()}`)
  return { file, seconds: (performance.now() - started) / 1000, passed, failures, skips }

  function listen(level: Parser, names: readonly string[]): void {
    let subtest: string | undefined
    level.on('child', (inner: Parser) => {
      subtest = inner.name
      listen(inner, [...names, inner.name])
    })
    level.on('assert', result => {
      // The line that closes a subtest repeats what its own lines said, unless it is skipped as a whole.
      const closesSubtest = result.name === subtest && !result.skip && !result.todo
      subtest = undefined
      if (closesSubtest && (result.ok || failures.length > 0)) return
      const name = [...names, result.name].filter(Boolean).join(' > ')
      if (result.skip) skips.push(`${name}: ${String(result.skip)}`)
      else if (result.todo) failures.push(`todo: ${name}`)
      else if (result.ok) passed += 1
      else failures.push(`${name}\n${detail(result.diag)}`)
    })
  }
}

function nodeOptionsOf(file: string): string[] {
  const wanted = /^\/\/ node: (.*)$/m.exec(readFileSync(path.join(testRoot, file), 'utf8'))?.[1]
  return [
    '--disable-warning=ExperimentalWarning',
    ...(wanted === undefined ? [] : wanted.split(' ')),
    path.join(testRoot, file)
  ]
}

function detail(diag: unknown): string {
  return diag === undefined || diag === null ? '' : JSON.stringify(diag, null, 1).slice(0, 2000)
}

function report(all: readonly Outcome[]): void {
  const suites = Map.groupBy(all, outcome => suiteOf(outcome.file))
  process.stdout.write('\nsuite            files     time\n')
  for (const [suite, members] of suites) {
    const seconds = members.reduce((sum, { seconds }) => sum + seconds, 0)
    process.stdout.write(
      `${suite.padEnd(14)} ${String(members.length).padStart(7)} ${seconds.toFixed(1).padStart(7)}s\n`
    )
  }
  const skipped = all.flatMap(({ file, skips }) => skips.map(skip => `${file}: ${skip}`))
  if (skipped.length > 0) process.stdout.write(`\nskipped:\n  ${skipped.join('\n  ')}\n`)
  const passed = all.reduce((sum, outcome) => sum + outcome.passed, 0)
  const failed =
    all.reduce((sum, outcome) => sum + outcome.failures.length, 0) + (noSkip ? skipped.length : 0)
  const skips = noSkip || skipped.length === 0 ? '' : `, ${skipped.length} skipped`
  process.stdout.write(`\n${passed} passed, ${failed} failed${skips}\n`)
  process.exitCode = failed === 0 ? 0 : 1
}
