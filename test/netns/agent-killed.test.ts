/** The node agent killed at every command of an enrolment and of taking out: no pod stays half enrolled. */
import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import type { CaptureMethod } from '../../daemonset/rules/capture.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { eventually } from '../support/eventually.ts'
import { needsRoot } from '../support/namespaces.ts'
import { pictureOf, StoppingCommands } from './agent-faults.ts'
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
import { addresses, askOnce, makeWorld, serveLines, type World } from './capture-world.ts'

t.setTimeout(600_000)

interface Scene {
  readonly world: World
  readonly client: KubeClient
  readonly agent: Agent
  readonly ztunnel: StandIn
  readonly commands: StoppingCommands
  readonly uid: string
  readonly appPort: number
}

async function scene(t: Test, { backend, mode }: CaptureMethod): Promise<Scene> {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const world = makeWorld(t)
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const client = await clientOf(store, folder)
  const commands = new StoppingCommands(folder)
  t.teardown(() => commands.release())
  const ztunnel = new StandIn(t, path.join(folder, 'zds.sock'))
  const appPort = await serveLines(t, world.pod, 'app')
  await createNamespace(client)
  const uid = await createPod(client, await serveLines(t, world.pod, 'probed'))
  const { environment } = layOutPlaces(folder, { pods: [world.pod], node: world.peer })
  const method = { UNDERPASS_CAPTURE_BACKEND: backend, UNDERPASS_CAPTURE_MODE: mode }
  const agent = new Agent(t, { folder, environment: { ...environment, ...method, PATH: commands.path } })
  ztunnel.connect()
  return { world, client, agent, ztunnel, commands, uid, appPort }
}

/** All of it is there, and traffic passes ztunnel. */
async function isEnrolled(t: Test, { world, client, agent, ztunnel, uid, appPort }: Scene): Promise<void> {
  await eventually('the pod is annotated', async () => (await annotation(client)) === 'enabled')
  await eventually('its rules are complete', async () => {
    const { drift } = (await agent.get('admin', '/v1/rules?pod=shop/web')) as RulesView
    return drift.missing.length === 0 && drift.unexpected.length === 0
  })
  const before = ztunnel.accepted(uid).length
  t.match(await askOnce(world.peer, { ip: addresses[4].pod, port: appPort }), /app saw/)
  t.equal(ztunnel.accepted(uid).length, before + 1, 'through ztunnel')
}

/** Nothing of it is there, and traffic goes as it went. */
async function isOut(t: Test, { world, client, ztunnel, uid, appPort }: Scene, clean: string): Promise<void> {
  await eventually('the pod is as it was', () => pictureOf(world.pod) === clean)
  await eventually('the annotation is gone', async () => (await annotation(client)) === undefined)
  await eventually('ztunnel has let it go', () => ztunnel.namespaceOf(uid) === undefined)
  t.match(await askOnce(world.peer, { ip: addresses[4].pod, port: appPort }), /app saw/)
}

/** Every command with nft. With iptables, which needs more, every third: that keeps the file within two minutes. */
const methods = [
  { backend: 'nft', mode: 'tproxy', every: 1 },
  { backend: 'iptables', mode: 'tproxy', every: 3 }
] as const

for (const method of methods) {
  t.test(`${method.mode} by ${method.backend}`, { skip: needsRoot() }, async t => {
    const place = await scene(t, method)
    const { world, client, agent, ztunnel, commands, uid } = place
    const clean = pictureOf(world.pod)

    await t.test('killed while ztunnel thinks about the pod', async t => {
      await agent.start()
      await eventually('ztunnel is connected', () => ztunnel.requests.includes('snapshot-sent'))
      const asked = Promise.withResolvers<void>()
      const answer = Promise.withResolvers<void>()
      ztunnel.beforeAdd = async () => {
        asked.resolve()
        await answer.promise
      }
      await label(client, 'ambient')
      await asked.promise
      ztunnel.beforeAdd = () => undefined
      await agent.kill()
      answer.resolve()
      await eventually('ztunnel has made its listeners', () => ztunnel.namespaceOf(uid) !== undefined)
      t.equal(pictureOf(world.pod), clean, 'nothing is written before ztunnel has the pod')
      await label(client, null)
      await agent.start()
      await isOut(t, place, clean)
      await agent.kill()
    })

    for (let number = 1; number < 20; number += method.every) {
      let last = false
      for (const done of [false, true]) {
        await t.test(`killed ${done ? 'after' : 'before'} command ${number} of an enrolment`, async t => {
          await agent.start()
          await eventually('ztunnel is connected', () => ztunnel.requests.includes('snapshot-sent'))
          commands.stopAt(number, { done })
          await label(client, 'ambient')
          last = !(await commands.stopped(async () => (await annotation(client)) === 'enabled'))
          await agent.kill()
          commands.release()
          // Whoever went away in between must not find the pod cut off, whoever stays wants it complete.
          if (done) await label(client, null)
          await agent.start()
          if (done) await isOut(t, place, clean)
          else await isEnrolled(t, place)
          await label(client, null)
          await isOut(t, place, clean)
          await agent.kill()
          ztunnel.requests.length = 0
        })
      }
      if (last) break
    }

    for (let number = 1; number < 20; number += method.every) {
      let last = false
      await t.test(`killed after command ${number} of taking out`, async t => {
        await agent.start()
        await label(client, 'ambient')
        await isEnrolled(t, place)
        commands.stopAt(number, { done: true })
        await label(client, null)
        last = !(await commands.stopped(async () => (await annotation(client)) === undefined))
        await agent.kill()
        commands.release()
        await agent.start()
        await isOut(t, place, clean)
        await agent.kill()
      })
      if (last) break
    }

    await t.test('killed and gone for good: uninstall finds the rest', async t => {
      await agent.start()
      await label(client, 'ambient')
      await isEnrolled(t, place)
      await agent.kill()
      t.match(await agent.run('inventory'), /annotation of shop\/web/)
      await agent.run('uninstall')
      ztunnel.die()
      await isOut(t, place, clean)
      t.equal(ztunnel.namespaceOf(uid), undefined)
      t.notMatch(world.peer.run('nft', 'list', 'ruleset'), /underpass/i)
    })
  })
}
