/** What the control plane sends, taken and refused: a route that is not understood shuts its service and nothing else. */
import t from 'tap'
import { silent } from '../../shared/telemetry/logger.ts'
import { MeshStore } from '../../shared/mesh/store.ts'
import { encodeConfigResource } from '../../shared/xds/config-resource.ts'
import { HeaderList } from '../../waypoint/http/header-list.ts'
import { PolicyStore } from '../../waypoint/authorization/policy-store.ts'
import { configTypes } from '../../waypoint/config-types.ts'
import { DestinationRuleStore } from '../../waypoint/destination-rules/destination-rule-store.ts'
import { CurrentSettings } from '../../waypoint/mesh-settings.ts'
import { JwtPolicyStore } from '../../waypoint/jwt/policy-store.ts'
import { RateLimitStore } from '../../waypoint/rate-limit/rate-limit-store.ts'
import { RouteStore } from '../../waypoint/routes/route-store.ts'
import { BackendTlsPolicies } from '../../waypoint/upstream/backend-tls-policies.ts'
import { VirtualServiceStore } from '../../waypoint/virtual-services/virtual-service-store.ts'
import { TelemetryStore } from '../../waypoint/telemetry/rules/telemetry-store.ts'
import { takeResponse } from '../../waypoint/xds.ts'

const typeUrl = 'gateway.networking.k8s.io/v1/HTTPRoute'
const virtualServiceType = 'networking.istio.io/v1/VirtualService'

function resource(name: string, rules: readonly object[]): { name: string; bytes: Buffer } {
  const parent = { group: '', kind: 'Service', namespace: 'shop', name }
  const spec = { parentRefs: [parent], rules }
  return {
    name: `shop/${name}`,
    bytes: encodeConfigResource({ namespace: 'shop', name, createdMs: 0, spec })
  }
}

t.test('broken ones among good ones', async t => {
  const routes = new RouteStore()
  const virtualServices = new VirtualServiceStore('shop')
  const own = {
    namespace: 'shop',
    name: 'waypoint',
    clusterDomain: 'cluster.local',
    rootNamespace: 'istio-system',
    role: 'waypoint' as const,
    environment: () => undefined
  }
  const stores = {
    policies: new PolicyStore(own),
    jwtPolicies: new JwtPolicyStore(own),
    rateLimits: new RateLimitStore(own),
    destinationRules: new DestinationRuleStore(own),
    backendTls: new BackendTlsPolicies(),
    virtualServices,
    telemetries: new TelemetryStore({
      ...{ own, rootNamespace: 'istio-system', accessLog: 'off', log: silent },
      settings: () => settings.current
    }),
    onJwtRules: () => undefined
  }
  const settings = new CurrentSettings(
    {
      ...{ trustDomains: ['cluster.local'], pathNormalization: 'BASE', providers: new Map() },
      ...{ accessLog: undefined, accessLogEncoding: 'TEXT' as const },
      ...{
        rateLimitProviders: new Map(),
        traceProviders: new Map(),
        defaultTraceProvider: undefined,
        traceSampling: 0
      }
    },
    silent
  )
  const deps = {
    types: configTypes({ settings, routes, ...stores }, own),
    mesh: new MeshStore(),
    log: silent
  }
  const take = (
    resources: readonly { name: string; bytes: Uint8Array }[],
    removed: readonly string[] = []
  ): unknown => takeResponse(deps, { typeUrl, resources, removed, bytes: 0 })
  const says = (name: string): string => {
    const service = { namespace: 'shop', hostname: `${name}.shop.svc.cluster.local` }
    const found = routes
      .table(service, 80, 'shop')
      ?.find({ method: 'GET', headers: new HeaderList() }, '/', '')
    return found === undefined ? 'no route' : (found.rule.filters.unsupported ?? found.rule.name)
  }
  const broken = [{ matches: [{ path: { type: 'Suffix', value: '/x' } }] }]
  t.match(
    take([
      resource('good', [{ name: 'v1' }]),
      resource('bad', broken),
      { name: 'shop/none', bytes: Buffer.from([9]) }
    ]),
    [
      { name: 'shop/bad', reason: /spec\.rules\[0\]\.matches\[0\]\.path\.type: expected one of/ },
      { name: 'shop/none', reason: /no istio\.mcp/ }
    ]
  )
  t.equal(says('good'), 'v1')
  t.match(says('bad'), /not understood/)
  t.match(take([resource('good', broken)]), [{ name: 'shop/good' }])
  t.equal(says('good'), 'v1', 'what worked before stays')
  t.strictSame(take([resource('bad', [{ name: 'mended' }])]), [])
  t.equal(says('bad'), 'mended')
  take([], ['shop/good', 'shop/bad'])
  t.equal(says('good'), 'no route')

  const takeVirtual = (spec: object): unknown => {
    const bytes = encodeConfigResource({ namespace: 'shop', name: 'web', createdMs: 0, spec: { ...spec } })
    const resources = [{ name: 'shop/web', bytes }]
    return takeResponse(deps, { typeUrl: virtualServiceType, resources, removed: [], bytes: 0 })
  }
  const web = { namespace: 'shop', hostname: 'web.shop.svc.cluster.local' }
  const head = { method: 'GET', authority: '', headers: new HeaderList() }
  const meets = (): unknown => virtualServices.table(web, 80, 'shop')?.find(head, '/', '')?.rule
  t.match(takeVirtual({ hosts: ['web'], http: [{ route: 'web' }] }), [{ reason: /route: expected a list/ }])
  t.match(meets(), { name: 'unreadable', filters: { unsupported: /not understood/ } })
  t.strictSame(
    takeVirtual({ hosts: ['web'], http: [{ name: 'v1', route: [{ destination: { host: 'web' } }] }] }),
    []
  )
  t.match(meets(), { name: 'v1' })
  t.match(takeVirtual({ hosts: ['web'], http: [{}] }), [{ reason: /needs one of route/ }])
  t.match(meets(), { name: 'v1' }, 'what worked before stays')
  takeResponse(deps, { typeUrl: virtualServiceType, resources: [], removed: ['shop/web'], bytes: 0 })
  t.equal(meets(), undefined)
})
