/** A ztunnel with ten thousand workloads over xDS: time and memory, traffic, and a connection that breaks. */
import t from 'tap'
import { ip } from '../../shared/net/address.ts'
import { samples } from '../support/access-lines.ts'
import { eventually } from '../support/eventually.ts'
import { largeMeshWorkload } from '../support/large-mesh.ts'
import { SERVER, SERVER_PORT, VIP } from '../support/local-mesh.ts'
import { loadMesh } from '../support/mesh-load.ts'
import { residentMiB } from '../support/process-state.ts'
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../support/test-control-plane.ts'
import { at, attempt, connect, needsRoot, serve, startProxy, type Proxy } from '../support/two-nodes.ts'
import { wireDeny } from '../support/wire-mesh.ts'

t.setTimeout(240_000)
const skip = needsRoot()

const WORKLOADS = 10_000
const SERVICES = 500
const BROKEN = { name: 'broken', namespace: 'shop', scope: 1, action: 99, rules: [] }

t.test(
  'ten thousand workloads are taken at once, in bounds, and again only as far as they changed',
  { skip },
  async t => {
    const { nodes, plane, proxy, figures } = await loadMesh(t, {
      kind: 'underpass',
      workloads: WORKLOADS,
      services: SERVICES
    })
    const { a, b } = nodes
    const env = { ...plane.caEnv, ...plane.xdsEnv }
    await startProxy(t, b, { kind: 'underpass', workload: SERVER, localConfig: '', env })
    await serve(t, b, socket => socket.pipe(socket), { port: SERVER_PORT })
    const call = async (text: string): Promise<string> =>
      attempt(await connect(a, at(ip(VIP), 80)), Buffer.from(text))
    t.equal(await call('among many'), 'among many')
    // Bounds of a machine that does much else; docs/soak.md has figures.
    t.ok(figures.seconds < 30, `taken after ${figures.seconds.toFixed(2)} s`)
    t.ok(figures.restMiB < 190, `${figures.restMiB.toFixed(0)} MiB afterwards`)
    t.ok(figures.peakMiB < 320, `${figures.peakMiB.toFixed(0)} MiB at most`)

    const [changed, gone] = [largeMeshWorkload(7, SERVICES, 'changed'), largeMeshWorkload(8, SERVICES)]
    plane.put({
      policies: { 'shop/broken': BROKEN, 'shop/kept': wireDeny('kept', { destinationPorts: [1] }) }
    })
    await eventually('the broken policy shuts its namespace', async () => (await call('x')) === '')
    await plane.settled()
    const before = {
      deliveries: plane.deliveries.length,
      bytes: await received(proxy),
      memory: residentMiB(proxy.pid)
    }
    plane.down()
    await eventually('the ztunnels notice', async () => !(await connected(proxy)), { everyMs: 50 })
    plane.put({ addresses: { [changed.uid]: { workload: changed } } })
    plane.remove(ADDRESS_TYPE, gone.uid)
    plane.remove(AUTHORIZATION_TYPE, 'shop/broken')
    plane.up()
    await eventually(
      'what stood in for the broken policy is gone with it',
      async () => (await call('back')) === 'back'
    )
    await plane.settled()
    const since = plane.deliveries.slice(before.deliveries)
    for (const type of [ADDRESS_TYPE, AUTHORIZATION_TYPE]) {
      const told = since.filter(delivery => delivery.type === type)
      t.equal(told.length, 2, 'each ztunnel was told once')
      for (const { resources, removed } of told) {
        t.strictSame(resources, type === ADDRESS_TYPE ? [changed.uid] : [], 'what is known is not sent again')
        t.strictSame(removed, [type === ADDRESS_TYPE ? gone.uid : 'shop/broken'], 'what is gone is said')
      }
    }
    t.ok((await received(proxy)) - before.bytes < 1000, 'bytes of one workload, not of ten thousand')
    const grown = residentMiB(proxy.pid) - before.memory
    t.ok(grown < 60, `coming back took ${grown.toFixed(0)} MiB`)
    const { workloads } = JSON.parse((await proxy.ask(15000, '/config_dump')).body) as {
      workloads: { uid: string; canonicalRevision: string }[]
    }
    t.equal(workloads.length, WORKLOADS + 2 - 1)
    t.equal(workloads.find(({ uid }) => uid === changed.uid)?.canonicalRevision, 'changed')
    t.notOk(workloads.some(({ uid }) => uid === gone.uid))
  }
)

async function connected(proxy: Proxy): Promise<boolean> {
  const { connected } = JSON.parse((await proxy.ask(15000, '/v1/xds')).body) as { connected: boolean }
  return connected
}

async function received(proxy: Proxy): Promise<number> {
  const { body } = await proxy.ask(15020, '/metrics')
  return samples(body, 'istio_xds_message_bytes_total').reduce((sum, { value }) => sum + value, 0)
}
