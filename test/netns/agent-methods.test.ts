/** Ways of capturing: which are found to work, and an agent that changes from one to another. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import { candidates, findCaptureMethod, type MethodWish } from '../../daemonset/probe-method.ts'
import { eventually } from '../support/eventually.ts'
import { needsRoot } from '../support/namespaces.ts'
import {
  Agent,
  annotation,
  clientOf,
  createNamespace,
  createPod,
  label,
  layOutPlaces,
  type RulesView,
  StandIn
} from './agent-world.ts'
import { addresses, askOnce, makeWorld, serveLines } from './capture-world.ts'

t.setTimeout(300_000)

const skip = needsRoot()

t.test('TPROXY is tried before REDIRECT, nft before iptables', async t => {
  const names = (wish: MethodWish): string[] =>
    candidates(wish).map(({ mode, backend }) => `${mode}/${backend}`)
  t.match(names({ mode: 'auto', backend: 'auto' }), ['tproxy/nft', 'tproxy/iptables'])
  t.strictSame(names({ mode: 'redirect', backend: 'nft' }), ['redirect/nft'])
  t.strictSame(names({ mode: 'tproxy', backend: 'iptables' }), [
    'tproxy/iptables',
    'tproxy/iptables-nft',
    'tproxy/iptables-legacy'
  ])
})

for (const mode of ['tproxy', 'redirect'] as const) {
  for (const backend of ['nft', 'iptables'] as const) {
    t.test(`${mode} by ${backend} is found to work, by a connection each way`, { skip }, async t => {
      t.strictSame(await findCaptureMethod({ mode, backend }), { method: { mode, backend }, failures: [] })
    })
  }
}

t.test('a machine without nft uses iptables, one without either says what is missing', { skip }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const probe = path.join(import.meta.dirname, 'print-method.ts')
  const found = (programs: readonly string[]): { method?: object; failures: { problem: string }[] } => {
    const bin = path.join(folder, String(programs.length))
    mkdirSync(bin)
    for (const program of programs) symlinkSync(`/usr/sbin/${program}`, path.join(bin, program))
    const env = { PATH: bin }
    return JSON.parse(execFileSync(process.execPath, [probe], { env, encoding: 'utf8' }))
  }
  const iptables = ['iptables', 'ip6tables'].flatMap(name => [`${name}-save`, `${name}-restore`])
  const without = found(['ip', ...iptables])
  t.match(without.method, { mode: 'tproxy', backend: 'iptables' })
  t.match(without.failures[0]?.problem, /nft: not installed/)
  const nothing = found(['ip'])
  t.equal(nothing.method, undefined)
  t.match(nothing.failures[1]?.problem, /iptables-save: not installed/)
})

t.test('an agent that changes its way of capturing leaves nothing of the old one', { skip }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const world = makeWorld(t)
  const { pod, peer: node } = world
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const client = await clientOf(store, folder)
  const ztunnel = new StandIn(t, path.join(folder, 'zds.sock'))
  const [appPort, probedPort] = [await serveLines(t, pod, 'app'), await serveLines(t, pod, 'probed')]
  await createNamespace(client)
  const uid = await createPod(client, probedPort)
  await label(client, 'ambient')
  ztunnel.connect()
  const { environment } = layOutPlaces(folder, { pods: [pod], node })
  const steps = [
    { backend: 'nft', mode: 'tproxy' },
    { backend: 'iptables', mode: 'tproxy' },
    { backend: 'iptables', mode: 'redirect' },
    { backend: 'nft', mode: 'redirect' }
  ] as const
  for (const { backend, mode } of steps) {
    await t.test(`to ${mode} by ${backend}`, async t => {
      const agent = new Agent(t, {
        folder,
        environment: { ...environment, UNDERPASS_CAPTURE_BACKEND: backend, UNDERPASS_CAPTURE_MODE: mode }
      })
      await agent.start()
      await eventually('the pod is enrolled', async () => (await annotation(client)) === 'enabled')
      await eventually('its rules are as they shall be', async () => {
        const { drift, mode: now } = (await agent.get('admin', '/v1/rules?pod=shop/web')) as RulesView
        return now === mode && drift.missing.length === 0 && drift.unexpected.length === 0
      })
      await eventually('nothing of the other backend is there', () =>
        backend === 'nft'
          ? !pod.run('iptables-save').includes('UNDERPASS')
          : !pod.run('nft', 'list', 'tables').includes('underpass')
      )
      const before = ztunnel.accepted(uid).length
      for (const family of [4, 6] as const) {
        await askOnce(node, { ip: addresses[family].pod, port: appPort })
        t.match(
          await askOnce(node, { ip: addresses[family].pod, port: probedPort }),
          `saw ${addresses[family].probe}`
        )
      }
      t.equal(ztunnel.accepted(uid).length, before + 2, 'probes go straight, the rest is captured')
      await agent.stop()
    })
  }
  const agent = new Agent(t, { folder, environment })
  await agent.run('uninstall')
  t.notMatch(node.run('nft', 'list', 'ruleset'), /underpass/i)
  t.notMatch(node.run('iptables-save'), /UNDERPASS/)
  t.notMatch(node.run('ip6tables-save'), /UNDERPASS/)
  t.notMatch(pod.run('nft', 'list', 'ruleset'), /underpass/i)
})
