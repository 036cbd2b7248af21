/** Labs as processes, for tests: started as users start them, each with a state folder of its own. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Test } from 'tap'
import { requirements } from '../../lab/check.ts'
import { readState } from '../../lab/state.ts'

const root = path.resolve(import.meta.dirname, '../..')
const nobody = 65534

export type User = 'root' | 'ordinary user'

export interface Output {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** The users as whom this process can start a lab, each with the reason when it cannot. */
export async function users({ withCurl = true } = {}): Promise<
  readonly { readonly user: User; readonly skip: string | false }[]
> {
  if (withCurl && !existsSync('/usr/bin/curl')) {
    return [{ user: 'root', skip: 'needs curl, for example: sudo apt-get install -y curl' }]
  }
  const isRoot = process.getuid?.() === 0
  const missing = async (asRoot: boolean): Promise<string | false> => {
    const found = await requirements({ isRoot: asRoot, environment: process.env })
    const first = found.find(({ ok }) => !ok)
    return first === undefined ? false : `${first.name}: ${first.detail}`
  }
  if (!isRoot) {
    return [
      { user: 'root', skip: 'needs root' },
      { user: 'ordinary user', skip: await missing(false) }
    ]
  }
  return [
    { user: 'root', skip: await missing(true) },
    { user: 'ordinary user', skip: ordinaryUserProblem() }
  ]
}

/** Root plays an ordinary user by becoming nobody, who must be able to read this project. */
function ordinaryUserProblem(): string | false {
  try {
    const words = asUser('ordinary user', [process.execPath, path.join(root, 'lab/main.ts'), 'check'])
    execFileSync(words[0] ?? '', words.slice(1), { stdio: 'pipe' })
    return false
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: Buffer; stderr?: Buffer }
    return `nobody cannot run a lab here: ${String(stdout ?? '')}${String(stderr ?? '')}`.trim()
  }
}

function asUser(user: User, words: readonly string[]): readonly string[] {
  if (user === 'root' || process.getuid?.() !== 0) return words
  return ['setpriv', `--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups', ...words]
}

export class LabProcess {
  readonly folder: string
  readonly user: User
  readonly child: ChildProcess
  readonly #output = { stdout: '', stderr: '' }
  readonly #exit: Promise<number | null>
  readonly #before = namesOnHost()

  constructor(t: Test, user: User, words: readonly string[]) {
    const parent = mkdtempSync(path.join(tmpdir(), 'underpass-lab-test-'))
    chmodSync(parent, 0o777)
    this.folder = path.join(parent, 'lab')
    this.user = user
    const [command = '', ...args] = this.#words(words)
    this.child = spawn(command, args, { cwd: root, env: this.environment, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const name of ['stdout', 'stderr'] as const) {
      this.child[name]?.setEncoding('utf8').on('data', (text: string) => {
        this.#output[name] += text
      })
    }
    this.#exit = new Promise(resolve => this.child.once('close', code => resolve(code)))
    t.teardown(async () => {
      this.child.kill('SIGKILL')
      await this.#exit
      rmSync(parent, { recursive: true, force: true })
    })
  }

  /** Without the kubectl that the machine may have: the small one is to be tested. */
  get environment(): NodeJS.ProcessEnv {
    return {
      PATH: `${path.dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: '/',
      UNDERPASS_LAB_KUBECTL: 'builtin',
      UNDERPASS_LAB_DIR: this.folder
    }
  }

  get stdout(): string {
    return this.#output.stdout
  }

  /** Resolves when a line that starts so was printed; rejects when the lab ends before. */
  async printed(start: string): Promise<void> {
    while (!this.#output.stdout.split('\n').some(line => line.startsWith(start))) {
      const ended = await Promise.race([this.#exit.then(() => true), tick()])
      if (ended)
        throw new Error(
          `the lab ended before it printed ${start}:\n${this.#output.stdout}${this.#output.stderr}`
        )
    }
  }

  async ended(): Promise<Output> {
    const code = await this.#exit
    return { code, ...this.#output }
  }

  /** A command for this lab. */
  async run(...words: readonly string[]): Promise<Output> {
    const [command = '', ...args] = this.#words(words)
    const child = spawn(command, args, {
      cwd: root,
      env: this.environment,
      stdio: ['ignore', 'pipe', 'pipe']
    })
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text
      })
    }
    const code = await new Promise<number | null>(resolve => child.once('close', resolve))
    return { code, ...output }
  }

  /** Runs a command in a pod until its output fits; for what becomes true a moment later. */
  async until(fits: (output: Output) => boolean, ...words: readonly string[]): Promise<Output> {
    const deadline = Date.now() + 30_000
    for (;;) {
      const output = await this.run(...words)
      if (fits(output) || Date.now() > deadline) return output
      await tick()
    }
  }

  /** What the lab made, so that it can be looked for once it has ended. */
  traces(): Traces {
    const state = readState(this.folder)
    if (state === undefined) throw new Error('the lab does not run')
    const namespace = (kind: string): string => readlinkSync(`/proc/${state.inside}/ns/${kind}`)
    return { folder: this.folder, namespaces: ['pid', 'net', 'mnt'].map(namespace), before: this.#before }
  }

  #words(words: readonly string[]): readonly string[] {
    return asUser(this.user, [
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      path.join(root, 'lab/main.ts'),
      ...words
    ])
  }
}

export interface Traces {
  readonly folder: string
  readonly namespaces: readonly string[]
  /** Names that were there before: those of others on this machine. */
  readonly before: readonly string[]
}

/** Everything of a lab that is still there; waits a little for the kernel to finish. */
export async function remains(traces: Traces): Promise<readonly string[]> {
  const deadline = Date.now() + 10_000
  for (;;) {
    const found = look(traces)
    if (found.length === 0 || Date.now() > deadline) return found
    await tick()
  }
}

function look({ folder, namespaces, before }: Traces): readonly string[] {
  const processes = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => ['pid', 'net', 'mnt'].some(kind => namespaces.includes(linkOf(`/proc/${pid}/ns/${kind}`))))
    .map(pid => `process ${pid}: ${commandOf(pid)}`)
  const files = [folder, `${folder}.log`].filter(file => existsSync(file))
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(line => line.includes(' /run/lab'))
  return [...processes, ...files, ...mounts, ...namesOnHost().filter(name => !before.includes(name))]
}

/** Namespaces and links of this machine that are named as a lab's are. */
function namesOnHost(): readonly string[] {
  const named = existsSync('/run/netns') ? readdirSync('/run/netns') : []
  const links = readdirSync('/sys/class/net')
  return [
    ...named.filter(name => /^(node\d|cni-)/.test(name)).map(name => `namespace ${name}`),
    ...links.filter(name => /^(fabric|node\d|veth\d+|ulab\d+)$/.test(name)).map(name => `link ${name}`)
  ]
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file)
  } catch {
    // The process has ended, or is not ours to look at.
    return ''
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    // It has just ended.
    return ''
  }
}

function tick(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, 50))
}
