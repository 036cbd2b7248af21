import t from 'tap'
import { routeReports } from '../../../controlplane/translate/route-conditions.ts'
import type { IstioClasses } from '../../../controlplane/translate/gateway-class.ts'
import { world } from '../world.ts'

const gateway = (name: string, className: string, status = ''): string =>
  `kind: Gateway\nmetadata: {name: ${name}}\nspec: {gatewayClassName: ${className}}\nstatus: {addresses: [${status}]}\n---\n`
const service = (name: string, waypoint = ''): string =>
  `kind: Service\nmetadata: {name: ${name}, labels: {${waypoint === '' ? '' : `istio.io/use-waypoint: ${waypoint}`}}}\nspec: {ports: [{port: 80}]}\n---\n`
const ready = '{type: Hostname, value: x.shop.svc.cluster.local}'
const shop =
  gateway('wp', 'underpass-waypoint', ready) +
  gateway('istio', 'istio-waypoint', ready) +
  gateway('foreign', 'other-mesh', ready) +
  gateway('starting', 'underpass-waypoint') +
  service('web', 'wp') +
  service('istio', 'istio') +
  service('foreign', 'foreign') +
  service('starting', 'starting') +
  service('free')
const istiod =
  'kind: Pod\nmetadata: {name: istiod, namespace: istio-system, labels: {app: istiod}}\nstatus: {phase: Running}\n---\n'

function reports(
  spec: string,
  options: { readonly kind?: string; readonly more?: string; readonly istioClasses?: IstioClasses } = {}
): unknown {
  const { kind = 'HTTPRoute', more = '', istioClasses = 'auto' } = options
  const view = world(`${shop}${more}kind: ${kind}\nmetadata: {name: r}\nspec: ${spec}\n`)
  const route = view.get(kind as 'HTTPRoute', 'shop/r')
  return route === undefined ? undefined : routeReports(view, route, istioClasses)
}

const parent = (name: string): string => `parentRefs: [{group: "", kind: Service, name: ${name}}]`
const conditions = (
  spec: string,
  kind?: string
): Record<string, { status: string; reason: string; message: string }> => {
  const [first] = reports(spec, kind === undefined ? {} : { kind }) as { conditions: never }[]
  if (first === undefined) throw new Error('no report')
  return first.conditions
}
const summary = (spec: string, kind?: string): Record<string, string> =>
  Object.fromEntries(
    Object.entries(conditions(spec, kind)).map(([type, { status, reason }]) => [type, `${status} ${reason}`])
  )

const fine = {
  Accepted: 'True Accepted',
  ResolvedRefs: 'True ResolvedRefs',
  ResolvedWaypoints: 'True ResolvedWaypoints'
}

t.test('what a route says of its parent', async t => {
  const rows = [
    { spec: `{${parent('web')}}`, wanted: fine },
    {
      spec: `{${parent('free')}}`,
      wanted: { ...fine, ResolvedWaypoints: 'False MissingUseWaypointLabel' },
      message: /istio\.io\/use-waypoint/
    },
    {
      spec: `{${parent('starting')}}`,
      wanted: { ...fine, ResolvedWaypoints: 'False WaypointIsNotReady' },
      message: /shop\/starting/
    },
    {
      spec: `{${parent('gone')}}`,
      wanted: { ...fine, Accepted: 'False NoMatchingParent', ResolvedWaypoints: 'False NoMatchingParent' },
      message: /shop\/gone was not found/
    },
    {
      spec: `{parentRefs: [{kind: Service, name: web}]}`,
      wanted: { ...fine, Accepted: 'False NoMatchingParent', ResolvedWaypoints: 'False NoMatchingParent' },
      message: /write group: ""/
    }
  ]
  for (const { spec, wanted, message } of rows) {
    t.strictSame(summary(spec), wanted, spec)
    if (message !== undefined) t.match(conditions(spec)['ResolvedWaypoints']?.message, message)
  }
})

t.test('what it says of its backends: the first problem with its reason, all of them in words', async t => {
  const backends = (list: string): string => `{${parent('web')}, rules: [{backendRefs: [${list}]}]}`
  const rows = [
    { list: '{name: web, port: 80}', wanted: 'True ResolvedRefs' },
    { list: '{name: gone, port: 80}', wanted: 'False BackendNotFound' },
    { list: '{kind: Pod, name: p, port: 80}, {name: gone, port: 80}', wanted: 'False InvalidKind' },
    { list: '{namespace: other, name: x, port: 80}', wanted: 'False RefNotPermitted' }
  ]
  for (const { list, wanted } of rows) {
    t.strictSame(summary(backends(list)), { ...fine, ResolvedRefs: wanted }, list)
  }
  const both = conditions(backends('{kind: Pod, name: p, port: 80}, {name: gone, port: 80}'))['ResolvedRefs']
  t.match(both?.message, /rules\[0\]\.backendRefs\[0\].*rules\[0\]\.backendRefs\[1\].*shop\/gone/)
  const mirror = 'filters: [{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 80}}}]'
  t.match(conditions(`{${parent('web')}, rules: [{${mirror}}]}`)['ResolvedRefs'], {
    status: 'False',
    reason: 'BackendNotFound',
    message: /filters\[0\]\.requestMirror\.backendRef/
  })
})

