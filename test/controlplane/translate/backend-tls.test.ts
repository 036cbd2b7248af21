/** What becomes of BackendTLSPolicies: their conditions by Gateway, and what its proxies are told. GA-46 to GA-48. */
import t from 'tap'
import { backendTlsReports } from '../../../controlplane/translate/backend-tls-report.ts'
import { translateBackendTls } from '../../../controlplane/translate/backend-tls.ts'
import { decodeConfigResource, encodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { readBackendTlsPolicy } from '../../../waypoint/upstream/backend-tls-policy.ts'
import { authority, configMap, edge, policy, web } from '../backend-tls-world.ts'
import { world } from '../world.ts'

interface Seen {
  /** `Gateway: Accepted reason, ResolvedRefs reason`; a `!` before reasons of False. */
  readonly status: readonly string[]
  readonly messages: string
  readonly sent: unknown
}

function seen(yaml: string, name = 'tls'): Seen {
  const view = world(yaml)
  const object = view.get('BackendTLSPolicy', `shop/${name}`)
  if (object === undefined) throw new Error('no policy')
  const reports = backendTlsReports(view, object, 'auto')
  const message = translateBackendTls(view, object)
  return {
    status: reports.map(({ parentRef, conditions }) => {
      const short = (type: string): string =>
        `${conditions[type]?.status === 'True' ? '' : '!'}${conditions[type]?.reason}`
      return `${String(parentRef['name'])}: ${short('Accepted')}, ${short('ResolvedRefs')}`
    }),
    messages: JSON.stringify(reports),
    sent: message && { spec: message.message.spec, to: message.waypoints }
  }
}

const hostname = 'web.shop.svc.cluster.local'
const all = [{ hostname, namespace: 'shop' }]
const validation = { hostname: 'web.example', subjectAltNames: [], caCertificates: authority }

const situations: readonly {
  readonly name: string
  readonly yaml: string
  readonly status: string
  readonly message?: RegExp
  readonly spec: unknown
}[] = [
  {
    name: 'a service and a ConfigMap',
    yaml: policy('tls', web) + configMap('ca'),
    status: 'edge: Accepted, ResolvedRefs',
    spec: { targetRefs: all, validation }
  },
  {
    name: 'a port of the service',
    yaml: policy('tls', '{group: "", kind: Service, name: web, sectionName: b}') + configMap('ca'),
    status: 'edge: Accepted, ResolvedRefs',
    spec: { targetRefs: [{ hostname, namespace: 'shop', port: 444 }], validation }
  },
  {
    name: 'the certificates of the system, and names',
    yaml: policy('tls', web, {
      trust: 'wellKnownCACertificates: System',
      more: 'subjectAltNames: [{type: URI, uri: "spiffe://a/b"}, {type: Hostname, hostname: x.y}], '
    }),
    status: 'edge: Accepted, ResolvedRefs',
    spec: {
      targetRefs: all,
      validation: {
        ...validation,
        subjectAltNames: [
          { type: 'URI', uri: 'spiffe://a/b' },
          { type: 'Hostname', hostname: 'x.y' }
        ],
        caCertificates: ''
      }
    }
  },
  {
    name: 'two ConfigMaps, of which one is missing',
    yaml:
      policy('tls', web, {
        trust: 'caCertificateRefs: [{kind: ConfigMap, name: none}, {kind: ConfigMap, name: ca}]'
      }) + configMap('ca'),
    status: 'edge: Accepted, !InvalidCACertificateRef',
    message: /caCertificateRefs\[0\]: there is no ca\.crt in a ConfigMap shop\/none/,
    spec: { targetRefs: all, validation }
  },
  {
    name: 'a ConfigMap that is missing',
    yaml: policy('tls', web),
    status: 'edge: !NoValidCACertificate, !InvalidCACertificateRef',
    message: /there is no ca\.crt in a ConfigMap shop\/ca/,
    spec: { targetRefs: all, unresolved: /ConfigMap shop\/ca/ }
  },
  {
    name: 'a ConfigMap without ca.crt',
    yaml: policy('tls', web) + configMap('ca', { 'root.pem': authority }),
    status: 'edge: !NoValidCACertificate, !InvalidCACertificateRef',
    spec: { targetRefs: all, unresolved: /ca\.crt/ }
  },
  {
    name: 'no certificate in it',
    yaml: policy('tls', web) + configMap('ca', { 'ca.crt': 'Hello world' }),
    status: 'edge: !NoValidCACertificate, !InvalidCACertificateRef',
    message: /there is no PEM certificate in ca\.crt of ConfigMap shop\/ca/,
    spec: { targetRefs: all, unresolved: /no PEM certificate/ }
  },
  {
    name: 'a certificate that is broken',
    yaml:
      policy('tls', web) +
      configMap('ca', { 'ca.crt': '-----BEGIN CERTIFICATE-----\nSGVsbG8=\n-----END CERTIFICATE-----\n' }),
    status: 'edge: !NoValidCACertificate, !InvalidCACertificateRef',
    message: /a certificate cannot be read/,
    spec: { targetRefs: all, unresolved: /cannot be read/ }
  },
  {
    name: 'a reference of another kind',
    yaml: policy('tls', web, { trust: 'caCertificateRefs: [{group: invalid.io, kind: Odd, name: ca}]' }),
    status: 'edge: !NoValidCACertificate, !InvalidKind',
    message: /caCertificateRefs\[0\]: kind invalid\.io\/Odd is not supported; use ConfigMap/,
    spec: { targetRefs: all, unresolved: /invalid\.io/ }
  },
  {
    name: 'a Secret',
    yaml: policy('tls', web, { trust: 'caCertificateRefs: [{group: "", kind: Secret, name: ca}]' }),
    status: 'edge: !NoValidCACertificate, !InvalidKind',
    spec: { targetRefs: all, unresolved: /kind Secret/ }
  },
  {
    name: 'well-known certificates that nobody knows',
    yaml: policy('tls', web, { trust: 'wellKnownCACertificates: example.com/Mine' }),
    status: 'edge: !Invalid, ResolvedRefs',
    message: /wellKnownCACertificates: .*Mine.* is not known/,
    spec: { targetRefs: all, unresolved: /wellKnown/ }
  },
  {
    name: 'a service that there is not, but that a route names',
    yaml: policy('tls', '{group: "", kind: Service, name: gone}') + configMap('ca'),
    status: 'edge: !TargetNotFound, ResolvedRefs',
    message: /targetRefs\[0\]: there is no Service shop\/gone/,
    spec: undefined
  },
  {
    name: 'a port that there is not',
    yaml: policy('tls', '{group: "", kind: Service, name: web, sectionName: c}') + configMap('ca'),
    status: 'edge: !TargetNotFound, ResolvedRefs',
    message: /targetRefs\[0\]\.sectionName: Service shop\/web has no port c/,
    spec: undefined
  },
  {
    name: 'an older policy for the same service',
    yaml: policy('tls', web) + policy('older', web, { year: 2019 }) + configMap('ca'),
    status: 'edge: !Conflicted, ResolvedRefs',
    message: /BackendTLSPolicy older is for Service web already/,
    spec: undefined
  },
  {
    name: 'one of the same age with a name before it',
    yaml: policy('tls', web) + policy('slt', web) + configMap('ca'),
    status: 'edge: !Conflicted, ResolvedRefs',
    spec: undefined
  },
  {
    name: 'one of the same age with a name after it, and a younger one',
    yaml: policy('tls', web) + policy('zls', web) + policy('a', web, { year: 2021 }) + configMap('ca'),
    status: 'edge: Accepted, ResolvedRefs',
    spec: { targetRefs: all, validation }
  },
  {
    name: 'an older one for a port of it',
    yaml:
      policy('tls', web) +
      policy('older', '{group: "", kind: Service, name: web, sectionName: a}', { year: 2019 }) +
      configMap('ca'),
    status: 'edge: Accepted, ResolvedRefs',
    spec: { targetRefs: all, validation }
  },
  {
    name: 'an older one for the same port',
    yaml:
      policy('tls', '{group: "", kind: Service, name: web, sectionName: a}') +
      policy('older', '{group: "", kind: Service, name: web, sectionName: a}', { year: 2019 }) +
      configMap('ca'),
    status: 'edge: !Conflicted, ResolvedRefs',
    message: /is for Service web port a already/,
    spec: undefined
  }
]

for (const { name, yaml, status, message = /./, spec } of situations) {
  t.test(name, async t => {
    const found = seen(edge + yaml)
    t.strictSame(found.status, [status])
    t.match(found.messages, message)
    if (spec === undefined) t.equal(found.sent, undefined, 'nobody is told')
    else t.match(found.sent, { spec, to: [{ gateway: 'shop/edge' }] })
  })
}

t.test('a target of another kind is nobody’s, a service that nothing leads to has no ancestors', async t => {
  const odd = seen(edge + policy('tls', '{group: "", kind: Pod, name: web}') + configMap('ca'))
  t.strictSame(odd, { status: [], messages: '[]', sent: undefined })
  const alone = edge.replace('{name: web, port: 443}, ', '')
  t.match(seen(alone + policy('tls', web) + configMap('ca')), { status: [], sent: undefined })
})

t.test('GA-49: waypoints are ancestors, too, each once; those that others run are not', async t => {
  const labels = 'labels: {istio.io/use-waypoint: wp}'
  const bound = edge.replace('{name: web, namespace: shop}', `{name: web, namespace: shop, ${labels}}`)
  const waypoint = (className: string): string => `kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: ${className}}
status: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}]}
---
kind: HTTPRoute
metadata: {name: again, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 443}]}]}
---
`
  const ours = seen(bound + waypoint('underpass-waypoint') + policy('tls', web) + configMap('ca'))
  t.strictSame(ours.status, ['edge: Accepted, ResolvedRefs', 'wp: Accepted, ResolvedRefs'])
  t.match(JSON.parse(ours.messages), [
    {
      parentRef: {
        group: 'gateway.networking.k8s.io',
        kind: 'Gateway',
        namespace: 'shop',
        name: 'edge'
      },
      controller: 'underpass.dev/gateway-controller'
    },
    { controller: 'underpass.dev/waypoint-controller' }
  ])
  const theirs = seen(bound + waypoint('other') + policy('tls', web) + configMap('ca'))
  t.strictSame(theirs.status, ['edge: Accepted, ResolvedRefs'])
})

t.test('VS-47: a ServiceEntry, by all of its hosts', async t => {
  const entry = `kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [a.example, b.example], resolution: DNS, ports: [{number: 80, name: http, targetPort: 443}]}
---
kind: HTTPRoute
metadata: {name: out}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: a.example, port: 80}]}]}
---
`
  const target = '{group: networking.istio.io, kind: ServiceEntry, name: api, sectionName: http}'
  const found = seen(edge + entry + policy('tls', target) + configMap('ca'))
  t.strictSame(found.status, ['edge: Accepted, ResolvedRefs'])
  t.match(found.sent, {
    spec: {
      targetRefs: [
        { hostname: 'a.example', namespace: 'shop', port: 80 },
        { hostname: 'b.example', namespace: 'shop', port: 80 }
      ]
    }
  })
})

t.test('what is sent is what waypoints and gateways read', async t => {
  const read = (yaml: string): unknown => {
    const view = world(edge + yaml)
    const object = view.get('BackendTLSPolicy', 'shop/tls')
    const message = object && translateBackendTls(view, object)?.message
    return message && readBackendTlsPolicy(decodeConfigResource(encodeConfigResource(message)))
  }
  const more = 'subjectAltNames: [{type: URI, uri: "spiffe://a/b"}], '
  t.strictSame(read(policy('tls', web, { more }) + configMap('ca')), {
    createdMs: Date.parse('2020-01-01T00:00:00Z'),
    name: 'shop/tls',
    targets: [{ namespace: 'shop', hostname, port: undefined }],
    asks: {
      serverName: 'web.example',
      roots: authority,
      names: [{ kind: 'uri', value: 'spiffe://a/b' }],
      verified: true
    }
  })
  t.match(read(policy('tls', '{group: "", kind: Service, name: web, sectionName: b}')), {
    targets: [{ port: 444 }],
    asks: { unresolved: /there is no ca\.crt/ }
  })
  t.match(read(policy('tls', web, { trust: 'wellKnownCACertificates: System' })), {
    asks: { roots: undefined, verified: true }
  })
})
