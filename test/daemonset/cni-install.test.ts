/** The installer on real folders: it puts the plug-in in place and keeps it there. */
import t, { type Test } from 'tap'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type CniInstall, keepInstalled } from '../../daemonset/cni-install/keep-installed.ts'
import { readConfig } from '../../daemonset/config.ts'
import { findInstalled, removeFromMachine } from '../../daemonset/inventory.ts'
import { steadyClock } from '../../shared/runtime/clock.ts'
import { Logger } from '../../shared/telemetry/logger.ts'
import { eventually } from '../support/eventually.ts'
import { needsRoot } from '../support/namespaces.ts'

const primary = { cniVersion: '1.0.0', name: 'podnet', plugins: [{ type: 'bridge' }, { type: 'portmap' }] }

interface Node {
  readonly folder: string
  readonly env: Readonly<Record<string, string>>
  readonly install: CniInstall
  readonly file: (name: string) => string
  readonly types: (name: string) => readonly string[]
}

function makeNode(t: Test, env: Readonly<Record<string, string>> = {}): Node {
  const folder = mkdtempSync(path.join(tmpdir(), 'cni-install-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  for (const name of ['source', 'bin', 'net.d', 'run', 'netns', 'proc']) mkdirSync(path.join(folder, name))
  writeFileSync(path.join(folder, 'source/istio-cni'), 'plug-in')
  writeFileSync(path.join(folder, 'source/istio-cni-pass-through'), 'pass-through')
  const all = {
    NODE_NAME: 'node-1',
    UNDERPASS_CNI_INSTALL: 'true',
    UNDERPASS_CNI_SOURCE: path.join(folder, 'source'),
    CNI_BIN_DIR: path.join(folder, 'bin'),
    CNI_CONF_DIR: path.join(folder, 'net.d'),
    CNI_AGENT_RUN_DIR: path.join(folder, 'run'),
    ZDS_SOCKET: path.join(folder, 'run/zds.sock'),
    UNDERPASS_NETNS_DIR: path.join(folder, 'netns'),
    UNDERPASS_HOST_PROC: path.join(folder, 'proc'),
    ...env
  }
  const { cniInstall: install } = readConfig(all).config
  if (install === undefined) throw new Error('the variables ask for an installation')
  const file = (name: string): string => path.join(folder, name)
  return {
    folder,
    env: all,
    install,
    file,
    types: name => {
      const { plugins } = JSON.parse(readFileSync(file(`net.d/${name}`), 'utf8')) as typeof primary
      return plugins.map(({ type }) => type)
    }
  }
}

interface Kept {
  /** Every state that was told. */
  readonly states: (string | undefined)[]
  readonly warnings: string[]
  readonly stop: () => Promise<void>
}

function keep(t: Test, { install }: Node, timing: Parameters<typeof keepInstalled>[0]['timing'] = {}): Kept {
  const states: (string | undefined)[] = []
  const warnings: string[] = []
  const stopping = new AbortController()
  const log = new Logger('cni', 'warn', (_level, _target, text, fields) => {
    warnings.push(`${text} ${JSON.stringify(fields)}`)
  })
  const done = keepInstalled({
    install,
    clock: steadyClock,
    log,
    signal: stopping.signal,
    onState: problem => void states.push(problem),
    onWrite: () => undefined,
    timing: { settleMs: 1, recheckMs: 60_000, ...timing }
  })
  const stop = async (): Promise<void> => {
    stopping.abort()
    await done
  }
  t.teardown(stop)
  return { states, warnings, stop }
}

const inPlace = (kept: Kept): Promise<void> =>
  eventually('it is in place', () => kept.states.length > 0 && kept.states.at(-1) === undefined, {
    everyMs: 5
  })

const complete = ['bridge', 'portmap', 'istio-cni']

t.test('installs program and entry, keeping the mode of the file, and leaves no temporary file', async t => {
  const node = makeNode(t)
  writeFileSync(node.file('net.d/10-bridge.conflist'), JSON.stringify(primary))
  chmodSync(node.file('net.d/10-bridge.conflist'), 0o640)
  await inPlace(keep(t, node))
  t.strictSame(node.types('10-bridge.conflist'), complete)
  t.equal(statSync(node.file('net.d/10-bridge.conflist')).mode & 0o777, 0o640)
  t.equal(readFileSync(node.file('bin/istio-cni'), 'utf8'), 'plug-in')
  t.equal(statSync(node.file('bin/istio-cni')).mode & 0o777, 0o755)
  t.strictSame(readdirSync(node.file('net.d')), ['10-bridge.conflist'])
  t.strictSame(readdirSync(node.file('bin')), ['istio-cni'])
})

t.test('waits for a primary network plug-in, and is not ready meanwhile', async t => {
  const node = makeNode(t)
  const kept = keep(t, node)
  await eventually('it waits', () => kept.states.at(-1)?.includes('is a network plug-in installed') === true)
  writeFileSync(node.file('net.d/10-bridge.conflist'), JSON.stringify(primary))
  await inPlace(kept)
  t.strictSame(node.types('10-bridge.conflist'), complete)
})

t.test('waits for folders that are not there yet', async t => {
  const node = makeNode(t)
  rmSync(node.file('net.d'), { recursive: true })
  const kept = keep(t, node, { recheckMs: 20 })
  await eventually('it waits', () => kept.states.at(-1)?.includes('ENOENT') === true)
  mkdirSync(node.file('net.d'))
  writeFileSync(node.file('net.d/10-bridge.conflist'), JSON.stringify(primary))
  await inPlace(kept)
  t.equal(kept.warnings.length <= 2, true, 'a problem is told once')
})

t.test(
  'a full disk: says which file and what to do, not again and again, leaves what is there, and goes on when there is room',
  { skip: needsRoot() },
  async t => {
    const node = makeNode(t)
    const folder = node.file('net.d')
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'full-disk', folder])
    t.teardown(() => execFileSync('umount', [folder]))
    const conflist = node.file('net.d/10-bridge.conflist')
    writeFileSync(conflist, JSON.stringify(primary))
    const filler = node.file('net.d/somebodys.log')
    t.throws(() => writeFileSync(filler, Buffer.alloc(16 << 10)), { code: 'ENOSPC' })

    const kept = keep(t, node)
    await eventually('it complains', () => kept.states.length > 0)
    t.match(kept.states.at(-1), /10-bridge\.conflist cannot be written; make room on its disk: ENOSPC/)
    await delay(300) // time in which it would try again if its own traces woke it
    const tries = kept.states.filter(state => state?.includes('ENOSPC')).length
    t.ok(tries <= 2, `${tries} tries`) // the second when its program was copied
    t.equal(kept.warnings.length, 1)
    t.equal(readFileSync(conflist, 'utf8'), JSON.stringify(primary))
    t.strictSame(readdirSync(folder).toSorted(), ['10-bridge.conflist', 'somebodys.log'])
    rmSync(filler)
    await inPlace(kept)
    t.strictSame(node.types('10-bridge.conflist'), complete)
  }
)

