/** The node agent as a whole program: a real API store, real namespaces, a stand-in for ztunnel over real ZDS. */
import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import { pods } from '../../shared/kube/core-api.ts'
import { netnsId } from '../../shared/net/netns.ts'
import { eventually } from '../support/eventually.ts'
import { joinNamespaces, makeNamespace, needsRoot } from '../support/namespaces.ts'
import {
  Agent,
  annotation,
  clientOf,
  cniAdd,
  createNamespace,
  createPod,
  label,
  layOutPlaces,
  podOf,
  type PodsView,
  post,
  type RulesView,
  StandIn
} from './agent-world.ts'
import { addresses, askOnce, Client, makeWorld, serveLines } from './capture-world.ts'

t.setTimeout(300_000)

t.test('the node agent', { skip: needsRoot() }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const world = makeWorld(t)
  const { pod, peer: node } = world
  const places = layOutPlaces(folder, { pods: [pod], node })
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const client = await clientOf(store, folder)
  const ztunnel = new StandIn(t, path.join(folder, 'zds.sock'))
  const appPort = await serveLines(t, pod, 'app')
  const probedPort = await serveLines(t, pod, 'probed')
  const nodePort = await serveLines(t, node, 'node')
  await createNamespace(client)
  const uid = await createPod(client, probedPort)

  const agent = new Agent(t, { ...places, folder })
  await agent.start()
  const into = { ip: addresses[4].pod, port: appPort }
  const outOf = { ip: addresses[4].peer, port: nodePort }
  const live = await Client.connect(pod, outOf)

  await t.test('a pod without label stays as it is', async t => {
    t.equal(await askOnce(node, into), `app saw ${addresses[4].peer}: hello`)
    t.match(await agent.get('admin', '/v1/pods'), { node: 'node-1', captureMode: 'tproxy', pods: [] })
    t.match(await agent.status('health', '/readyz'), { status: 200 })
  })

  await t.test(
    'without a ztunnel a labelled pod that runs stays as it is, and its owner is told',
    async t => {
      await label(client, 'ambient')
      await eventually('the pod is known and waits', async () => {
        const { pods } = (await agent.get('admin', '/v1/pods')) as PodsView
        return pods[0]?.problem?.includes('no ztunnel') === true
      })
      t.equal(await askOnce(node, into), `app saw ${addresses[4].peer}: hello`)
      t.equal(await annotation(client), undefined)
    }
  )

  await t.test('a ztunnel that connects gets the pod, and then it is captured', async t => {
    ztunnel.connect()
    await eventually('the pod is annotated', async () => (await annotation(client)) === 'enabled')
    t.equal(ztunnel.namespaceOf(uid), netnsId(pod.fd))
    t.ok(ztunnel.requests.includes('snapshot-sent'))
    await askOnce(node, into)
    t.match(ztunnel.accepted(uid).at(-1), { listener: 'inbound', destination: into })
    await askOnce(pod, outOf)
    t.match(ztunnel.accepted(uid).at(-1), { listener: 'outbound', destination: outOf })
  })

  await t.test('the connection that was open is still the same', async t => {
    t.equal(await live.ask('still'), `node saw ${addresses[4].pod}: still`)
    live.close()
  })

  await t.test('probes of the node go straight to declared ports, everything else is captured', async t => {
    const before = ztunnel.accepted(uid).length
    t.equal(
      await askOnce(node, { ip: addresses[4].pod, port: probedPort }),
      'probed saw 169.254.7.127: hello'
    )
    t.equal(
      await askOnce(node, { ip: addresses[6].pod, port: probedPort }),
      `probed saw ${addresses[6].probe}: hello`
    )
    t.equal(ztunnel.accepted(uid).length, before)
    await askOnce(node, into)
    t.equal(ztunnel.accepted(uid).length, before + 1)
  })

  await t.test('rules are shown, desired beside actual', async t => {
    t.match(await agent.get('admin', '/v1/rules?pod=shop/web'), {
      pod: 'shop/web',
      mode: 'tproxy',
      drift: { missing: [], unexpected: [] },
      summary: ''
    })
    t.match(await agent.status('admin', '/v1/rules?pod=web'), { status: 400, text: /namespace\/name/ })
    t.match(await agent.status('admin', '/v1/rules?pod=shop/none'), { status: 404, text: /not enrolled/ })
  })

  await t.test('flushed rules come back, in the pod and on the node', async t => {
    pod.run('nft', 'flush', 'ruleset')
    pod.run('ip', 'rule', 'del', 'pref', '32764')
    pod.run('ip', '-6', 'route', 'flush', 'table', '100')
    pod.run('sysctl', '-qw', 'net.ipv4.tcp_migrate_req=0')
    node.run('nft', 'flush', 'ruleset')
    await eventually('the rules are as they shall be', async () => {
      const { drift } = (await agent.get('admin', '/v1/rules?pod=shop/web')) as RulesView
      return drift.missing.length === 0 && node.run('nft', 'list', 'ruleset').includes('probed-v4')
    })
    t.match(pod.run('ip', '-6', 'route', 'show', 'table', '100'), /local default dev lo/)
    t.equal(pod.run('sysctl', '-n', 'net.ipv4.tcp_migrate_req').trim(), '1')
    for (const line of [
      /underpass_rule_repairs_total\{where="pod"\} [1-9]/,
      /underpass_rule_repairs_total\{where="node"\} [1-9]/,
      /ztunnel_connected 1/,
      /underpass_unprotected_pods 0/
    ]) {
      await eventually(String(line), async () => line.test((await agent.status('metrics', '/metrics')).text))
    }
  })

  await t.test(
    'an agent that is killed changes nothing for its pods; the next one sends a snapshot',
    async t => {
      await agent.kill()
      await askOnce(node, into)
      ztunnel.requests.length = 0
      await agent.start()
      await eventually('ztunnel has the snapshot', () => ztunnel.requests.includes('snapshot-sent'))
      t.equal(ztunnel.requests[0], 'add')
      t.notOk(ztunnel.requests.includes('del'))
      await askOnce(node, into)
      t.equal(await annotation(client), 'enabled')
    }
  )

  await t.test('without ztunnel the pod is cut off, never in the clear; a new one takes over', async t => {
    ztunnel.die()
    await t.rejects(askOnce(node, into, { timeoutMs: 700 }), /no answer/)
    await t.rejects(askOnce(pod, outOf, { timeoutMs: 700 }), /no answer/)
    ztunnel.connect()
    await eventually('ztunnel has the snapshot', () => ztunnel.requests.includes('snapshot-sent'))
    t.match(await askOnce(node, into), /app saw/)
    t.match(await askOnce(pod, outOf), /node saw/)
  })

  await t.test('a new pod is captured before it starts', async t => {
    const fresh = makeNamespace(t, 'uph3')
    joinNamespaces(
      { namespace: fresh, device: 'eth0', addresses: ['10.77.1.2/24', 'fd77:1::2/64'] },
      { namespace: node, device: 'veth1', addresses: ['10.77.1.1/24', 'fd77:1::1/64'] }
    )
    const created = await client.create(pods, podOf('new', []))
    ztunnel.die()
    const refused = await cniAdd(folder, 'new', fresh, '10.77.1.2')
    t.match(refused, { status: 500, text: /shop\/new cannot be enrolled: no ztunnel is connected/ })
    t.match(fresh.run('nft', 'list', 'ruleset'), /tproxy to :15006/, 'its rules keep it shut')
    ztunnel.connect()
    await eventually('ztunnel is back', () => ztunnel.requests.includes('snapshot-sent'))
    t.match(await cniAdd(folder, 'new', fresh, '10.77.1.2'), { status: 200 })
    const port = await serveLines(t, fresh, 'fresh')
    t.match(await askOnce(node, { ip: '10.77.1.2' as typeof into.ip, port }), /fresh saw/)
    t.equal(ztunnel.accepted(created.metadata.uid ?? '').length, 1)
    await eventually('it is annotated', async () => (await annotation(client, 'new')) === 'enabled')
    await client.delete(pods, { namespace: 'shop', name: 'new' }, { gracePeriodSeconds: 0 })
    await eventually('ztunnel lets it go', () => ztunnel.requests.at(-1) === 'del')
  })

  await t.test('the plug-in gets a clear answer for what it should not have sent', async t => {
    const outside = podOf('outside', [])
    await client.create(pods, {
      ...outside,
      metadata: { ...outside.metadata, labels: { 'istio.io/dataplane-mode': 'none' } }
    })
    t.match(await cniAdd(folder, 'outside', pod, '10.77.9.9'), { status: 200 }, 'not to be enrolled')
    t.match(await cniAdd(folder, 'nobody', pod, '10.77.9.9'), { status: 500, text: /nobody/ })
    t.match(await post(folder, '{'), { status: 400 })
    t.match(await post(folder, '{"Netns":"/x","PodName":"a","PodNamespace":"b"}'), {
      status: 400,
      text: /IPs/
    })
  })

  await t.test('a pod that loses its label is out again, completely', async t => {
    await label(client, null)
    await eventually('the annotation is gone', async () => (await annotation(client)) === undefined)
    const before = ztunnel.accepted(uid).length
    t.equal(await askOnce(node, into), `app saw ${addresses[4].peer}: hello`)
    t.equal(ztunnel.accepted(uid).length, before)
    t.notMatch(pod.run('nft', 'list', 'ruleset'), /underpass/)
    t.notMatch(pod.run('ip', 'rule'), /fwmark/)
    t.match(await agent.get('admin', '/v1/pods'), { pods: [] })
  })

  await t.test('uninstall finds everything without the agent', async t => {
    await label(client, 'ambient')
    await eventually('enrolled', async () => (await annotation(client)) === 'enabled')
    await agent.stop()
    const listed = await agent.run('uninstall', '--dry-run')
    t.match(
      listed,
      /would remove: \d+ rules, routes and settings in[\s\S]*tproxy to :15006[\s\S]*ipv4 rule pref 32764/
    )
    t.match(pod.run('nft', 'list', 'ruleset'), /underpass/)
    t.match(await agent.run('uninstall'), /removed: rules for probes[\s\S]*removed: annotation of shop\/web/)
    t.equal(await agent.run('uninstall'), '', 'a second time there is nothing left')
    t.equal(await annotation(client), undefined)
    t.notMatch(pod.run('nft', 'list', 'ruleset'), /underpass/)
    t.notMatch(node.run('nft', 'list', 'ruleset'), /underpass/)
    t.equal(await askOnce(node, into), `app saw ${addresses[4].peer}: hello`)
  })
})

t.test('a machine that cannot do what is asked says so and ends', { skip: needsRoot() }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph3-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const agent = new Agent(t, { folder, environment: { NODE_NAME: '', UNDERPASS_CAPTURE_MODE: 'magic' } })
  await t.rejects(
    agent.run(),
    /NODE_NAME is not set[\s\S]*UNDERPASS_CAPTURE_MODE="magic": expected auto \| tproxy/
  )
})
