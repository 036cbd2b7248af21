import t from 'tap'
import { LocalConfigError, readLocalConfig } from '../../../shared/mesh/local-config.ts'
import { ip } from '../../../shared/net/address.ts'
import { cidr, gatewayTo } from '../../support/mesh.ts'
import { match } from '../../support/policies.ts'

const complete = `
workloads:
- uid: cluster1//v1/Pod/default/local
  name: local
  namespace: default
  serviceAccount: local
  workloadIps: ["127.0.0.1", "::1"]
  protocol: HBONE
  node: local
  network: ""
  waypoint: { destination: default/waypoint.default.svc, hboneMtlsPort: 15008 }
  networkGateway: { destination: net2/10.0.0.1, hboneMtlsPort: 15009 }
  applicationTunnel: { protocol: PROXY, port: 15088 }
  locality: { region: r, zone: z }
  authorizationPolicies: [default/deny-9999]
  labels: { version: v2 }
  services:
    "default/example.com":
      80: 8080
    "default/example2.com": {}
- namespace: default
  name: bare
  workloadIps: [127.0.0.2]
  services: {}
services:
- name: local
  namespace: default
  hostname: example.com
  vips:
  - /127.10.0.1
  - remote/127.10.0.2
  cidrVips: [{ cidr: 240.0.0.0/4 }]
  ports: { 80: 8080 }
  subjectAltNames: [spiffe://cluster.local/ns/default/sa/local]
  canonical: true
  loadBalancer: { mode: Failover, routingPreferences: [Network, Zone], healthPolicy: AllowAll }
  weightedWaypoints: [{ destination: { destination: a/b, hboneMtlsPort: 1 }, weight: 5 }]
  ipFamilies: Dual
  visibility: Namespace
  ingressUseWaypoint: true
  traffic: { clientIpAffinitySeconds: 60, resolution: DYNAMIC_DNS, racing: true }
  appProtocols: { 80: HTTP2 }
policies:
- name: deny-9999
  namespace: default
  scope: Namespace
  action: Allow
  dryRun: false
  rules:
  - - - notDestinationPorts: [9999]
      - principals: [{ Exact: a }, { Prefix: b }, { Suffix: c }, { Presence: [] }]
        sourceIps: [10.0.0.0/8]
        serviceAccounts: [{ namespace: n, serviceAccount: s }]
`

t.test('a complete configuration is read, with the defaults of what is left out', async t => {
  const { workloads, services, policies } = readLocalConfig(complete)
  t.match(workloads[0], {
    uid: 'cluster1//v1/Pod/default/local',
    addresses: [ip('127.0.0.1'), ip('::1')],
    protocol: 'HBONE',
    trustDomain: '',
    waypoint: gatewayTo('default/waypoint.default.svc:15008'),
    networkGateway: gatewayTo('net2/10.0.0.1:15009', 'address'),
    applicationTunnel: { protocol: 'PROXY', port: 15088 },
    locality: { region: 'r', zone: 'z', subzone: '' },
    labels: new Map([['version', 'v2']]),
    services: new Map([
      ['default/example.com', new Map([[80, 8080]])],
      ['default/example2.com', new Map()]
    ])
  })
  t.match(workloads[1], {
    uid: 'local/default/bare',
    protocol: 'TCP',
    networkMode: 'Standard',
    status: 'Healthy',
    capacity: 1,
    serviceAccount: 'default',
    clusterId: 'Kubernetes'
  })
  t.match(services, [
    {
      vips: [
        { network: '', ip: ip('127.10.0.1') },
        { network: 'remote', ip: ip('127.10.0.2') }
      ],
      cidrVips: [{ network: '', cidr: cidr('240.0.0.0/4') }],
      ports: new Map([[80, 8080]]),
      loadBalancer: { mode: 'Failover', routingPreferences: ['Network', 'Zone'], healthPolicy: 'AllowAll' },
      ipFamilies: 'Dual',
      visibility: 'Namespace',
      ingressUsesWaypoint: true,
      weightedWaypoints: [{ destination: gatewayTo('a/b:1'), weight: 5 }],
      traffic: { clientIpAffinitySeconds: 60, resolution: 'DYNAMIC_DNS', racing: true },
      protocols: new Map([[80, 'HTTP2']])
    }
  ])
  t.strictSame(policies[0]?.rules, [
    [
      [
        match({ notDestinationPorts: [9999] }),
        match({
          principals: [
            { kind: 'exact', value: 'a' },
            { kind: 'prefix', value: 'b' },
            { kind: 'suffix', value: 'c' },
            { kind: 'presence' }
          ],
          sourceIps: [cidr('10.0.0.0/8')],
          serviceAccounts: [{ namespace: 'n', serviceAccount: 's' }]
        })
      ]
    ]
  ])
})

t.test('an empty file is an empty mesh', async t => {
  for (const text of ['', '\n# nothing\n', 'workloads:\n', '{}']) {
    t.strictSame(readLocalConfig(text), { workloads: [], services: [], policies: [] }, JSON.stringify(text))
  }
})

