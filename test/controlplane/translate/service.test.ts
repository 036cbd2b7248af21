import t from 'tap'
import { message } from '../../../shared/xds/schema.ts'
import type { Cluster } from '../../../controlplane/cluster/cluster.ts'
import type { MeshSettings } from '../../../controlplane/cluster/settings.ts'
import { canonicalOwner, hostOwner } from '../../../controlplane/translate/hostname.ts'
import type { ServiceMessage } from '../../../controlplane/translate/messages.ts'
import { protocolOfPort } from '../../../controlplane/translate/protocol.ts'
import { translateService } from '../../../controlplane/translate/service.ts'
import { shown, world } from '../world.ts'

function serviceOf(view: Cluster, hostname: string, namespace = 'shop'): ServiceMessage | undefined {
  const owner = hostOwner(view, namespace, hostname)
  return owner === undefined ? undefined : (shown(translateService(view, owner, hostname)) as ServiceMessage)
}

function service(spec: string, more = '', metadata = '{name: s}'): ServiceMessage | undefined {
  return serviceOf(
    world(`kind: Service\nmetadata: ${metadata}\nspec: ${spec}\n${more}`),
    's.shop.svc.cluster.local'
  )
}

function entry(spec: string, more = '', changed: Partial<MeshSettings> = {}): ServiceMessage | undefined {
  return serviceOf(
    world(`kind: ServiceEntry\nmetadata: {name: e}\nspec: ${spec}\n${more}`, changed),
    'h.example'
  )
}

t.test('a Service, whole', async t => {
  const network =
    '---\nkind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: net1}}\n'
  t.strictSame(
    service(
      '{clusterIPs: [10.96.0.1, "2001:db8::1"], ipFamilies: [IPv4, IPv6], ports: [{name: http, port: 80, targetPort: web}, {name: grpc-x, port: 81, targetPort: 8081}, {port: 53, protocol: UDP}]}',
      network
    ),
    {
      name: 's',
      namespace: 'shop',
      hostname: 's.shop.svc.cluster.local',
      addresses: [
        { network: 'net1', address: '10.96.0.1' },
        { network: 'net1', address: '2001:db8::1' }
      ],
      ports: [
        { servicePort: 80, appProtocol: 'HTTP11' },
        { servicePort: 81, targetPort: 8081, appProtocol: 'GRPC' }
      ],
      ipFamilies: 'DUAL',
      canonical: true
    }
  )
})

t.test('fields of a Service', async t => {
  const distribution = (value: string): string =>
    `---\nkind: Namespace\nmetadata: {name: shop, annotations: {networking.istio.io/traffic-distribution: ${value}}}\n`
  const close = { routingPreference: ['NETWORK', 'REGION', 'ZONE'], mode: 'FAILOVER' }
  const sameNode = { routingPreference: ['NETWORK', 'REGION', 'ZONE', 'SUBZONE', 'NODE'], mode: 'FAILOVER' }
  const rows: readonly { name: string; spec: string; more?: string; metadata?: string; expect: object }[] = [
    { name: 'headless has no address', spec: '{clusterIP: None}', expect: { addresses: [] } },
    {
      name: 'an API server without clusterIPs',
      spec: '{clusterIP: 10.96.0.1}',
      expect: { addresses: [{ address: '10.96.0.1' }] }
    },
    { name: 'IPv4 only', spec: '{ipFamilies: [IPv4]}', expect: { ipFamilies: 'IPV4_ONLY' } },
    { name: 'IPv6 only', spec: '{ipFamilies: [IPv6]}', expect: { ipFamilies: 'IPV6_ONLY' } },
    {
      name: 'local traffic only',
      spec: '{internalTrafficPolicy: Local, trafficDistribution: PreferClose}',
      expect: { loadBalancing: { routingPreference: ['NODE'], mode: 'STRICT' } }
    },
    { name: 'close by', spec: '{trafficDistribution: PreferClose}', expect: { loadBalancing: close } },
    {
      name: 'the same zone',
      spec: '{trafficDistribution: PreferSameZone}',
      expect: { loadBalancing: close }
    },
    {
      name: 'the same node',
      spec: '{trafficDistribution: PreferSameNode}',
      expect: { loadBalancing: sameNode }
    },
    {
      name: 'by annotation, in any case of letters',
      spec: '{}',
      metadata: '{name: s, annotations: {networking.istio.io/traffic-distribution: PREFERSAMENODE}}',
      expect: { loadBalancing: sameNode }
    },
    {
      name: 'by its namespace',
      spec: '{}',
      more: distribution('PreferClose'),
      expect: { loadBalancing: close }
    },
    {
      name: 'not by its namespace when it says Any',
      spec: '{}',
      more: distribution('PreferClose'),
      metadata: '{name: s, annotations: {networking.istio.io/traffic-distribution: Any}}',
      expect: { loadBalancing: undefined }
    },
    {
      name: 'the field before the annotation',
      spec: '{trafficDistribution: PreferClose}',
      more: distribution('PreferSameNode'),
      expect: { loadBalancing: close }
    },
    {
      name: 'unready endpoints too',
      spec: '{publishNotReadyAddresses: true, trafficDistribution: PreferClose}',
      expect: { loadBalancing: { ...close, healthPolicy: 'ALLOW_ALL' } }
    },
    {
      name: 'unready endpoints alone',
      spec: '{publishNotReadyAddresses: true}',
      expect: { loadBalancing: { healthPolicy: 'ALLOW_ALL' } }
    }
  ]
  for (const { name, spec, more, metadata, expect } of rows) {
    const found = service(spec, more, metadata)
    for (const [field, value] of Object.entries(expect)) t.strictSame(found?.[field as never], value, name)
  }
  t.equal(service('{type: ExternalName, externalName: a.example}'), undefined, 'an alias is no service')
})

