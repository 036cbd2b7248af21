import t from 'tap'
import { decodeAddress, decodeAuthorization, scopeOf } from '../../../shared/mesh/decode.ts'
import { noLabels } from '../../../shared/mesh/model.ts'
import { MeshStore } from '../../../shared/mesh/store.ts'
import { ip } from '../../../shared/net/address.ts'
import { evaluate } from '../../../shared/policy/evaluate.ts'
import { message } from '../../../shared/xds/schema.ts'
import { cidr, gatewayTo, service, workload } from '../../support/mesh.ts'
import { match, policy } from '../../support/policies.ts'

const addressMessage = message<object>('istio.workload.Address')
const authorizationMessage = message<object>('istio.security.Authorization')
const structMessage = message<object>('google.protobuf.Struct')
const four = Buffer.of(10, 0, 0, 1)

const workloadBytes = (parts: object): Buffer => addressMessage.encode({ workload: { uid: 'u', ...parts } })
const serviceBytes = (parts: object): Buffer =>
  addressMessage.encode({ service: { namespace: 'shop', hostname: 'web.example', ...parts } })
const labelsExtension = (fields: object): object => ({
  name: 'underpass.dev/labels',
  config: {
    type_url: 'type.googleapis.com/google.protobuf.Struct',
    value: structMessage.encode({ fields })
  }
})
const policyBytes = (parts: object): Buffer =>
  authorizationMessage.encode({ name: 'p', namespace: 'shop', ...parts })

t.test('a workload with every field', async t => {
  const decoded = decodeAddress(
    addressMessage.encode({
      workload: {
        uid: 'c//Pod/shop/web',
        name: 'web',
        namespace: 'shop',
        addresses: [four, Buffer.from('20010db8000000000000000000000001', 'hex')],
        hostname: 'web.example',
        network: 'net1',
        tunnelProtocol: 'HBONE',
        trustDomain: 'td',
        serviceAccount: 'sa',
        waypoint: { hostname: { namespace: 'shop', hostname: 'wp' }, hboneMtlsPort: 15008 },
        networkGateway: { address: { network: 'net2', address: four }, hboneMtlsPort: 15009 },
        node: 'n1',
        canonicalName: 'cn',
        canonicalRevision: 'cr',
        workloadType: 'JOB',
        workloadName: 'wn',
        nativeTunnel: true,
        applicationTunnel: { protocol: 'PROXY', port: 15088 },
        services: { 'shop/web.example': { ports: [{ servicePort: 80, targetPort: 8080 }] } },
        authorizationPolicies: ['shop/p'],
        status: 'UNHEALTHY',
        clusterId: 'c',
        locality: { region: 'r', zone: 'z', subzone: 's' },
        networkMode: 'HOST_NETWORK',
        capacity: { value: 0 },
        extensions: [labelsExtension({ version: { stringValue: 'v2' }, empty: { stringValue: '' } })]
      }
    })
  )
  t.strictSame(decoded, {
    kind: 'workload',
    workload: workload({
      uid: 'c//Pod/shop/web',
      name: 'web',
      namespace: 'shop',
      addresses: [ip('10.0.0.1'), ip('2001:db8::1')],
      hostname: 'web.example',
      network: 'net1',
      networkMode: 'HostNetwork',
      nativeTunnel: true,
      trustDomain: 'td',
      serviceAccount: 'sa',
      waypoint: gatewayTo('shop/wp:15008'),
      networkGateway: gatewayTo('net2/10.0.0.1:15009', 'address'),
      applicationTunnel: { protocol: 'PROXY', port: 15088 },
      node: 'n1',
      canonicalName: 'cn',
      canonicalRevision: 'cr',
      workloadName: 'wn',
      workloadType: 'job',
      clusterId: 'c',
      locality: { region: 'r', zone: 'z', subzone: 's' },
      services: new Map([['shop/web.example', new Map([[80, 8080]])]]),
      authorizationPolicies: ['shop/p'],
      status: 'Unhealthy',
      capacity: 0,
      labels: new Map([
        ['version', 'v2'],
        ['empty', '']
      ])
    })
  })
})

t.test('what a workload is when nothing is said', async t => {
  t.match(decodeAddress(workloadBytes({})), {
    workload: {
      trustDomain: 'cluster.local',
      serviceAccount: 'default',
      clusterId: 'Kubernetes',
      protocol: 'TCP',
      networkMode: 'Standard',
      workloadType: 'deployment',
      status: 'Healthy',
      capacity: 1,
      labels: noLabels,
      waypoint: undefined,
      applicationTunnel: undefined,
      services: new Map()
    }
  })
})

