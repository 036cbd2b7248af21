/** Certificates of clients (`spec.tls.frontend`): which listeners ask, what their status says, and what proxies are sent. */
import t from 'tap'
import type { ClusterView } from '../../../controlplane/cluster/cluster.ts'
import { DesiredState } from '../../../controlplane/desired/desired-state.ts'
import { assignedAddresses } from '../../../controlplane/translate/gateway-address.ts'
import { gatewayReport } from '../../../controlplane/translate/gateway-report.ts'
import { gatewayStatus } from '../../../controlplane/translate/gateway-status.ts'
import { translateGateway } from '../../../controlplane/translate/gateway.ts'
import type { Gateway } from '../../../shared/kube/gateway-api.ts'
import { decodeConfigResource, encodeConfigResource } from '../../../shared/xds/config-resource.ts'
import { readGateway } from '../../../waypoint/gateway/gateway.ts'
import { testAuthority } from '../../support/certificates.ts'
import { gateway, secret } from '../gateway-world.ts'
import { objects, settings, world } from '../world.ts'

const [first, second] = [testAuthority('first').pem, testAuthority('second').pem]

function configMap(name: string, text: string, namespace = 'shop'): string {
  return `kind: ConfigMap
metadata: {name: ${name}, namespace: ${namespace}}
data: {ca.crt: ${JSON.stringify(text)}}
---
`
}

const shown = secret('shown')
const shop =
  shown +
  configMap('first', first) +
  configMap('second', second) +
  configMap('wrong', 'Hello world') +
  configMap('lent', second, 'vault') +
  configMap('kept', second, 'vault') +
  `kind: ReferenceGrant
metadata: {name: lend, namespace: vault}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: "", kind: ConfigMap, name: lent}]
---
`
const https = (name: string, port: number): string =>
  `{name: ${name}, port: ${port}, protocol: HTTPS, tls: {certificateRefs: [{name: shown}]}}`
const listeners = [
  https('a', 443),
  https('b', 8443),
  '{name: http, port: 80, protocol: HTTP}',
  '{name: pass, port: 9443, protocol: TLS, tls: {mode: Passthrough}}',
  '{name: end, port: 7443, protocol: TLS, tls: {certificateRefs: [{name: shown}]}}'
]

function validation(mode: string, ...names: readonly string[]): string {
  const references = names.map(name => `{group: "", kind: ConfigMap, ${name}}`).join(', ')
  return `validation: {${mode === '' ? '' : `mode: ${mode}, `}caCertificateRefs: [${references}]}`
}

