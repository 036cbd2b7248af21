/** What becomes of each listener, by itself and beside others: its conditions, and whether its proxies hear of it. */
import t from 'tap'
import { assignedAddresses } from '../../../controlplane/translate/gateway-address.ts'
import { gatewayReport } from '../../../controlplane/translate/gateway-report.ts'
import { translateGateway } from '../../../controlplane/translate/gateway.ts'
import { gateway, keyPair, secret } from '../gateway-world.ts'
import { world } from '../world.ts'

const pair = keyPair()
const shop =
  secret('good', pair) +
  secret('other-key', { certificate: pair.certificate, key: keyPair().key }) +
  secret('no-certificate', { certificate: 'Hello world', key: pair.key }) +
  secret('no-key', { certificate: pair.certificate, key: 'Hello world' }) +
  secret('broken', {
    certificate: '-----BEGIN CERTIFICATE-----\nSGVsbG8=\n-----END CERTIFICATE-----',
    key: pair.key
  }) +
  secret('lent', pair, 'vault') +
  secret('kept', pair, 'vault') +
  `kind: ReferenceGrant
metadata: {name: lend, namespace: vault}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: "", kind: Secret, name: lent}]
---
kind: ReferenceGrant
metadata: {name: wrong, namespace: vault}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: "", kind: Secret}]
---
kind: Service
metadata: {name: gw-underpass, labels: {gateway.networking.k8s.io/gateway-name: gw}}
spec: {clusterIPs: [10.96.0.7], ports: [{port: 80}]}
---
`

interface Seen {
  readonly gateway: Readonly<Record<string, string>>
  readonly listeners: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly messages: string
  readonly kinds: Readonly<Record<string, readonly string[]>>
  readonly sent: readonly string[]
}

function seen(listeners: readonly string[], options: { readonly more?: string } = {}): Seen {
  const view = world(shop + gateway('gw', listeners, options))
  const object = view.get('Gateway', 'shop/gw')
  if (object === undefined) throw new Error('no Gateway')
  const programmed = { kind: 'available', hostname: 'h' } as const
  const report = gatewayReport(view, object, programmed, assignedAddresses(view, object, 60_000))
  const spec = translateGateway(view, object)?.message.spec as { listeners: readonly { name: string }[] }
  const short = (said: (typeof report)['conditions']): Record<string, string> =>
    Object.fromEntries(said.map(({ type, status, reason }) => [type, `${status} ${reason}`]))
  return {
    gateway: short(report.conditions),
    listeners: Object.fromEntries(report.listeners.map(({ name, conditions }) => [name, short(conditions)])),
    messages: JSON.stringify(report),
    kinds: Object.fromEntries(
      report.listeners.map(({ name, supportedKinds }) => [name, supportedKinds.map(({ kind }) => kind)])
    ),
    sent: spec.listeners.map(({ name }) => name)
  }
}

const fine = {
  Accepted: 'True Accepted',
  Conflicted: 'False NoConflicts',
  ResolvedRefs: 'True ResolvedRefs',
  Programmed: 'True Programmed'
}
const accepted = { Accepted: 'True Accepted', Programmed: 'True Programmed' }
const notAccepted = { Accepted: 'False ListenersNotValid', Programmed: 'False Invalid' }
const tls = (names: string, mode = ''): string =>
  `tls: {${mode}certificateRefs: [${names
    .split(' ')
    .map(name => `{name: ${name}}`)
    .join(', ')}]}`
const https = (names: string): string => `{name: l, port: 443, protocol: HTTPS, ${tls(names)}}`