t.test('repairs what others do to it', async t => {
  const node = makeNode(t)
  const conflist = node.file('net.d/10-bridge.conflist')
  writeFileSync(conflist, JSON.stringify(primary))
  const kept = keep(t, node)
  await inPlace(kept)
  const damages: readonly (readonly [string, () => void])[] = [
    ['rewritten', () => writeFileSync(conflist, JSON.stringify(primary))],
    ['removed and written again', () => (rmSync(conflist), writeFileSync(conflist, JSON.stringify(primary)))],
    ['the program is gone', () => rmSync(node.file('bin/istio-cni'))],
    ['the program is another one', () => writeFileSync(node.file('bin/istio-cni'), 'istio')]
  ]
  for (const [name, damage] of damages) {
    damage()
    await eventually(
      `${name}: repaired`,
      () =>
        node.types('10-bridge.conflist').join() === complete.join() &&
        readFileSync(node.file('bin/istio-cni'), 'utf8') === 'plug-in',
      { everyMs: 5 }
    )
    t.pass(name)
  }
})

t.test('a change of which nobody is told is found by the slow look', async t => {
  const node = makeNode(t)
  const conflist = node.file('net.d/10-bridge.conflist')
  writeFileSync(conflist, JSON.stringify(primary))
  const kept = keep(t, node, { recheckMs: 20 })
  await inPlace(kept)
  // The watch is on a folder that has another name now.
  mkdirSync(node.file('other'))
  writeFileSync(node.file('other/10-bridge.conflist'), JSON.stringify(primary))
  renameSync(node.file('net.d'), node.file('aside'))
  renameSync(node.file('other'), node.file('net.d'))
  await eventually('repaired', () => node.types('10-bridge.conflist').join() === complete.join())
})