function seen(view: ClusterView): {
  readonly gateway: readonly string[]
  /** Accepted and ResolvedRefs, and what is sent of it; '-' = nothing. */
  readonly listeners: Readonly<Record<string, string>>
  readonly messages: string
} {
  const object = view.get('Gateway', 'shop/gw')
  const sent = object && translateGateway(view, object)
  if (object === undefined || sent === undefined) throw new Error('no Gateway')
  const received = readGateway(decodeConfigResource(encodeConfigResource(sent.message)))
  const programmed = { kind: 'available', hostname: 'h' } as const
  const report = gatewayReport(view, object, programmed, assignedAddresses(view, object, 60_000))
  return {
    gateway: report.conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`),
    listeners: Object.fromEntries(
      report.listeners.map(({ name, conditions }) => {
        const reason = (wanted: string): string =>
          conditions.find(({ type }) => type === wanted)?.reason ?? ''
        const got = received.find(({ id }) => id.listener === name)
        const asks = got?.validation && `${got.validation.mode} ${authorities(got.validation.caCertificates)}`
        return [
          name,
          `${reason('Accepted')} ${reason('ResolvedRefs')} ${got === undefined ? '-' : (asks ?? 'any')}`
        ]
      })
    ),
    messages: JSON.stringify(report)
  }
}

function authorities(pem: string): string {
  return [...(pem.includes(first) ? ['first'] : []), ...(pem.includes(second) ? ['second'] : [])].join('+')
}

const whole = 'Accepted ResolvedRefs'
const any = {
  a: `${whole} any`,
  b: `${whole} any`,
  http: `${whole} any`,
  pass: `${whole} any`,
  end: `${whole} any`
}
const valid = `${whole} AllowValidOnly`

t.test('what listeners ask for', async t => {
  const rows: readonly {
    readonly frontend: string
    readonly wanted: Partial<typeof any>
    readonly says?: RegExp
  }[] = [
    { frontend: '{default: {}}', wanted: {} },
    {
      frontend: `{default: {${validation('', 'name: first')}}}`,
      wanted: { a: `${valid} first`, b: `${valid} first`, end: `${valid} first` }
    },
    {
      frontend: `{default: {${validation('', 'name: first')}}, perPort: [{port: 8443, tls: {${validation('AllowInsecureFallback', 'name: second')}}}, {port: 80, tls: {${validation('', 'name: gone')}}}, {port: 7443, tls: {}}]}`,
      wanted: { a: `${valid} first`, b: `${whole} AllowInsecureFallback second` }
    },
    {
      frontend: `{default: {}, perPort: [{port: 443, tls: {${validation('', 'name: gone')}}}]}`,
      wanted: { a: 'NoValidCACertificate InvalidCACertificateRef -' },
      says: /perPort\[0\]\.tls\.validation\.caCertificateRefs\[0\]: there is no ca\.crt in a ConfigMap shop\/gone/
    },
    {
      frontend: `{default: {}, perPort: [{port: 443, tls: {${validation('', 'name: wrong')}}}]}`,
      wanted: { a: 'NoValidCACertificate InvalidCACertificateRef -' }
    },
    {
      frontend:
        '{default: {}, perPort: [{port: 443, tls: {validation: {caCertificateRefs: [{group: "", kind: Service, name: first}]}}}]}',
      wanted: { a: 'NoValidCACertificate InvalidCACertificateKind -' },
      says: /kind Service is not supported/
    },
    {
      frontend: `{default: {}, perPort: [{port: 443, tls: {${validation('', 'namespace: vault, name: kept')}}}]}`,
      wanted: { a: 'NoValidCACertificate RefNotPermitted -' }
    },
    {
      frontend: `{default: {}, perPort: [{port: 443, tls: {${validation('', 'namespace: vault, name: lent')}}}]}`,
      wanted: { a: `${valid} second` }
    },
    {
      frontend: `{default: {}, perPort: [{port: 443, tls: {${validation('', 'name: gone', 'name: second')}}}]}`,
      wanted: { a: 'Accepted InvalidCACertificateRef AllowValidOnly second' }
    },
    {
      frontend: '{default: {}, perPort: [{port: 443, tls: {validation: {}}}]}',
      wanted: { a: 'NoValidCACertificate InvalidCACertificateRef -' },
      says: /name a ConfigMap/
    }
  ]
  for (const { frontend, wanted, says } of rows) {
    const found = seen(world(shop + gateway('gw', listeners, { more: `tls: {frontend: ${frontend}}` })))
    t.strictSame(found.listeners, { ...any, ...wanted }, frontend)
    const isInsecure = found.gateway.includes('InsecureFrontendValidationMode True ConfigurationChanged')
    t.equal(isInsecure, frontend.includes('AllowInsecureFallback'), frontend)
    if (says !== undefined) t.match(found.messages, says)
  }
})

t.test('a ConfigMap or a grant that changes changes the listeners', async t => {
  const desired = new DesiredState(settings)
  const put = (yaml: string): void => {
    for (const object of objects(yaml)) desired.put(object)
  }
  const sent = (): string => {
    desired.refresh()
    const [resource] = [...desired.snapshot.table('Gateway').values()]
    const [listener] = resource === undefined ? [] : readGateway(decodeConfigResource(resource.value))
    return listener === undefined ? 'closed' : authorities(listener.validation?.caCertificates ?? '')
  }
  const edge = (reference: string): string =>
    gateway('gw', [https('a', 443)], { more: `tls: {frontend: {default: {${validation('', reference)}}}}` })
  put(shown + edge('name: ca'))
  t.equal(sent(), 'closed')
  put(configMap('ca', first))
  t.equal(sent(), 'first')
  put(configMap('ca', second))
  t.equal(sent(), 'second')
  desired.delete('ConfigMap', 'shop/ca')
  t.equal(sent(), 'closed')
  put(configMap('lent', first, 'vault') + edge('namespace: vault, name: lent'))
  t.equal(sent(), 'closed')
  put(`kind: ReferenceGrant
metadata: {name: lend, namespace: vault}
spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}], to: [{group: "", kind: ConfigMap}]}
`)
  t.equal(sent(), 'first')
  desired.delete('ReferenceGrant', 'vault/lend')
  t.equal(sent(), 'closed')
})

t.test('conditions that are said at times go when there is nothing to say', async t => {
  const condition = (type: string): object => ({
    ...{ type, status: 'True', reason: 'R', message: 'm', lastTransitionTime: '2026-01-01T00:00:00Z' },
    observedGeneration: 1
  })
  const types = ['InsecureFrontendValidationMode', 'ResolvedRefs', 'somebody.else/Says']
  const object = { metadata: { name: 'gw', generation: 1 }, status: { conditions: types.map(condition) } }
  const status = gatewayStatus(
    object as unknown as Gateway,
    { conditions: [], listeners: [], addresses: undefined },
    0
  )
  t.match(status, { conditions: [{ type: 'somebody.else/Says' }] })
  t.equal((status as { conditions: readonly unknown[] }).conditions.length, 1)
})
