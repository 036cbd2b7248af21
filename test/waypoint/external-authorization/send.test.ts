/** Messages of gRPC in their frame, what is none, and how many questions may be under way. */
import t from 'tap'
import { readLocalConfig } from '../../../shared/mesh/local-config.ts'
import { MeshStore } from '../../../shared/mesh/store.ts'
import { readConfig } from '../../../waypoint/config.ts'
import { framed, senderOf, unframed } from '../../../waypoint/external-authorization/send.ts'
import { Connections } from '../../../waypoint/upstream/connections.ts'

t.test('a message there and back', async t => {
  for (const text of ['', 'a', 'x'.repeat(70_000)])
    t.equal(unframed(framed(Buffer.from(text))).toString(), text)
  t.equal(framed(Buffer.from('ab')).toString('hex'), '00000000026162')
})

for (const [name, hex, message] of [
  ['nothing', '', 'not one whole message'],
  ['half a prefix', '000000', 'not one whole message'],
  ['a part of a message', '000000000361', 'not one whole message'],
  ['more than one', '00000000016100000000016', 'not one whole message'],
  ['a compressed one', '010000000161', 'compressed']
] as const) {
  t.test(name, async t => t.throws(() => unframed(Buffer.from(hex, 'hex')), { message: new RegExp(message) }))
}

t.test('an authorizer that hangs holds so many connections and no more', async t => {
  const store = new MeshStore()
  const hostname = 'login.shop.svc.cluster.local'
  const { services, workloads } = readLocalConfig(
    JSON.stringify({
      services: [{ name: 'login', namespace: 'shop', hostname, vips: ['/10.96.0.3'], ports: { 80: 0 } }],
      workloads: [
        {
          ...{ uid: 'a', name: 'a', namespace: 'shop', workloadIps: ['10.0.0.1'], serviceAccount: 'a' },
          services: { [`shop/${hostname}`]: { 80: 8080 } }
        }
      ]
    })
  )
  store.apply([
    ...workloads.map(workload => ({ kind: 'workload', workload }) as const),
    ...services.map(service => ({ kind: 'service', service }) as const)
  ])
  const env = { ...{ XDS_ADDRESS: '', CA_ADDRESS: '', FAKE_CA: 'true' }, POD_NAMESPACE: 'shop' }
  const { config } = readConfig({ env, readFile: () => undefined })
  const gate = Promise.withResolvers<never>()
  let opened = 0
  const connections = new Connections({
    open: () => {
      opened += 1
      return gate.promise
    },
    speak: () => {
      throw new Error('never connected')
    },
    idleMs: 1000
  })
  t.teardown(() => connections.close())
  const clusters = { of: () => undefined }
  const egress = {
    find: () => {
      throw new Error('nobody is outside')
    }
  }
  const means = { view: () => store.view(), config, random: () => 0, connections, clusters, egress }
  const sender = senderOf(means)
  const to = { namespace: 'shop', hostname, port: 80 }
  const { signal } = new AbortController()
  const ask = async (): Promise<unknown> => sender.sendGrpc(to, '/x', Buffer.alloc(0), signal)
  const held = Promise.allSettled(Array.from({ length: 1024 }, ask))
  await t.rejects(ask(), { message: '1024 questions are under way already' })
  t.equal(opened, 1, 'all of them wait for one connection')
  gate.reject(new Error('nobody there'))
  t.ok((await held).every(({ status }) => status === 'rejected'))
  await t.rejects(ask(), { message: 'nobody there' }, 'and then others')
})