t.test('a long list ends in a number', async t => {
  const backends = Array.from({ length: 16 }, (_, index) => `{name: gone-${index}, port: 80}`).join(', ')
  const rules = Array.from({ length: 16 }, () => `{backendRefs: [${backends}]}`).join(', ')
  const { message = '' } = conditions(`{${parent('web')}, rules: [${rules}]}`)['ResolvedRefs'] ?? {}
  t.match(message, /gone-9 was not found; and 246 more$/)
})

t.test('what waypoints cannot carry out is told with the field', async t => {
  const extension = '{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}'
  const mirror = '{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}'
  const cors = '{type: CORS, cors: {allowOrigins: ["https://*.example"]}}'
  const unsupported = { ...fine, Accepted: 'False UnsupportedValue' }
  const partly = { ...fine, PartiallyInvalid: 'True UnsupportedValue' }
  const rows = [
    { rules: `[{filters: [${extension}]}]`, wanted: unsupported, field: 'spec.rules[0].filters[0]' },
    { rules: `[{}, {filters: [${extension}]}]`, wanted: partly, field: 'spec.rules[1].filters[0]' },
    {
      rules: `[{backendRefs: [{name: web, port: 80, filters: [${extension}]}]}]`,
      wanted: unsupported,
      field: 'spec.rules[0].backendRefs[0].filters[0]'
    },
    { rules: '[{filters: [{}]}]', wanted: unsupported, field: 'filters[0] of type ""' },
    {
      rules: '[{matches: [{path: {type: RegularExpression, value: "/(?=x)"}}]}]',
      wanted: unsupported,
      field: 'spec.rules[0].matches[0].path.value'
    },
    {
      rules: '[{}, {matches: [{}, {headers: [{name: a, type: RegularExpression, value: "("}]}]}]',
      wanted: partly,
      field: 'spec.rules[1].matches[1].headers[0].value'
    },
    {
      rules: '[{matches: [{}, {path: {type: RegularExpression, value: "("}}]}]',
      wanted: partly,
      field: 'spec.rules[0].matches[1].path.value'
    },
    {
      rules: '[{sessionPersistence: {idleTimeout: 1m}}]',
      wanted: partly,
      field: 'spec.rules[0].sessionPersistence.idleTimeout'
    },
    { rules: '[{sessionPersistence: {type: Cookie}}]', wanted: fine, field: '' },
    { rules: '[{retry: {attempts: 1, codes: [503], backoff: 10ms}}]', wanted: fine, field: '' },
    { rules: '[{matches: [{path: {type: Exact, value: "/("}}]}]', wanted: fine, field: '' },
    { rules: `[{filters: [${mirror}, ${mirror}, ${cors}]}]`, wanted: fine, field: '' },
    {
      rules: `[{backendRefs: [{name: web, port: 80, filters: [${mirror}, ${cors}]}]}]`,
      wanted: fine,
      field: ''
    },
    { rules: `[{filters: [${mirror}]}]`, kind: 'GRPCRoute', wanted: fine, field: '' },
    {
      rules: `[{filters: [${mirror}]}, {filters: [${cors}]}]`,
      kind: 'GRPCRoute',
      wanted: partly,
      field: 'spec.rules[1].filters[0] of type "CORS"'
    },
    {
      rules: `[{filters: [${mirror.replace('web', 'gone')}]}]`,
      wanted: { ...fine, ResolvedRefs: 'False BackendNotFound' },
      field: ''
    },
    {
      rules: '[{filters: [{type: RequestRedirect, requestRedirect: {hostname: x}}]}]',
      kind: 'GRPCRoute',
      wanted: unsupported,
      field: 'RequestRedirect'
    },
    {
      rules: '[{matches: [{method: {type: RegularExpression, service: "a\\\\1"}}]}]',
      kind: 'GRPCRoute',
      wanted: unsupported,
      field: 'spec.rules[0].matches[0].method.service'
    }
  ]
  for (const { rules, wanted, field, kind } of rows) {
    const spec = `{${parent('web')}, rules: ${rules}}`
    t.strictSame(summary(spec, kind), wanted, rules)
    const said = conditions(spec, kind)
    const { message = '' } = said['PartiallyInvalid'] ?? said['Accepted'] ?? {}
    t.ok(message.includes(field), `${message} names ${field}`)
    if (field !== '') t.match(message, /status 500|dropped|no effect/)
  }
})

t.test('only of waypoints that are ours is anything said', async t => {
  const spoken = (name: string, options = {}): boolean =>
    (reports(`{${parent(name)}}`, options) as unknown[]).length > 0
  const rows = [
    { name: 'web', alone: true, beside: true },
    { name: 'istio', alone: true, beside: false },
    { name: 'foreign', alone: false, beside: false },
    { name: 'free', alone: true, beside: false },
    { name: 'gone', alone: true, beside: false }
  ]
  for (const { name, alone, beside } of rows) {
    t.equal(spoken(name), alone, name)
    t.equal(spoken(name, { more: istiod }), beside, `${name} beside an istiod`)
  }
  t.equal(spoken('istio', { istioClasses: 'off' }), false)
  t.strictSame(reports('{parentRefs: [{name: foreign}, {name: gone}]}'), [], 'other gateways are not ours')
  t.match(reports('{parentRefs: [{name: wp}]}', { more: istiod }), [
    {
      parentRef: { name: 'wp' },
      conditions: {
        Accepted: { status: 'False', reason: 'NotAllowedByListeners', message: /waypoint: name the Service/ }
      }
    }
  ])
  t.equal(spoken('istio', { istioClasses: 'on', more: istiod }), true)
})