t.test('a listener alone', async t => {
  const unresolved = (reason: string): object => ({
    ...fine,
    ResolvedRefs: `False ${reason}`,
    Programmed: 'False Invalid'
  })
  const refused = (reason: string): object => ({
    ...fine,
    Accepted: `False ${reason}`,
    Programmed: 'False Invalid'
  })
  const rows: readonly { listener: string; wanted: object; says?: RegExp; kinds?: readonly string[] }[] = [
    { listener: '{name: l, port: 80, protocol: HTTP}', wanted: fine, kinds: ['HTTPRoute', 'GRPCRoute'] },
    { listener: https('good'), wanted: fine, kinds: ['HTTPRoute', 'GRPCRoute'] },
    { listener: `{name: l, port: 443, protocol: TLS, ${tls('good')}}`, wanted: fine, kinds: ['TLSRoute'] },
    {
      listener: '{name: l, port: 443, protocol: TLS, tls: {mode: Passthrough}}',
      wanted: fine,
      kinds: ['TLSRoute']
    },
    {
      listener: '{name: l, port: 53, protocol: UDP}',
      wanted: refused('UnsupportedProtocol'),
      says: /protocol UDP is not supported; use HTTP, HTTPS or TLS/,
      kinds: []
    },
    { listener: '{name: l, port: 9000, protocol: TCP}', wanted: refused('UnsupportedProtocol'), kinds: [] },
    {
      listener: '{name: l, port: 15021, protocol: HTTP}',
      wanted: refused('PortUnavailable'),
      says: /port 15021 is one of the proxy itself/
    },
    {
      listener: '{name: l, port: 443, protocol: HTTPS, tls: {mode: Passthrough}}',
      wanted: { ...unresolved('InvalidCertificateRef'), Accepted: 'False UnsupportedValue' },
      says: /tls\.mode Passthrough/
    },
    {
      listener: '{name: l, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}]}}',
      wanted: { ...fine, ResolvedRefs: 'False InvalidRouteKinds' },
      says: /InvalidRoute cannot attach to protocol HTTP/,
      kinds: []
    },
    {
      listener:
        '{name: l, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: TLSRoute}, {kind: HTTPRoute}, {group: x.y, kind: GRPCRoute}]}}',
      wanted: { ...fine, ResolvedRefs: 'False InvalidRouteKinds' },
      says: /TLSRoute, x\.y\/GRPCRoute cannot attach/,
      kinds: ['HTTPRoute']
    },
    {
      listener:
        '{name: l, port: 443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: TCPRoute}, {kind: TLSRoute}]}}',
      wanted: { ...fine, ResolvedRefs: 'False InvalidRouteKinds' },
      kinds: ['TLSRoute']
    },
    {
      listener: https('gone'),
      wanted: unresolved('InvalidCertificateRef'),
      says: /listeners\[0\]\.tls\.certificateRefs\[0\]: there is no Secret shop\/gone of type kubernetes\.io\/tls/
    },
    {
      listener: '{name: l, port: 443, protocol: HTTPS}',
      wanted: unresolved('InvalidCertificateRef'),
      says: /name a Secret/
    },
    {
      listener: https('no-certificate'),
      wanted: unresolved('InvalidCertificateRef'),
      says: /no PEM certificate in tls\.crt/
    },
    { listener: https('broken'), wanted: unresolved('InvalidCertificateRef'), says: /cannot be read/ },
    {
      listener: https('no-key'),
      wanted: unresolved('InvalidCertificateRef'),
      says: /no usable PEM private key/
    },
    {
      listener: https('other-key'),
      wanted: unresolved('InvalidCertificateRef'),
      says: /does not belong to the key/
    },
    {
      listener: '{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{group: a.b, name: good}]}}',
      wanted: unresolved('InvalidCertificateRef'),
      says: /a\.b\/Secret is not supported/
    },
    {
      listener: '{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{kind: Vault, name: good}]}}',
      wanted: unresolved('InvalidCertificateRef'),
      says: /kind Vault is not supported/
    },
    {
      listener:
        '{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{namespace: vault, name: lent}]}}',
      wanted: fine
    },
    {
      listener:
        '{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{namespace: vault, name: kept}]}}',
      wanted: unresolved('RefNotPermitted'),
      says: /no ReferenceGrant admits Gateways of shop/
    },
    {
      listener:
        '{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{namespace: vault, name: gone}]}}',
      wanted: unresolved('RefNotPermitted')
    },
    { listener: https('gone good'), wanted: { ...fine, ResolvedRefs: 'False InvalidCertificateRef' } }
  ]
  for (const { listener, wanted, says, kinds } of rows) {
    const { listeners, messages, sent, kinds: supported } = seen([listener])
    t.strictSame(listeners['l'], wanted, listener)
    if (says !== undefined) t.match(messages, says)
    if (kinds !== undefined) t.strictSame(supported['l'], kinds)
    const works = (listeners['l']?.['Programmed'] ?? '').startsWith('True')
    t.strictSame(sent, works ? ['l'] : [], 'its proxies hear of it if it works')
    t.notMatch(messages, /BEGIN|Hello/, 'nothing of a Secret is told')
  }
})

