/** New pods, announced by the CNI plug-in itself to a whole node agent: what goes wrong must leave no pod in the clear. */
import t, { type Test } from 'tap'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { pods } from '../../shared/kube/core-api.ts'
import { ip } from '../../shared/net/address.ts'
import { netnsId } from '../../shared/net/netns.ts'
import { eventually } from '../support/eventually.ts'
import { joinNamespaces, makeNamespace, needsRoot, type Namespace } from '../support/namespaces.ts'
import { descriptors, residentMiB, settledDescriptors } from '../support/process-state.ts'
import { StoppingCommands } from './agent-faults.ts'
import {
  Agent,
  annotation,
  clientOf,
  createNamespace,
  label,
  layOutPlaces,
  podOf,
  StandIn
} from './agent-world.ts'
import { askOnce, serveLines } from './capture-world.ts'
import { add, makePlugin, makeSandbox, Way } from './plugin-world.ts'

t.setTimeout(300_000)

const skip = needsRoot()

interface Scene {
  readonly node: Namespace
  readonly client: KubeClient
  /** The agent's way to the API server. */
  readonly way: Way
  readonly agent: Agent
  readonly ztunnel: StandIn
  readonly commands: StoppingCommands
  /** Announces a pod; the runtime's answer. */
  readonly announce: (name: string, netns: string, addresses: readonly string[]) => Promise<string>
}

