/** Both ends of a route: what the control plane makes of it is what a waypoint reads, without a field left over. */
import t from 'tap'
import { translateRoute } from '../../controlplane/translate/route.ts'
import { decodeConfigResource, encodeConfigResource } from '../../shared/xds/config-resource.ts'
import { readGrpcRoute } from '../../waypoint/routes/grpc-route.ts'
import { readHttpRoute } from '../../waypoint/routes/http-route.ts'
import type { Route } from '../../waypoint/routes/route.ts'
import { world } from './world.ts'

const shop = `kind: Service
metadata: {name: web}
spec: {ports: [{port: 80, name: http}]}
---
kind: ServiceEntry
metadata: {name: apis}
spec: {hosts: [a.example, b.example], resolution: DNS, ports: [{number: 80, name: http}]}
---
`

const readers = { HTTPRoute: readHttpRoute, GRPCRoute: readGrpcRoute }

function received(spec: string, kind: keyof typeof readers = 'HTTPRoute'): Route | undefined {
  const view = world(`${shop}kind: ${kind}\nmetadata: {name: r}\nspec: ${spec}\n`)
  const route = view.get(kind, 'shop/r')
  const sent = route === undefined ? undefined : translateRoute(view, route)
  if (sent === undefined) return undefined
  return readers[kind](decodeConfigResource(encodeConfigResource(sent.message)), 'cluster.local')
}

const web = 'parentRefs: [{group: "", kind: Service, name: web, sectionName: http}]'
const hostname = 'web.shop.svc.cluster.local'

t.test('parents', async t => {
  t.match(received(`{${web}}`), { parents: [{ namespace: 'shop', hostname, port: 80 }] })
  const entry = '{parentRefs: [{group: networking.istio.io, kind: ServiceEntry, name: apis}]}'
  t.strictSame(received(entry)?.parents, [
    { namespace: 'shop', hostname: 'a.example', port: undefined },
    { namespace: 'shop', hostname: 'b.example', port: undefined }
  ])
})

t.test('rules', async t => {
  const extension = '{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}'
  const mirror = '{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}, percent: 5}}'
  const rewrite =
    '{type: URLRewrite, urlRewrite: {hostname: h, path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}'
  const redirect = '{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443}}'
  const headers = 'set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]'
  const changes = `{type: RequestHeaderModifier, requestHeaderModifier: {${headers}}}, {type: ResponseHeaderModifier, responseHeaderModifier: {${headers}}}`
  const match =
    '{path: {type: RegularExpression, value: "/v[12]/.*"}, method: GET, headers: [{name: A, value: b}], queryParams: [{name: q, type: RegularExpression, value: "x+"}]}'
  const service = { kind: 'service', hostname, namespace: 'shop', port: 80, weight: 1 }
  const rows = [
    { rule: '{}', read: { matches: [{ path: { kind: 'prefix', value: '' } }], backends: [] } },
    {
      rule: `{name: n, matches: [${match}], timeouts: {request: 10s, backendRequest: 500ms}}`,
      read: { name: 'n', requestTimeoutMs: 10_000, backendTimeoutMs: 500, matches: [{ method: 'GET' }] }
    },
    {
      rule: '{matches: [{path: {type: RegularExpression, value: "("}}, {}]}',
      read: { matches: { length: 1 } }
    },
    {
      rule: '{retry: {attempts: 3, codes: [503], backoff: 10ms}, sessionPersistence: {type: Cookie}}',
      read: { retry: { times: 3, backoffMs: 10 }, persistence: { carrier: { kind: 'cookie' } }, backends: [] }
    },
    {
      rule: `{filters: [${changes}]}`,
      read: { filters: { requestHeaders: { remove: ['e'] }, unsupported: undefined } }
    },
    {
      rule: `{filters: [${rewrite}]}`,
      read: { filters: { rewrite: { hostname: 'h' }, unsupported: undefined } }
    },
    { rule: `{filters: [${redirect}]}`, read: { filters: { redirect: { status: 302, port: 8443 } } } },
    { rule: `{filters: [${extension}]}`, read: { filters: { unsupported: 'ExtensionRef' } } },
    {
      rule: `{filters: [${mirror}, ${mirror.replace('web', 'gone')}]}`,
      read: {
        filters: {
          mirrors: [
            { backend: { kind: 'service', hostname, namespace: 'shop', port: 80 }, share: 0.05 },
            { backend: { kind: 'unresolved', reason: 'BackendNotFound' }, share: 0.05 }
          ],
          unsupported: undefined
        }
      }
    },
    {
      rule: `{backendRefs: [{name: web, port: 80, filters: [${mirror.replace('percent: 5', 'fraction: {numerator: 1}')}]}]}`,
      read: { backends: [{ filters: { mirrors: [{ share: 0.01 }] } }] }
    },
    {
      rule: '{filters: [{type: CORS, cors: {allowOrigins: ["*"], allowMethods: [PUT]}}]}',
      read: { filters: { cors: { origins: [{ kind: 'any' }], methods: ['PUT'], maxAgeSeconds: 5 } } }
    },
    {
      rule: `{backendRefs: [{name: web, port: 80, filters: [${changes}]}, {name: gone, port: 80, weight: 3}]}`,
      read: { backends: [service, { kind: 'unresolved', reason: 'BackendNotFound', weight: 3 }] }
    },
    {
      rule: '{backendRefs: [{group: networking.istio.io, kind: Hostname, name: b.example, port: 80}]}',
      read: { backends: [{ ...service, hostname: 'b.example' }] }
    }
  ]
  for (const { rule, read } of rows) t.match(received(`{${web}, rules: [${rule}]}`), { rules: [read] }, rule)
})

t.test('rules of a GRPCRoute', async t => {
  const rows = [
    { rule: '{}', read: { matches: [{ method: 'POST', path: { kind: 'prefix', value: '' } }] } },
    {
      rule: '{matches: [{method: {service: s.S, method: M}, headers: [{name: A, value: b}]}]}',
      read: { matches: [{ path: { kind: 'exact', value: '/s.S/M' }, headers: [{ name: 'a' }] }] }
    },
    {
      rule: '{matches: [{method: {type: RegularExpression, service: "("}}, {}]}',
      read: { matches: { length: 1 } }
    },
    {
      rule: '{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}]}',
      read: { filters: { mirrors: [{ backend: { hostname }, share: 1 }], unsupported: undefined } }
    },
    {
      rule: '{sessionPersistence: {}, backendRefs: [{name: web, port: 80}]}',
      read: { persistence: { absoluteTimeoutMs: undefined }, backends: [{ hostname }] }
    }
  ]
  for (const { rule, read } of rows) {
    t.match(received(`{${web}, rules: [${rule}]}`, 'GRPCRoute'), { rules: [read] }, rule)
  }
})