t.test('each mistake is named with the path of its field', async t => {
  const pod = 'namespace: d, workloadIps: [1.2.3.4], services: {}'
  const svc = 'name: s, namespace: d, hostname: h, vips: [], ports: {}'
  const rule = 'name: p, namespace: d, scope: Global, action: Allow, dryRun: false'
  const table: readonly (readonly [string, string])[] = [
    ['workloads: 5', 'workloads: expected a list, found 5'],
    ['[]', 'expected a mapping, found []'],
    ['wrkloads: []', 'wrkloads: unknown field; known are policies, services, workloads'],
    ['workloads: [7]', 'workloads[0]: expected a mapping, found 7'],
    [`workloads: [{${pod}, ip: x}]`, 'workloads[0].ip: unknown field; known are'],
    ['workloads: [{workloadIps: [], services: {}}]', 'workloads[0].namespace: is required'],
    ['workloads: [{namespace: d, services: {}}]', 'workloads[0].workloadIps: is required'],
    ['workloads: [{namespace: d, workloadIps: []}]', 'workloads[0].services: is required'],
    [
      `workloads: [{${pod}, protocol: QUIC}]`,
      'workloads[0].protocol: expected one of TCP, HBONE, found "QUIC"'
    ],
    [`workloads: [{${pod}, name: 5}]`, 'workloads[0].name: expected text, found 5'],
    [`workloads: [{${pod}, nativeTunnel: yes please}]`, 'workloads[0].nativeTunnel: expected true or false'],
    [`workloads: [{${pod}, labels: {version: 2}}]`, 'workloads[0].labels["version"]: expected text, found 2'],
    [
      `workloads: [{${pod}, capacity: -1}]`,
      'workloads[0].capacity: expected a whole number up to 4294967295'
    ],
    [`workloads: [{${pod}, locality: {planet: x}}]`, 'workloads[0].locality.planet: unknown field'],
    [
      `workloads: [{${pod}, waypoint: {destination: x}}]`,
      'workloads[0].waypoint.destination: expected `network/address`'
    ],
    [
      'workloads: [{namespace: d, workloadIps: [1.2.3], services: {}}]',
      'workloads[0].workloadIps[0]: expected an IP address, found "1.2.3"'
    ],
    [
      'workloads: [{namespace: d, workloadIps: [], services: {x: {}}}]',
      'workloads[0].services["x"]: expected a key of the form namespace/hostname'
    ],
    [
      'workloads: [{namespace: d, workloadIps: [], services: {a/x: {80: http}}}]',
      'workloads[0].services["a/x"]["80"]: expected a port, 0 to 65535, found "http"'
    ],
    ['services: [{namespace: d, hostname: h, vips: [], ports: {}}]', 'services[0].name: is required'],
    [
      `services: [{${svc}, loadBalancer: {routingPreferences: [Moon]}}]`,
      'services[0].loadBalancer.routingPreferences[0]: expected one of Region'
    ],
    [
      `services: [{${svc}, endpoints: {a: {}}}]`,
      'services[0].endpoints["a"]: endpoints are given as `services` of the workloads'
    ],
    [
      'services: [{name: s, namespace: d, hostname: h, vips: [1.2.3.4], ports: {}}]',
      'services[0].vips[0]: expected network/address, or /address'
    ],
    [
      'services: [{name: s, namespace: d, hostname: h, vips: [], ports: {80: 70000}}]',
      'services[0].ports["80"]: expected a port'
    ],
    [`policies: [{${rule}}]`, 'policies[0].rules: is required'],
    [`policies: [{${rule}, rules: [5]}]`, 'policies[0].rules[0]: expected a list, found 5'],
    [`policies: [{${rule}, rules: [[[{paths: [x]}]]]}]`, 'policies[0].rules[0][0][0].paths: unknown field'],
    [
      `policies: [{${rule}, rules: [[[{principals: [{Regex: x}]}]]]}]`,
      'policies[0].rules[0][0][0].principals[0]: expected one of {Exact: …}'
    ],
    [
      `policies: [{${rule}, rules: [[[{sourceIps: [10.0.0.0/33]}]]]}]`,
      'policies[0].rules[0][0][0].sourceIps[0]: expected a block'
    ],
    [
      'policies: [{name: p, namespace: d, scope: Global, action: Audit, dryRun: false, rules: []}]',
      'policies[0].action: expected one of Allow, Deny, found "Audit"'
    ]
  ]
  for (const [text, problem] of table) {
    try {
      readLocalConfig(text)
      t.fail(`${text} was taken`)
    } catch (error) {
      t.ok(
        error instanceof LocalConfigError && error.problems.some(found => found.startsWith(problem)),
        `${problem} — ${String(error)}`
      )
    }
  }
})

t.test('all mistakes are reported together', async t => {
  t.throws(() => readLocalConfig('workloads: [{}]\nservices: [{}]\nx: 1'), {
    message: /workloads\[0\]\.namespace[\s\S]*services\[0\]\.name[\s\S]*x: unknown field/
  })
})

t.test('text that is no YAML is refused with its place', async t => {
  t.throws(() => readLocalConfig('workloads: [\n  }'), /YAML:2:3/)
})
