/**
 * However a lab ends, the machine is as it was: files, links, addresses, routes, packet rules, mounts and processes
 * are compared before and after. The machine is a set of namespaces, so that nobody else changes it meanwhile.
 */
import t from 'tap'
import { spawn } from 'node:child_process'
import path from 'node:path'
import type { Ended } from './endings.ts'
import { users } from './lab-process.ts'

t.setTimeout(400_000)
const root = path.resolve(import.meta.dirname, '../..')
const nobody = 65534

/** Process 1 of the machine collects the orphans; a project below /tmp has to stay in sight. */
const machine = `
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
case $1 in /tmp/*) ;; *) mount -t tmpfs -o mode=1777 tmpfs /tmp ;; esac
ip link set lo up
shift
"$@" &
wait $!
`

for (const { user, skip } of await users({ withCurl: false })) {
  const reason =
    skip === false && process.getuid?.() !== 0 ? 'needs root, to make a machine of its own' : skip
  t.test(`as ${user}: a lab that ended left nothing`, { skip: reason }, async t => {
    const uid = user === 'root' ? 0 : nobody
    const { code, stdout, stderr } = await onItsOwnMachine(['endings.ts', root, String(uid)])
    t.equal(code, 0, stderr)
    const all = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as Ended)
    for (const { how, changes } of all) t.strictSame(changes, [], how)
    t.equal(all.length, user === 'root' ? 8 : 7, 'every way was tried')
  })
}

async function onItsOwnMachine(
  words: readonly string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const [script = '', ...args] = words
  const node = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    path.join(import.meta.dirname, script)
  ]
  const child = spawn(
    'unshare',
    [
      ...['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'],
      ...['sh', '-c', machine, 'machine', root, ...node, ...args]
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] }
  )
  t.teardown(() => child.kill('SIGKILL'))
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => (output[name] += text))
  }
  const code = await new Promise<number | null>(resolve => child.once('close', resolve))
  return { code, ...output }
}
