/** Both ends of a gateway's configuration: what the control plane makes of it is what its proxies read. */
import t from 'tap'
import { translateGateway, translateSecret } from '../../controlplane/translate/gateway.ts'
import { translateRoute } from '../../controlplane/translate/route.ts'
import type { ConfigMessage } from '../../controlplane/translate/messages.ts'
import {
  decodeConfigResource,
  encodeConfigResource,
  type ConfigResource
} from '../../shared/xds/config-resource.ts'
import { readGateway, readServerCertificate } from '../../waypoint/gateway/gateway.ts'
import { readHttpRoute } from '../../waypoint/routes/http-route.ts'
import { readTlsRoute } from '../../waypoint/routes/tls-route.ts'
import { gateway, keyPair, secret } from './gateway-world.ts'
import { world } from './world.ts'

const pair = keyPair()
const view = world(
  `${
    secret('pair', pair) +
    gateway('edge', [
      '{name: http, port: 80, protocol: HTTP, hostname: "*.example.com"}',
      '{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: pair}]}}',
      '{name: ended, port: 8443, protocol: TLS, hostname: a.b, tls: {certificateRefs: [{name: pair}]}}',
      '{name: passed, port: 8443, protocol: TLS, hostname: c.d, tls: {mode: Passthrough}}'
    ])
  }kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
kind: HTTPRoute
metadata: {name: http}
spec: {parentRefs: [{name: edge}, {group: "", kind: Service, name: web}], hostnames: [a.example.com], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
kind: TLSRoute
metadata: {name: tls}
spec: {parentRefs: [{name: edge}], hostnames: ["*.d"], rules: [{name: one, backendRefs: [{name: web, port: 80, weight: 2}, {name: gone, port: 80}]}]}
`
)

function received(sent: ConfigMessage | undefined): ConfigResource {
  if (sent === undefined) throw new Error('nothing was sent')
  return decodeConfigResource(encodeConfigResource(sent.message))
}

function found<T>(object: T | undefined): T {
  if (object === undefined) throw new Error('no such object')
  return object
}

t.test('listeners', async t => {
  const read = readGateway(received(translateGateway(view, found(view.get('Gateway', 'shop/edge')))))
  t.match(read, [
    { id: { listener: 'http' }, port: 80, protocol: 'HTTP', hostname: '*.example.com', certificates: [] },
    { id: { listener: 'https' }, port: 443, protocol: 'HTTPS', hostname: '', certificates: ['shop/pair'] },
    { id: { listener: 'ended' }, port: 8443, protocol: 'TLS', hostname: 'a.b', certificates: ['shop/pair'] },
    { id: { listener: 'passed' }, port: 8443, protocol: 'TLS', hostname: 'c.d', certificates: [] }
  ])
  t.strictSame(
    read.map(({ id }) => `${id.namespace}/${id.gateway}`),
    ['shop/edge', 'shop/edge', 'shop/edge', 'shop/edge']
  )
})

t.test('certificates', async t => {
  const sent = received(translateSecret(view, found(view.get('Secret', 'shop/pair'))))
  t.strictSame(readServerCertificate(sent), { cert: pair.certificate, key: pair.key })
})

t.test('routes', async t => {
  const http = received(translateRoute(view, found(view.get('HTTPRoute', 'shop/http'))))
  t.match(readHttpRoute(http, 'cluster.local'), {
    parents: [{ hostname: 'web.shop.svc.cluster.local' }],
    listeners: [
      { namespace: 'shop', gateway: 'edge', listener: 'http', hostnames: ['a.example.com'] },
      { namespace: 'shop', gateway: 'edge', listener: 'https', hostnames: ['a.example.com'] }
    ]
  })
  const tls = received(translateRoute(view, found(view.get('TLSRoute', 'shop/tls'))))
  t.match(readTlsRoute(tls, 'cluster.local'), {
    listeners: [{ listener: 'passed', hostnames: ['c.d'] }],
    backends: [
      { kind: 'service', hostname: 'web.shop.svc.cluster.local', port: 80, weight: 2 },
      { kind: 'unresolved', weight: 1 }
    ]
  })
})