t.test('client affinity is an extension that others ignore', async t => {
  const view = world('kind: Service\nmetadata: {name: s}\nspec: {sessionAffinity: ClientIP}\n')
  const owner = hostOwner(view, 'shop', 's.shop.svc.cluster.local')
  if (owner === undefined) throw new Error('no owner')
  const [extension] = translateService(view, owner, 's').extensions ?? []
  t.equal(extension?.name, 'underpass.dev/traffic')
  t.equal(extension?.config.type_url, 'type.googleapis.com/google.protobuf.Struct')
  t.match(message('google.protobuf.Struct').decode(extension?.config.value ?? new Uint8Array()), {
    fields: { clientIpAffinitySeconds: { numberValue: 10_800 } }
  })
  t.equal(service('{}')?.extensions, undefined, 'without affinity there is none')
})

t.test('what a port speaks', async t => {
  const rows = [
    [80, 'http', '', 'HTTP11'],
    [80, 'http-web', '', 'HTTP11'],
    [80, 'HTTP2-x', '', 'HTTP2'],
    [80, 'grpc', '', 'GRPC'],
    [80, 'grpc-web', '', undefined],
    [80, 'https', '', 'TLS'],
    [80, 'tls-x', '', 'TLS'],
    [80, 'tcp', '', 'TCP'],
    [80, 'mongo', '', undefined],
    [80, 'web', '', undefined],
    [80, '', '', undefined],
    [3306, '', '', 'TCP'],
    [25, 'mail', '', 'TCP'],
    [3306, 'mysql', '', undefined],
    [80, 'tcp', 'http', 'HTTP11'],
    [80, 'http', 'kubernetes.io/h2c', 'HTTP2'],
    [80, '', 'kubernetes.io/ws', 'HTTP11'],
    [80, '', 'kubernetes.io/wss', 'TLS']
  ] as const
  for (const [port, name, appProtocol, expect] of rows) {
    t.equal(protocolOfPort(port, name, appProtocol), expect, `${port} ${name} ${appProtocol}`)
  }
})

t.test('a ServiceEntry', async t => {
  t.strictSame(
    entry(
      '{hosts: [h.example, other.example], addresses: [192.0.2.1, 198.51.100.0/24], ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: web, protocol: HTTP, targetPort: 8080}], resolution: STATIC, subjectAltNames: [spiffe://a/ns/b/sa/c]}'
    ),
    {
      name: 'e',
      namespace: 'shop',
      hostname: 'h.example',
      addresses: [{ address: '192.0.2.1' }, { address: '198.51.100.0', length: 24 }],
      ports: [
        { servicePort: 443, targetPort: 443, appProtocol: 'TLS' },
        { servicePort: 80, targetPort: 8080, appProtocol: 'HTTP11' }
      ],
      subjectAltNames: ['spiffe://a/ns/b/sa/c'],
      canonical: true
    }
  )
  t.match(
    entry('{hosts: [h.example], resolution: NONE}'),
    { loadBalancing: { mode: 'PASSTHROUGH', healthPolicy: 'ALLOW_ALL' } },
    'without resolution, traffic goes where the client sent it'
  )
  const allocated =
    'status: {addresses: [{host: h.example, value: 240.240.0.1}, {host: other, value: 240.240.0.2}]}\n'
  t.strictSame(
    entry('{hosts: [h.example], resolution: DNS}', allocated)?.addresses,
    [{ address: '240.240.0.1' }],
    'without addresses of its own, those allocated for the host'
  )
  t.strictSame(
    entry('{hosts: [h.example], resolution: DNS, addresses: [192.0.2.1]}', allocated)?.addresses,
    [{ address: '192.0.2.1' }],
    'its own come first'
  )
  t.strictSame(
    entry('{hosts: [h.example], resolution: NONE}', allocated)?.addresses,
    [],
    'none to pass through'
  )
})

