/** What the waypoint sends on its own account to services that are known by names: mirrors, questions to authorizers. */
import t from 'tap'
import { eventually } from '../../support/eventually.ts'
import { startPod, startWorld, type Pod } from '../world.ts'
import { startDns } from './dns-server.ts'
import { entryService, namedEndpoint, startServers, type Entry } from './outside.ts'

const config = `
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec:
  extensionProviders:
    - name: login
      envoyExtAuthzHttp: {service: shop/login.example, port: 80, timeout: 3s, pathPrefix: /check}
---
kind: AuthorizationPolicy
metadata: {name: ask, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  action: CUSTOM
  provider: {name: login}
  rules: [{to: [{operation: {paths: ["/asked"]}}]}]
---
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules:
    - filters:
        - {type: RequestMirror, requestMirror: {backendRef: {hostname: login.example, namespace: shop, port: 80}}}
      backendRefs: [{name: web, port: 80}]
`

t.test('mirrors and authorizers outside of the mesh', async t => {
  const web: Pod = { name: 'web', address: '127.77.33.1', port: 8080, services: ['web'] }
  await startPod(t, web, (_request, response) => response.end('web'))
  const server = await startServers(t, ['127.77.33.2'])
  const dns = await startDns(t, { 'login.example': ['127.77.33.2'] })
  const entry: Entry = {
    name: 'login',
    host: 'login.example',
    vip: '240.240.0.6',
    target: server.port,
    resolution: 'DNS'
  }
  const world = await startWorld(t, {
    services: [{ name: 'web', vip: '10.96.0.1' }, entryService(entry)],
    pods: [web, namedEndpoint(entry)],
    config,
    env: { UNDERPASS_DNS_SERVERS: dns.address, UNDERPASS_CONNECT_TIMEOUT: '2s' }
  })
  t.equal((await world.ask('10.96.0.1:80', { path: '/copied' })).text, 'web')
  await eventually('the mirror has it', () => server.heard.some(text => text.endsWith(' /copied')))
  t.equal((await world.ask('10.96.0.1:80', { path: '/asked' })).text, 'web')
  t.ok(server.heard.some(text => text.endsWith(' /check/asked')))
  dns.zone.set('login.example', 'refuse')
  t.equal(
    (await world.ask('10.96.0.1:80', { path: '/asked' })).text,
    'web',
    'a server that fails changes nothing'
  )
})

t.test('where the name has no address', async t => {
  const web: Pod = { name: 'web', address: '127.77.33.3', port: 8080, services: ['web'] }
  await startPod(t, web, (_request, response) => response.end('web'))
  const dns = await startDns(t, {})
  const entry: Entry = {
    name: 'login',
    host: 'login.example',
    vip: '240.240.0.6',
    target: 1,
    resolution: 'DNS'
  }
  const world = await startWorld(t, {
    services: [{ name: 'web', vip: '10.96.0.1' }, entryService(entry)],
    pods: [web, namedEndpoint(entry)],
    config,
    env: { UNDERPASS_DNS_SERVERS: dns.address }
  })
  t.equal(
    (await world.ask('10.96.0.1:80', { path: '/copied' })).text,
    'web',
    'the request does not wait for its mirror'
  )
  await eventually('the mirror failed', async () =>
    (await world.metrics()).includes('underpass_mirrored_requests_total{outcome="failed"} 1')
  )
  t.equal(
    (await world.ask('10.96.0.1:80', { path: '/asked' })).status,
    403,
    'who cannot be asked does not let pass'
  )
  t.match(world.log.join(''), /service login\.example cannot be reached: DNS resolution failure/)
})
