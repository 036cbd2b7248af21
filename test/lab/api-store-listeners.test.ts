/** Where the store listens, and that its certificate fits. */
import t from 'tap'
import { once } from 'node:events'
import net from 'node:net'
import tls from 'node:tls'
import { ip } from '../../shared/net/address.ts'
import { openListener } from '../../shared/net/sockets.ts'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import { startStore } from './api-store-start.ts'

t.test('a socket that listens already can be handed over by its descriptor', async t => {
  const fd = openListener({}, { address: { ip: ip('127.0.0.1'), port: 0 } })
  const { api, store } = await startStore(t, { listeners: [{ fd }] })
  t.match(store.addresses, [{ ip: '127.0.0.1', port: Number }])
  t.match(await api.get('/api/v1/namespaces/default'), {
    status: 200,
    body: { metadata: { name: 'default' } }
  })
})

t.test('every listener serves the same objects; the certificate names what it is asked to', async t => {
  const { store } = await startStore(t, {
    listeners: [
      { host: '127.0.0.1', port: 0 },
      { host: '::1', port: 0 }
    ],
    names: ['api.example.org', '10.50.0.1'],
    advertise: { ip: ip('10.50.0.2'), port: 6443 }
  })
  t.equal(store.addresses.length, 2)
  for (const { ip: host, port } of store.addresses) {
    for (const servername of ['localhost', 'kubernetes.default.svc', 'api.example.org']) {
      const socket = tls.connect({ host, port, ca: store.caPem, servername })
      await once(socket, 'secureConnect')
      t.ok(socket.authorized, `${host} as ${servername}`)
      const names = socket.getPeerCertificate().subjectaltname ?? ''
      for (const name of [
        'IP Address:10.50.0.1',
        'IP Address:10.50.0.2',
        'IP Address:10.96.0.1',
        'IP Address:127.0.0.1'
      ]) {
        t.ok(names.includes(name), name)
      }
      socket.destroy()
    }
  }
  const stranger = tls.connect({
    host: '127.0.0.1',
    port: store.addresses[0]?.port ?? 0,
    ca: store.caPem,
    servername: 'other.example.org'
  })
  const [error] = (await once(stranger, 'error')) as [Error]
  t.match(error.message, /altnames/)
})

t.test('the advertised address is the endpoint behind the Service kubernetes', async t => {
  const { api } = await startStore(t, { advertise: { ip: ip('10.50.0.2'), port: 6443 } })
  t.match((await api.get('/api/v1/namespaces/default/services/kubernetes')).body, {
    spec: { clusterIP: '10.96.0.1', ports: [{ port: 443, targetPort: 6443 }] }
  })
  t.match((await api.get('/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes')).body, {
    endpoints: [{ addresses: ['10.50.0.2'] }],
    ports: [{ port: 6443 }]
  })
})

t.test('an address that is taken is an error, and leaves nothing open', async t => {
  const taken = net.createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as net.AddressInfo
  await t.rejects(
    startApiStore({
      listeners: [
        { host: '127.0.0.1', port: 0 },
        { host: '127.0.0.1', port }
      ]
    }),
    { code: 'EADDRINUSE' }
  )
})