t.test('listeners beside each other', async t => {
  const conflicted = (reason: string): object => ({
    Accepted: `False ${reason}`,
    Conflicted: `True ${reason}`,
    ResolvedRefs: 'True ResolvedRefs',
    Programmed: 'False Invalid'
  })
  const http = (name: string, port: number, hostname = ''): string =>
    `{name: ${name}, port: ${port}, protocol: HTTP, hostname: "${hostname}"}`
  const passed = (name: string, hostname: string): string =>
    `{name: ${name}, port: 443, protocol: TLS, hostname: "${hostname}", tls: {mode: Passthrough}}`
  const ended = (name: string, hostname: string, protocol = 'TLS'): string =>
    `{name: ${name}, port: 443, protocol: ${protocol}, hostname: "${hostname}", ${tls('good')}}`
  const rows = [
    { listeners: [http('a', 80), http('b', 8080)], a: fine, b: fine },
    { listeners: [http('a', 80, 'a.b'), http('b', 80, '*.b')], a: fine, b: fine },
    {
      listeners: [http('a', 80), http('b', 80)],
      a: conflicted('HostnameConflict'),
      b: conflicted('HostnameConflict')
    },
    {
      listeners: [http('a', 80, 'X.y'), http('b', 80, 'x.Y')],
      a: conflicted('HostnameConflict'),
      b: conflicted('HostnameConflict')
    },
    {
      listeners: [http('a', 443), ended('b', 'x.y', 'HTTPS')],
      a: conflicted('ProtocolConflict'),
      b: conflicted('ProtocolConflict')
    },
    {
      listeners: [ended('a', 'x.y'), ended('b', 'x.y', 'HTTPS')],
      a: conflicted('ProtocolConflict'),
      b: conflicted('ProtocolConflict')
    },
    { listeners: [ended('a', 'x.y'), passed('b', 'z.y')], a: fine, b: fine },
    { listeners: [ended('a', 'x.y', 'HTTPS'), passed('b', '*.y')], a: fine, b: fine },
    {
      listeners: ['{name: a, port: 80, protocol: TCP}', http('b', 80)],
      a: { ...fine, Accepted: 'False UnsupportedProtocol', Programmed: 'False Invalid' },
      b: fine
    }
  ]
  for (const { listeners, a, b } of rows) {
    t.strictSame(seen(listeners).listeners, { a, b }, listeners.join(' '))
  }
})

t.test('the Gateway as a whole', async t => {
  const http = '{name: l, port: 80, protocol: HTTP}'
  const bad = '{name: bad, port: 1111, protocol: INVALID}'
  const rows: readonly {
    listeners: readonly string[]
    more?: string
    wanted: object
    says?: RegExp
    sent?: readonly string[]
  }[] = [
    { listeners: [http], wanted: accepted },
    { listeners: [bad], wanted: notAccepted, sent: [] },
    {
      listeners: [http, bad],
      wanted: { ...accepted, Accepted: 'True ListenersNotValid' },
      says: /not accepted: bad/,
      sent: ['l']
    },
    { listeners: [https('gone')], wanted: accepted },
    {
      listeners: [http],
      more: 'infrastructure: {parametersRef: {group: invalid.io, kind: InvalidParameters, name: x}}',
      wanted: { Accepted: 'False InvalidParameters', Programmed: 'False Invalid' },
      says: /parametersRef: InvalidParameters x is not supported/,
      sent: ['l']
    },
    {
      listeners: [http],
      more: 'addresses: [{type: test/fake, value: x}, {value: 10.96.0.7}]',
      wanted: { Accepted: 'False UnsupportedAddress', Programmed: 'False Invalid' },
      says: /type test\/fake is not supported/
    },
    {
      listeners: [http],
      more: 'addresses: [{value: 192.0.2.1}, {value: 10.96.0.7}]',
      wanted: { ...accepted, Programmed: 'False AddressNotUsable' },
      says: /192\.0\.2\.1/
    },
    { listeners: [http], more: 'addresses: [{value: 10.96.0.7}]', wanted: accepted },
    { listeners: [http], more: 'addresses: [{type: IPAddress}]', wanted: accepted },
    {
      listeners: [https('good'), http.replace('l', 'h')],
      more: 'tls: {frontend: {default: {validation: {caCertificateRefs: []}}}}',
      wanted: { ...accepted, Accepted: 'True ListenersNotValid' },
      says: /caCertificateRefs: name a ConfigMap/,
      sent: ['h']
    }
  ]
  for (const { listeners, more = '', wanted, says, sent } of rows) {
    const found = seen(listeners, { more })
    t.strictSame(found.gateway, wanted, `${listeners.join(' ')} ${more}`)
    if (says !== undefined) t.match(found.messages, says)
    if (sent !== undefined) t.strictSame(found.sent, sent)
  }
})