async function scene(t: Test): Promise<Scene> {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const plugin = await makePlugin(t)
  const node = makeNamespace(t, 'uph3')
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const client = await clientOf(store, folder)
  const way = new Way(t, store.addresses[0]?.port ?? 0)
  await way.open()
  const kubeconfig = path.join(folder, 'agent.kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${way.port}`))
  const commands = new StoppingCommands(folder)
  t.teardown(() => commands.release())
  const ztunnel = new StandIn(t, path.join(folder, 'zds.sock'))
  const { environment } = layOutPlaces(folder, { pods: [], node })
  const agent = new Agent(t, {
    folder,
    environment: { ...environment, PATH: commands.path, KUBECONFIG: kubeconfig }
  })
  await createNamespace(client)
  await label(client, 'ambient')
  await agent.start()
  ztunnel.connect()
  await eventually('ztunnel is connected', () => ztunnel.requests.includes('snapshot-sent'))
  const runDir = path.join(folder, 'cni')
  return {
    node,
    client,
    way,
    agent,
    ztunnel,
    commands,
    announce: (name, netns, addresses) => add({ plugin, runDir, name, netns, addresses })
  }
}

/** A namespace that the node reaches. */
function joined(t: Test, node: Namespace, number: number, addresses: readonly string[]): Namespace {
  const namespace = makeNamespace(t, 'uph3')
  const gateways = addresses.map(address => address.replace(/2(\/\d+)$/, '1$1'))
  joinNamespaces(
    { namespace, device: 'eth0', addresses },
    { namespace: node, device: `veth${number}`, addresses: gateways }
  )
  for (const gateway of gateways) {
    const family = gateway.includes(':') ? '-6' : '-4'
    namespace.run('ip', family, 'route', 'add', 'default', 'via', gateway.replace(/\/.*/, ''))
  }
  return namespace
}

async function createPod(client: KubeClient, name: string, probedPort?: number): Promise<string> {
  const options = probedPort === undefined ? {} : { probedPort }
  return (await client.create(pods, podOf(name, [], options))).metadata.uid ?? ''
}

async function setAddresses(client: KubeClient, name: string, addresses: readonly string[]): Promise<void> {
  const { status } = podOf(name, addresses)
  const options = { kind: 'merge', subresource: 'status' } as const
  await client.patch(pods, { namespace: 'shop', name }, { status }, options)
}

t.test('killed in the middle of an ADD', { skip }, async t => {
  const { client, agent, ztunnel, commands, announce } = await scene(t)
  const uid = await createPod(client, 'web')
  const address = ['10.90.0.2/32', 'fd90::2/128']
  for (let number = 1; number < 20; number++) {
    let last = false
    await t.test(`at command ${number}: the pod does not start, and does with the next agent`, async t => {
      const first = await makeSandbox(address)
      commands.stopAt(number, { done: true })
      const answer = announce('web', first.path, address)
      let answered = false
      void answer.then(() => (answered = true))
      last = !(await commands.stopped(() => answered))
      await agent.kill()
      commands.release()
      if (last) t.equal(await answer, 'added')
      else t.match(await answer, /^11: .*does not answer.*: .*Connection reset/)
      first.end()
      // The runtime takes the sandbox down and makes another one.
      const second = await makeSandbox(address)
      ztunnel.requests.length = 0
      await agent.start()
      await eventually('ztunnel is back', () => ztunnel.requests.includes('snapshot-sent'))
      t.equal(await announce('web', second.path, address), 'added')
      t.ok(ztunnel.namespaceOf(uid), 'ztunnel has it')
      t.equal(await annotation(client), 'enabled')
      second.end()
    })
    if (last) break
  }
  await t.test('while ztunnel thinks about the pod', async t => {
    const sandbox = await makeSandbox(address)
    const asked = Promise.withResolvers<void>()
    const never = Promise.withResolvers<void>()
    ztunnel.beforeAdd = async () => {
      asked.resolve()
      await never.promise
    }
    const answer = announce('web', sandbox.path, address)
    await asked.promise
    await agent.kill()
    t.match(await answer, /^11: /)
    ztunnel.beforeAdd = () => undefined
    never.resolve()
    await eventually('ztunnel has made its listeners', () => ztunnel.namespaceOf(uid) === sandbox.id)
    sandbox.end()
  })
})

t.test('without the API server', { skip }, async t => {
  const { client, way, agent, ztunnel, announce } = await scene(t)
  const uid = await createPod(client, 'known')
  await eventually('the agent knows the pod', async () =>
    /events_total\{type="add"\} 1/.test((await agent.status('metrics', '/metrics')).text)
  )
  way.cut()
  const address = ['10.90.0.3/32']
  const sandbox = await makeSandbox(address)
  t.teardown(() => sandbox.end())
  t.equal(await announce('known', sandbox.path, address), 'added', 'what the agent has seen is enough')
  t.ok(ztunnel.namespaceOf(uid))
  await createPod(client, 'unknown')
  const other = await makeSandbox(['10.90.0.4/32'])
  t.teardown(() => other.end())
  t.match(await announce('unknown', other.path, ['10.90.0.4/32']), /^11: .*shop\/unknown cannot be enrolled/)
  await way.open()
  await eventually('it is added', async () => {
    return (await announce('unknown', other.path, ['10.90.0.4/32'])) === 'added'
  })
  await setAddresses(client, 'known', ['10.90.0.3'])
  await eventually('the other is annotated', async () => (await annotation(client, 'known')) === 'enabled')
})

t.test('an address that a second pod gets before the first is gone', { skip }, async t => {
  const { node, client, ztunnel, announce } = await scene(t)
  const address = '10.91.1.2'
  const first = joined(t, node, 1, [`${address}/24`])
  const firstUid = await createPod(client, 'first', 4000)
  t.equal(await announce('first', first.path, [`${address}/24`]), 'added')
  await setAddresses(client, 'first', [address])
  await eventually('the first is annotated', async () => (await annotation(client, 'first')) === 'enabled')

  node.run('ip', 'link', 'del', 'veth1')
  const second = joined(t, node, 2, [`${address}/24`])
  const probedPort = await serveLines(t, second, 'second')
  const appPort = await serveLines(t, second, 'app')
  const uid = await createPod(client, 'second', probedPort)
  t.equal(await announce('second', second.path, [`${address}/24`]), 'added')
  await setAddresses(client, 'second', [address])
  await client.delete(pods, { namespace: 'shop', name: 'first' }, { gracePeriodSeconds: 0 })
  await eventually('ztunnel let the first go', () => ztunnel.namespaceOf(firstUid) === undefined)

  t.equal(ztunnel.namespaceOf(uid), netnsId(second.fd))
  t.match(await askOnce(node, { ip: ip(address), port: appPort }), /app saw/)
  t.equal(ztunnel.accepted(uid).length, 1, 'captured')
  t.equal(await askOnce(node, { ip: ip(address), port: probedPort }), 'second saw 169.254.7.127: hello')
  await eventually('annotated', async () => (await annotation(client, 'second')) === 'enabled')
})

t.test('a pod that has IPv6 only', { skip }, async t => {
  const { node, client, ztunnel, announce } = await scene(t)
  const namespace = joined(t, node, 1, ['fd91:1::2/64'])
  const probedPort = await serveLines(t, namespace, 'probed')
  const appPort = await serveLines(t, namespace, 'app')
  const uid = await createPod(client, 'six', probedPort)
  t.equal(await announce('six', namespace.path, ['fd91:1::2/64']), 'added')
  t.match(await askOnce(node, { ip: ip('fd91:1::2'), port: appPort }), /app saw fd91:1::1/)
  t.match(ztunnel.accepted(uid), [{ listener: 'inbound', destination: { ip: 'fd91:1::2', port: appPort } }])
  t.match(await askOnce(node, { ip: ip('fd91:1::2'), port: probedPort }), /probed saw fd16:9254:7127:1337:/)
  t.equal(ztunnel.accepted(uid).length, 1, 'the probe went past it')
})

t.test('ten new pods a second', { skip }, async t => {
  const { client, agent, ztunnel, announce } = await scene(t)
  const took: number[] = []
  const churn = async (from: number, count: number): Promise<void> => {
    const lives = new Set<Promise<void>>()
    for (let number = from; number < from + count; number++) {
      const one = live(number).then(() => void lives.delete(one))
      lives.add(one)
      await new Promise(resolve => setTimeout(resolve, 100))
      // A slow machine gets fewer: the runtime would not wait longer than half a minute.
      if (lives.size >= 30) await Promise.race(lives)
    }
    await Promise.all(lives)
    await eventually('all are gone', async () => {
      const { pods } = (await agent.get('admin', '/v1/pods')) as { pods: unknown[] }
      return pods.length === 0
    })
  }
  const live = async (number: number): Promise<void> => {
    const name = `pod-${number}`
    // Every address is used again and again.
    const address = `10.92.0.${2 + (number % 50)}`
    const sandbox = await makeSandbox([`${address}/32`])
    const uid = await createPod(client, name)
    const started = performance.now()
    const answer = await announce(name, sandbox.path, [`${address}/32`])
    took.push(performance.now() - started)
    if (answer !== 'added' || ztunnel.namespaceOf(uid) === undefined) t.fail(`${name}: ${answer}`)
    await setAddresses(client, name, [address])
    await client.delete(pods, { namespace: 'shop', name }, { gracePeriodSeconds: 0 })
    sandbox.end()
  }
  await churn(0, 30)
  const before = { descriptors: await settledDescriptors(agent.pid), memory: residentMiB(agent.pid) }
  await churn(30, 120)
  let open = 0
  await eventually('as many descriptors as before', () => {
    open = descriptors(agent.pid)
    return open === before.descriptors
  })
  const after = { descriptors: open, memory: residentMiB(agent.pid) }
  took.sort((a, b) => a - b)
  const at = (share: number): string => `${Math.round(took[Math.floor(took.length * share)] ?? 0)} ms`
  t.comment(`ADD: half within ${at(0.5)}, 99 of 100 within ${at(0.99)}; ${JSON.stringify({ before, after })}`)
  t.equal(after.descriptors, before.descriptors, 'no descriptor is left')
  t.ok(after.memory < before.memory + 40, `memory: ${before.memory} MiB, then ${after.memory} MiB`)
})