t.test('a service with every field, and blocks told from addresses', async t => {
  const decoded = decodeAddress(
    serviceBytes({
      name: 'web',
      addresses: [
        { network: 'net1', address: four },
        { address: four, length: 32 },
        { address: four, length: 8 }
      ],
      ports: [
        { servicePort: 80, targetPort: 0, appProtocol: 'GRPC' },
        { servicePort: 65536 + 81, targetPort: 8081 }
      ],
      subjectAltNames: ['spiffe://a/ns/b/sa/c'],
      waypoint: { hostname: { namespace: 'shop', hostname: 'wp' }, hboneMtlsPort: 15008 },
      loadBalancing: {
        mode: 'FAILOVER',
        routingPreference: ['NETWORK', 'ZONE', 'CLUSTER'],
        healthPolicy: 'ALLOW_ALL'
      },
      ipFamilies: 'IPV6_ONLY',
      canonical: true,
      weightedWaypoints: [
        { destination: { hostname: { namespace: 'a', hostname: 'b' }, hboneMtlsPort: 1 }, weight: 9 }
      ],
      visibility: 'NAMESPACE',
      ingressUseWaypoint: true,
      extensions: [
        { name: 'somebody.else', config: { type_url: 'x', value: Buffer.from('y') } },
        {
          name: 'underpass.dev/traffic',
          config: {
            type_url: 'type.googleapis.com/google.protobuf.Struct',
            value: structMessage.encode({
              fields: {
                clientIpAffinitySeconds: { numberValue: 90 },
                resolution: { stringValue: 'DNS_ROUND_ROBIN' },
                racing: { boolValue: true }
              }
            })
          }
        }
      ]
    })
  )
  t.strictSame(decoded, {
    kind: 'service',
    service: service({
      name: 'web',
      hostname: 'web.example',
      vips: [
        { network: 'net1', ip: ip('10.0.0.1') },
        { network: '', ip: ip('10.0.0.1') }
      ],
      cidrVips: [{ network: '', cidr: cidr('10.0.0.0/8') }],
      ports: new Map([
        [80, 0],
        [81, 8081]
      ]),
      protocols: new Map([[80, 'GRPC']]),
      subjectAltNames: ['spiffe://a/ns/b/sa/c'],
      waypoint: gatewayTo('shop/wp:15008'),
      loadBalancer: {
        mode: 'Failover',
        routingPreferences: ['Network', 'Zone', 'Cluster'],
        healthPolicy: 'AllowAll'
      },
      ipFamilies: 'IPv6',
      weightedWaypoints: [{ destination: gatewayTo('a/b:1'), weight: 9 }],
      visibility: 'Namespace',
      ingressUsesWaypoint: true,
      traffic: { clientIpAffinitySeconds: 90, resolution: 'DNS_ROUND_ROBIN', racing: true }
    })
  })
  t.match(
    decodeAddress(serviceBytes({ visibility: 7 })),
    { service: { visibility: 'Public' } },
    'a visibility from the future'
  )
})