t.test('how waypoints are told that an entry is known by names', async t => {
  const told = (spec: string, annotations = '{}'): unknown => {
    const view = world(
      `kind: ServiceEntry\nmetadata: {name: e, annotations: ${annotations}}\nspec: ${spec}\n`
    )
    const owner = hostOwner(view, 'shop', 'h.example') ?? hostOwner(view, 'shop', '*.example')
    if (owner === undefined) throw new Error('no owner')
    const [extension] = translateService(view, owner, 'h.example').extensions ?? []
    return extension && message('google.protobuf.Struct').decode(extension.config.value)
  }
  for (const resolution of ['DNS', 'DNS_ROUND_ROBIN']) {
    const spec = `{hosts: [h.example], resolution: ${resolution}}`
    t.match(
      told(spec),
      { fields: { resolution: { stringValue: resolution }, racing: undefined } },
      resolution
    )
  }
  t.match(told('{hosts: ["*.example"], resolution: DYNAMIC_DNS}'), {
    fields: { resolution: { stringValue: 'DYNAMIC_DNS' } }
  })
  const race = '{istio.io/connect-strategy: RACE_FIRST_TCP_CONNECT}'
  t.match(told('{hosts: [h.example], resolution: DNS}', race), { fields: { racing: { boolValue: true } } })
  t.equal(told('{hosts: [h.example], resolution: STATIC}', race), undefined, 'addresses are no names')
  t.equal(told('{hosts: [h.example], resolution: NONE}'), undefined)
})

t.test('how far a ServiceEntry is seen', async t => {
  const rule = (visibility: 'PUBLIC' | 'NAMESPACE' | 'NONE'): Partial<MeshSettings> => ({
    serviceEntryVisibility: [{ selector: { matchLabels: { team: 'a' } }, visibility }]
  })
  const namespace = '---\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n'
  const spec = '{hosts: [h.example], resolution: DNS}'
  t.match(entry(spec, namespace, rule('PUBLIC')), { visibility: undefined, canonical: true })
  t.match(entry(spec, namespace, rule('NAMESPACE')), { visibility: 'NAMESPACE', canonical: undefined })
  t.equal(entry(spec, namespace, rule('NONE')), undefined, 'not at all')
  t.match(entry(spec, '', rule('NONE')), { canonical: true }, 'a rule for other namespaces is none')
})

t.test('who has a hostname', async t => {
  const declare = (name: string, namespace: string, year: number): string =>
    `kind: ServiceEntry\nmetadata: {name: ${name}, namespace: ${namespace}, creationTimestamp: "${year}-01-01T00:00:00Z"}\nspec: {hosts: [h], resolution: DNS}\n---\n`
  const view = world(
    declare('b', 'shop', 2020) +
      declare('a', 'shop', 2021) +
      declare('c', 'other', 2019) +
      declare('z', 'equal', 2022) +
      declare('y', 'equal', 2022)
  )
  t.equal(hostOwner(view, 'shop', 'h')?.meta.name, 'b', 'in a namespace the oldest')
  t.equal(hostOwner(view, 'equal', 'h')?.meta.name, 'y', 'of equals the first by name')
  t.equal(canonicalOwner(view, 'h')?.meta.name, 'c', 'over all the oldest of these')
  const host = 's.shop.svc.cluster.local'
  const taken = world(
    `kind: ServiceEntry\nmetadata: {name: e, creationTimestamp: "2000-01-01T00:00:00Z"}\nspec: {hosts: [${host}], resolution: DNS}\n---\nkind: Service\nmetadata: {name: s, creationTimestamp: "2020-01-01T00:00:00Z"}\nspec: {}\n---\nkind: ServiceEntry\nmetadata: {name: f, namespace: other, creationTimestamp: "2000-01-01T00:00:00Z"}\nspec: {hosts: [${host}], resolution: DNS}\n`
  )
  t.equal(hostOwner(taken, 'shop', host)?.kind, 'Service', 'a Service keeps its name, however old others are')
  t.equal(hostOwner(taken, 'other', host)?.meta.name, 'f', 'another namespace may have it for itself')
  t.equal(canonicalOwner(taken, host)?.kind, 'Service')
  t.match(serviceOf(taken, host, 'other'), { canonical: undefined })
})
