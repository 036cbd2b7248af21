/** A node that is full of pods: enrolment, what both programs hold, and restarts, also of a ztunnel that is killed again and again. */
import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import { namespaces, pods } from '../../shared/kube/core-api.ts'
import { ip } from '../../shared/net/address.ts'
import { listeningPorts } from '../../shared/net/listening-ports.ts'
import { samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { makeNamespace, needsRoot, type Namespace } from '../support/namespaces.ts'
import { descriptors, residentMiB } from '../support/process-state.ts'
import { startProxy, type Proxy } from '../support/two-nodes.ts'
import { Agent, clientOf, label, layOutPlaces, podOf, redirection } from './agent-world.ts'

t.setTimeout(400_000)
const count = 250

t.test(`${count} pods on one node`, { skip: needsRoot() }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'uprs-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const node = makeNamespace(t, 'uprs-n')
  const places = Array.from({ length: count }, (_, index) => {
    const namespace = makeNamespace(t, 'uprs-m')
    const address = `10.81.${Math.floor(index / 200)}.${(index % 200) + 1}`
    namespace.run('ip', 'address', 'add', address, 'dev', 'lo')
    return { name: `pod-${index}`, namespace, address: ip(address) }
  })
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(() => store.close())
  const kube = await clientOf(store, folder)
  await kube.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } })
  for (const { name, address } of places) {
    const object = podOf(name, [address])
    await kube.create(pods, object)
    const patch = { status: object.status }
    await kube.patch(pods, { namespace: 'shop', name }, patch, { kind: 'merge', subresource: 'status' })
  }
  const { environment } = layOutPlaces(folder, { pods: places.map(({ namespace }) => namespace), node })
  const agent = new Agent(t, {
    folder,
    environment: {
      ...environment,
      UNDERPASS_CAPTURE_BACKEND: 'nft',
      UNDERPASS_CAPTURE_MODE: 'tproxy',
      UNDERPASS_VERIFY_INTERVAL: '1h'
    }
  })
  await agent.start()
  const start = async (): Promise<Proxy> => {
    const home = makeNamespace(t, 'uprs-z')
    const at = {
      name: 'a',
      netns: home.name,
      netnsFd: home.fd,
      v4: ip('10.81.9.9'),
      v6: ip('fd81::9')
    } as const
    const env = { PROXY_MODE: 'shared', INPOD_UDS: path.join(folder, 'zds.sock'), NODE_NAME: 'node-1' }
    const localConfig = JSON.stringify({ workloads: [], services: [], policies: [] })
    return startProxy(t, at, { kind: 'underpass', workload: '', localConfig, workers: 2, env })
  }
  let ztunnel = await start()

  const labelled = performance.now()
  await label(kube, 'ambient')
  const enrolled = async (): Promise<number> => {
    const { items } = await kube.list(pods, { namespace: 'shop' })
    return items.filter(({ metadata }) => metadata.annotations?.[redirection] === 'enabled').length
  }
  // Patience for each step, not for all: a slow machine takes its time.
  for (let wanted = 25; wanted <= count; wanted += 25) {
    await eventually(`${wanted} pods are enrolled`, async () => (await enrolled()) >= wanted)
  }
  t.comment(`enrolled in ${seconds(labelled)}`)
  await allCarried(ztunnel)
  t.comment(
    `ztunnel with 2 workers: ${Math.round(residentMiB(ztunnel.pid))} MiB, ${descriptors(ztunnel.pid)} descriptors; node agent: ${Math.round(residentMiB(agent.pid))} MiB, ${descriptors(agent.pid)} descriptors`
  )
  t.ok(descriptors(agent.pid) < 2 * count, 'the agent holds a namespace a pod and little more')
  t.ok(descriptors(ztunnel.pid) < 8 * count, 'ztunnel one, and its listeners: three a worker')

  for (let round = 0; round < 3; round++) {
    await ztunnel.stop('SIGKILL') // as the kernel does when memory runs out
    t.ok(
      places.every(({ namespace }) => !carried(namespace)),
      'nobody listens'
    )
    const begun = performance.now()
    ztunnel = await start()
    t.comment(`ready again after ${seconds(begun)}`)
    await allCarried(ztunnel)
  }
  const held = descriptors(agent.pid)
  const old = ztunnel
  const begun = performance.now()
  ztunnel = await start()
  const ended = old.stop()
  await old.logged(new RegExp(`another ztunnel takes over new connections.*pods="?${count}`))
  t.equal(await ended, 0)
  t.comment(`replaced in order in ${seconds(begun)}`)
  await allCarried(ztunnel)
  t.ok(descriptors(agent.pid) <= held + 1, 'the agent has forgotten those that are gone')

  async function allCarried(proxy: Proxy): Promise<void> {
    t.ok(
      places.every(({ namespace }) => carried(namespace)),
      'every pod has its listeners'
    )
    const { body } = await proxy.ask(15_020, '/metrics')
    t.match(samples(body, 'workload_manager_active_proxy_count'), [{ value: count }])
  }
})

function carried({ fd }: Namespace): boolean {
  const open = new Set(listeningPorts(fd))
  return [15_001, 15_006, 15_008].every(port => open.has(port))
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`
}