t.test('resources that are refused, each with its field', async t => {
  const table: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.alloc(0), /^type: neither a workload nor a service/],
    [workloadBytes({ uid: '' }), /^workload\.uid: is empty/],
    [
      workloadBytes({ addresses: [four, Buffer.of(1, 2, 3)] }),
      /^workload\.addresses\[1\]: has 3 bytes, not 4 or 16/
    ],
    [
      workloadBytes({ tunnelProtocol: 'LEGACY_ISTIO_MTLS' }),
      /^workload\.tunnel_protocol: LEGACY_ISTIO_MTLS is not supported/
    ],
    [workloadBytes({ tunnelProtocol: 9 }), /^workload\.tunnel_protocol: unknown value 9/],
    [workloadBytes({ workloadType: 9 }), /^workload\.workload_type: unknown value 9/],
    [workloadBytes({ status: 2 }), /^workload\.status: unknown value 2/],
    [workloadBytes({ networkMode: 2 }), /^workload\.network_mode: unknown value 2/],
    [
      workloadBytes({ waypoint: { hboneMtlsPort: 1 } }),
      /^workload\.waypoint: has neither a hostname nor an address/
    ],
    [
      workloadBytes({ networkGateway: { address: { address: Buffer.of(1) } } }),
      /^workload\.network_gateway\.address\.address: has 1 bytes/
    ],
    [
      workloadBytes({ applicationTunnel: { protocol: 5 } }),
      /^workload\.application_tunnel\.protocol: unknown value 5/
    ],
    [workloadBytes({ services: { noslash: {} } }), /^workload\.services: key "noslash" has no \//],
    [
      workloadBytes({ extensions: [labelsExtension({ version: { numberValue: 2 } })] }),
      /^workload\.extensions\[underpass\.dev\/labels\]\.version: is no text/
    ],
    [serviceBytes({ hostname: '' }), /^service\.hostname: is empty/],
    [
      serviceBytes({ addresses: [{ address: Buffer.of(1, 2) }] }),
      /^service\.addresses\[0\]\.address: has 2 bytes/
    ],
    [
      serviceBytes({ addresses: [{ address: four, length: 33 }] }),
      /^service\.addresses\[0\]: a block of 4 bytes and prefix length 33/
    ],
    [serviceBytes({ ipFamilies: 8 }), /^service\.ip_families: unknown value 8/],
    [serviceBytes({ loadBalancing: { mode: 8 } }), /^service\.load_balancing\.mode: unknown value 8/],
    [
      serviceBytes({ loadBalancing: { healthPolicy: 8 } }),
      /^service\.load_balancing\.health_policy: unknown value 8/
    ],
    [
      serviceBytes({ loadBalancing: { routingPreference: ['ZONE', 8] } }),
      /^service\.load_balancing\.routing_preference\[1\]: unknown scope 8/
    ],
    [
      serviceBytes({ loadBalancing: { routingPreference: [0] } }),
      /^service\.load_balancing\.routing_preference\[0\]: unknown scope 0/
    ],
    [
      serviceBytes({ weightedWaypoints: [{ weight: 1 }] }),
      /^service\.weighted_waypoints\[0\]\.destination: is missing/
    ],
    [Buffer.from([0x0a, 0x7f]), /./]
  ]
  for (const [bytes, reason] of table)
    t.throws(() => decodeAddress(bytes), { message: reason }, String(reason))
})

t.test('a policy with every field', async t => {
  const block = { address: Buffer.of(10, 1, 2, 3), length: 16 }
  const decoded = decodeAuthorization(
    policyBytes({
      scope: 'NAMESPACE',
      action: 'DENY',
      dryRun: true,
      rules: [
        {
          clauses: [
            {
              matches: [
                {
                  namespaces: [{ exact: 'a' }],
                  notNamespaces: [{ prefix: 'b' }],
                  principals: [{ suffix: 'c' }],
                  notPrincipals: [{ presence: {} }],
                  sourceIps: [block],
                  notSourceIps: [block],
                  destinationIps: [block],
                  notDestinationIps: [block],
                  destinationPorts: [80],
                  notDestinationPorts: [81],
                  serviceAccounts: [{ namespace: 'n', serviceAccount: 's' }],
                  notServiceAccounts: [{ namespace: 'n', serviceAccount: 's' }]
                }
              ]
            },
            {}
          ]
        },
        {}
      ]
    })
  )
  const account = { namespace: 'n', serviceAccount: 's' }
  t.strictSame(
    decoded,
    policy({
      action: 'Deny',
      dryRun: true,
      rules: [
        [
          [
            match({
              namespaces: [{ kind: 'exact', value: 'a' }],
              notNamespaces: [{ kind: 'prefix', value: 'b' }],
              principals: [{ kind: 'suffix', value: 'c' }],
              notPrincipals: [{ kind: 'presence' }],
              sourceIps: [cidr('10.1.0.0/16')],
              notSourceIps: [cidr('10.1.0.0/16')],
              destinationIps: [cidr('10.1.0.0/16')],
              notDestinationIps: [cidr('10.1.0.0/16')],
              destinationPorts: [80],
              notDestinationPorts: [81],
              serviceAccounts: [account],
              notServiceAccounts: [account]
            })
          ],
          []
        ],
        []
      ]
    })
  )
})

t.test('policies that are refused, each with its field', async t => {
  const of = (parts: object): Buffer => policyBytes({ rules: [{}, { clauses: [{ matches: [{}, parts] }] }] })
  const table: readonly (readonly [Buffer, RegExp])[] = [
    [policyBytes({ name: '' }), /^name: is empty/],
    [policyBytes({ scope: 3 }), /^scope: unknown value 3/],
    [policyBytes({ action: 2 }), /^action: unknown value 2/],
    [
      of({ principals: [{ exact: 'a' }, {}] }),
      /^rules\[1\]\.clauses\[0\]\.matches\[1\]\.principals\[1\]: has none of exact, prefix, suffix and presence/
    ],
    [
      of({ notSourceIps: [{ address: Buffer.of(1), length: 8 }] }),
      /matches\[1\]\.not_source_ips\[0\]: a block of 1 bytes and prefix length 8/
    ],
    [
      of({ destinationIps: [{ address: four, length: 64 }] }),
      /destination_ips\[0\]: a block of 4 bytes and prefix length 64/
    ]
  ]
  for (const [bytes, reason] of table)
    t.throws(() => decodeAuthorization(bytes), { message: reason }, String(reason))
})

