/** The program as a process: its exit status, its ports, its end. */
import t, { type Test } from 'tap'
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import { eventually } from '../support/eventually.ts'

t.setTimeout(180_000)

const root = path.join(import.meta.dirname, '..', '..')

interface Program {
  readonly child: ChildProcess
  readonly output: () => string
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

function start(t: Test, env: Record<string, string>): Program {
  const child = spawn(process.execPath, [path.join(root, 'controlplane', 'main.ts')], {
    cwd: root,
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  let output = ''
  child.stdout.on('data', (text: Buffer) => (output += text.toString()))
  child.stderr.on('data', (text: Buffer) => (output += text.toString()))
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>(resolve =>
    child.on('exit', (code, signal) => resolve({ code, signal }))
  )
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, output: () => output, ended }
}

t.test('a wrong configuration ends it at once, with everything that is wrong', async t => {
  const { ended, output } = start(t, { UNDERPASS_XDS_PORT: 'x', XDS_AUTH: 'perhaps' })
  t.match(await ended, { code: 78 })
  t.match(output(), /UNDERPASS_XDS_PORT/)
  t.match(output(), /XDS_AUTH/)
})

t.test('without a cluster it says how to name one', async t => {
  const { ended, output } = start(t, { KUBECONFIG: '/nowhere/kubeconfig' })
  t.match(await ended, { code: 78 })
  t.match(output(), /\/nowhere\/kubeconfig/)
})

t.test('it starts, says where it listens, and ends when told to', async t => {
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(async () => store.close())
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-main-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  const { child, ended, output } = start(t, {
    KUBECONFIG: kubeconfig,
    POD_NAMESPACE: 'default',
    ROOT_CA_DIR: folder,
    UNDERPASS_LISTEN: '127.0.0.1',
    UNDERPASS_XDS_PORT: '0',
    UNDERPASS_MONITORING_PORT: '0',
    UNDERPASS_READY_PORT: '0',
    UNDERPASS_WEBHOOK_PORT: '0',
    TERMINATION_DRAIN_DURATION: '100ms'
  })
  const address = (name: string): string | undefined =>
    new RegExp(`listening ${name}=(\\S+)`).exec(output())?.[1]
  await eventually('it listens', () => address('xds') !== undefined && address('monitoring') !== undefined)
  await eventually(
    'it is ready',
    async () => (await fetch(`http://${address('ready')}/ready`)).status === 200
  )
  child.kill('SIGTERM')
  t.match(await ended, { code: 0, signal: null })
  t.match(output(), /stopping/)
})

t.test('a port that is taken is told', async t => {
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(async () => store.close())
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-main-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${store.addresses[0]?.port}`))
  const { ended, output } = start(t, {
    KUBECONFIG: kubeconfig,
    POD_NAMESPACE: 'default',
    ROOT_CA_DIR: folder,
    UNDERPASS_LISTEN: '127.0.0.1',
    UNDERPASS_XDS_PORT: String(store.addresses[0]?.port)
  })
  const { code } = await ended
  t.not(code, 0)
  t.match(output(), /EADDRINUSE|in use/)
})
