/**
 * Run by endings.test.ts on a machine of its own (network, mounts and processes that nobody else uses): starts labs,
 * ends each in one way, and prints what differs from before as a line of JSON.
 *
 * `node endings.ts ROOT_OF_THE_PROJECT UID`
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

export interface Ended {
  readonly how: string
  /** `- line` was there before, `+ line` is there now. */
  readonly changes: readonly string[]
}

const [root = '', uid = '0'] = process.argv.slice(2)
const patienceMs = 10_000
/** Network namespaces of others may go from below the machine's own /run. */
const notOurs = /^mount net:/
const bad = '/tmp/bad.yaml'

interface Ending {
  readonly how: string
  readonly words: readonly string[]
  /** What `lab up` prints when it can be ended. */
  readonly ready: string
  readonly end: (lab: ChildProcess) => unknown
}

const endings: readonly Ending[] = [
  { how: 'Ctrl-C', words: [], ready: 'ready.', end: lab => lab.kill('SIGINT') },
  { how: 'lab down', words: [], ready: 'ready.', end: () => run('down') },
  { how: 'an error', words: ['-f', bad], ready: 'error: ', end: () => undefined },
  { how: 'kill -9', words: [], ready: 'ready.', end: lab => lab.kill('SIGKILL') },
  { how: 'kill -9 half way up', words: [], ready: 'cluster with', end: lab => lab.kill('SIGKILL') },
  { how: 'lab down, in the background', words: ['--detach'], ready: 'ready.', end: () => run('down') },
  {
    how: 'kill -9, in the background',
    words: ['--detach'],
    ready: 'ready.',
    end: () => process.kill(backgroundPid(), 'SIGKILL')
  },
  ...(uid === '0'
    ? [
        {
          how: 'kill -9, with a way outside',
          words: ['--internet'],
          ready: 'ready.',
          end: (lab: ChildProcess) => lab.kill('SIGKILL')
        }
      ]
    : [])
]

writeFileSync(bad, 'apiVersion: example.org/v1\nkind: Strange\nmetadata: {name: x}\n')
for (const ending of endings) {
  const before = snapshot()
  const lab = spawn(...asUser('up', '--nodes', '1', ...ending.words))
  const ended = new Promise(resolve => lab.once('close', resolve))
  const printed = await firstLine(lab, ending.ready)
  if (!printed) throw new Error(`the lab ended before it printed "${ending.ready}"`)
  await ending.end(lab)
  if (!ending.words.includes('--detach')) await ended
  const deadline = Date.now() + patienceMs
  let changes = difference(before, snapshot())
  while (changes.length > 0 && Date.now() < deadline) {
    await delay(50)
    changes = difference(before, snapshot())
  }
  console.log(JSON.stringify({ how: ending.how, changes } satisfies Ended))
}

function asUser(
  ...words: string[]
): [string, string[], { stdio: ['ignore', 'pipe', 'pipe']; cwd: string; env: NodeJS.ProcessEnv }] {
  const node = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    path.join(root, 'lab/main.ts'),
    ...words
  ]
  const [command = '', ...args] =
    uid === '0' ? node : ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...node]
  const { PATH } = process.env
  return [command, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: '/', env: { PATH, HOME: '/' } }]
}

function run(...words: string[]): Promise<unknown> {
  const child = spawn(...asUser(...words))
  return new Promise(resolve => child.once('close', resolve))
}

/** Resolves when a line that starts so came on either output; false when the lab ended without it. */
async function firstLine(lab: ChildProcess, start: string): Promise<boolean> {
  return new Promise(resolve => {
    for (const output of [lab.stdout, lab.stderr]) {
      if (output === null) continue
      createInterface({ input: output }).on('line', line => {
        if (line.startsWith(start)) resolve(true)
      })
    }
    lab.once('close', () => resolve(false))
  })
}

function backgroundPid(): number {
  const folder = uid === '0' ? '/run/underpass-lab' : `/tmp/underpass-lab-${uid}`
  return (JSON.parse(readFileSync(`${folder}/state.json`, 'utf8')) as { pid: number }).pid
}

/** Everything of this machine that a lab could change, one thing a line. */
function snapshot(): readonly string[] {
  const list = (command: string, ...args: string[]): string[] =>
    execFileSync(command, args, { encoding: 'utf8', maxBuffer: 64 << 20 })
      .split('\n')
      .filter(line => line.trim() !== '')
      .map(line => `${command} ${args.join(' ')}: ${line.replace(/(?:packets|bytes) \d+/g, '')}`)
  return [
    // The project itself may lie below /tmp, and be large.
    ...list('find', '/tmp', '/run', '/dev/shm', '-path', root, '-prune', '-o', '-print'),
    ...list('ip', '-o', 'link'),
    ...list('ip', '-o', 'address'),
    ...list('ip', 'rule'),
    ...list('ip', 'route', 'show', 'table', 'all'),
    ...list('nft', 'list', 'ruleset'),
    ...readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map(line => `mount ${line.split(' ').slice(3).join(' ')}`),
    ...readdirSync('/sys/fs/cgroup', { recursive: true, encoding: 'utf8' }).filter(name =>
      /underpass|\blab\b/.test(name)
    ),
    `ip_forward ${readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8')}`,
    ...processes()
  ]
}

function processes(): string[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap(pid => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        return stat.slice(stat.lastIndexOf(')')).startsWith(') Z') ? [] : [`process ${pid} ${command}`]
      } catch {
        return [] // it has just ended
      }
    })
}

function difference(before: readonly string[], after: readonly string[]): string[] {
  const [was, is] = [new Set(before), new Set(after)]
  return [
    ...before.filter(line => !is.has(line) && !notOurs.test(line)).map(line => `- ${line}`),
    ...after.filter(line => !was.has(line)).map(line => `+ ${line}`)
  ]
}