t.test('a broken resource among good ones is reported by its name and changes nothing else', async t => {
  const store = new MeshStore()
  const { rejected } = store.apply([
    { kind: 'address', name: 'good', bytes: workloadBytes({ uid: 'good' }) },
    { kind: 'address', name: 'bad', bytes: workloadBytes({ uid: 'bad', addresses: [Buffer.of(1)] }) },
    { kind: 'address', name: 'shop/web.example', bytes: serviceBytes({}) }
  ])
  t.strictSame(rejected, [{ name: 'bad', reason: 'workload.addresses[0]: has 1 bytes, not 4 or 16' }])
  t.strictSame(
    [...store.view().workloads()].map(({ uid }) => uid),
    ['good']
  )
  t.equal([...store.view().services()].length, 1)
  store.apply([{ kind: 'address', name: 'good', bytes: workloadBytes({ uid: 'good', status: 7 }) }])
  t.equal(store.view().workloadByUid('good')?.status, 'Healthy', 'the version that is held stays')
})

t.test('a policy that cannot be read denies its scope until a valid one comes, or it goes', async t => {
  const store = new MeshStore()
  const web = workload({ name: 'web' })
  const connection = {
    sourceIp: ip('10.0.0.1'),
    identity: undefined,
    destinationIp: ip('10.0.0.2'),
    destinationPort: 80
  }
  const verdict = (namespace = 'shop'): string =>
    evaluate(store.view().policiesOf({ ...web, namespace }), connection).kind
  const broken = {
    kind: 'authorization',
    name: 'shop/p',
    bytes: policyBytes({ scope: 'NAMESPACE', action: 7 })
  } as const
  const answer = store.apply([broken])
  t.match(answer, {
    rejected: [{ name: 'shop/p', reason: 'action: unknown value 7' }],
    policiesChanged: true
  })
  t.equal(verdict(), 'deny')
  t.equal(verdict('other'), 'allow', 'only its own namespace')
  t.match(evaluate(store.view().policiesOf(web), connection), {
    policy: 'shop/p',
    reason: /cannot be read, so nothing passes: action: unknown value 7/
  })
  store.apply([
    {
      kind: 'authorization',
      name: 'shop/p',
      bytes: policyBytes({ scope: 'NAMESPACE', action: 'ALLOW', rules: [{}] })
    }
  ])
  t.equal(verdict(), 'allow', 'a valid version takes its place')
  t.notOk(store.apply([broken]).policiesChanged)
  t.equal(verdict(), 'allow', 'and stays when a broken one follows')
  store.apply([{ kind: 'authorization', name: 'shop/q', bytes: Buffer.from([0xff]) }])
  t.equal(verdict(), 'deny', 'bytes that are no message deny the namespace of the name')
  store.apply([{ kind: 'authorization-removed', name: 'shop/q' }])
  t.equal(verdict(), 'allow')
  t.equal(scopeOf(policyBytes({ scope: 'GLOBAL', action: 7 })), 'Global')
  t.equal(scopeOf(Buffer.from([0xff])), undefined)
})

t.test('no mutation of a message does anything but decode or be refused', async t => {
  let seed = 99
  const random = (limit: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff
    return (seed >>> 8) % limit
  }
  const original = workloadBytes({
    name: 'n',
    namespace: 'x',
    addresses: [four],
    services: { 'a/b': { ports: [{ servicePort: 1, targetPort: 2 }] } }
  })
  let outcomes = 0
  for (let round = 0; round < 3000; round += 1) {
    const bytes = Buffer.from(original)
    for (let flips = random(4) + 1; flips > 0; flips -= 1) bytes[random(bytes.length)] = random(256)
    const store = new MeshStore()
    const { rejected } = store.apply([
      { kind: 'address', name: 'x', bytes },
      { kind: 'authorization', name: 'x/y', bytes }
    ])
    outcomes += rejected.length + [...store.view().workloads()].length + [...store.view().services()].length
  }
  t.ok(outcomes >= 3000)
})