t.test('whoever rewrites the file at once, again and again, is named and left alone for a while', async t => {
  const node = makeNode(t)
  const conflist = node.file('net.d/10-bridge.conflist')
  writeFileSync(conflist, JSON.stringify(primary))
  const kept = keep(t, node, { truceMs: 60_000 })
  await inPlace(kept)
  let rewrites = 0
  await eventually(
    'it gives a warning',
    () => {
      if (kept.warnings.length === 0 && node.types('10-bridge.conflist').length === 3) {
        writeFileSync(conflist, JSON.stringify(primary))
        rewrites++
      }
      return kept.warnings.length > 0
    },
    { everyMs: 5 }
  )
  t.ok(rewrites > 5, `after ${rewrites} rewrites`)
  t.match(kept.warnings[0], /keeps rewriting.*10-bridge\.conflist.*cni\.exclusive=false/)
})

t.test('an agent that ends leaves everything in place', async t => {
  const node = makeNode(t)
  writeFileSync(node.file('net.d/10-bridge.conflist'), JSON.stringify(primary))
  const kept = keep(t, node)
  await inPlace(kept)
  await kept.stop()
  t.strictSame(node.types('10-bridge.conflist'), complete)
  t.ok(existsSync(node.file('bin/istio-cni')))
})

t.test('a removal gives the file back and leaves the program that only passes on', async t => {
  const node = makeNode(t)
  const before = `${JSON.stringify(primary)}\n`
  writeFileSync(node.file('net.d/10-bridge.conflist'), before)
  const kept = keep(t, node)
  await inPlace(kept)
  await kept.stop()
  const { config } = readConfig(node.env)
  const ours = findInstalled(node.install)
  t.strictSame(
    ours.map(({ kind }) => kind),
    ['network configuration', 'CNI plug-in']
  )
  for (const found of ours) await removeFromMachine(config, found)
  t.equal(readFileSync(node.file('net.d/10-bridge.conflist'), 'utf8'), before)
  t.equal(readFileSync(node.file('bin/istio-cni'), 'utf8'), 'pass-through')
  t.strictSame(findInstalled(node.install), [], 'a second time there is nothing to remove')
})

t.test('a copy of our own, and its removal', async t => {
  const node = makeNode(t, { ISTIO_OWNED_CNI_CONFIG: 'true' })
  writeFileSync(node.file('net.d/10-bridge.conflist'), JSON.stringify(primary))
  const kept = keep(t, node)
  await inPlace(kept)
  await kept.stop()
  t.strictSame(node.types('02-istio-cni.conflist'), complete)
  t.strictSame(node.types('10-bridge.conflist'), ['bridge', 'portmap'])
  const { config } = readConfig(node.env)
  for (const found of findInstalled(node.install)) await removeFromMachine(config, found)
  t.strictSame(readdirSync(node.file('net.d')), ['10-bridge.conflist'])
})

t.test('what cannot be installed is refused with the variable', async t => {
  const env = {
    CHAINED_CNI_PLUGIN: 'false',
    CNI_CONF_NAME: '../x',
    ISTIO_OWNED_CNI_CONFIG_FILENAME: 'a.conf'
  }
  const read = (): unknown => readConfig({ NODE_NAME: 'node-1', ...env })
  for (const problem of [
    /CNI_CONF_NAME="\.\.\/x": expected a file's name/,
    /CHAINED_CNI_PLUGIN=false/,
    /in \.conflist/
  ])
    t.throws(read, problem)
})
