/** What is read of a DestinationRule, and what is refused as a whole, with the field that is wrong. */
import t from 'tap'
import { unreadableRule } from '../../../waypoint/destination-rules/read-destination-rule.ts'
import { RuleInForce } from '../../../waypoint/destination-rules/rule-in-force.ts'
import type { TrafficPolicy } from '../../../waypoint/traffic-policy.ts'
import { domain, policyOf, read, resource } from './support.ts'

t.test('a host in full, a short one in the namespace of the rule, and wildcards as they are', async t => {
  const hostnames = {
    web: 'web.shop.svc.cluster.local',
    'web.other.svc.cluster.local': 'web.other.svc.cluster.local',
    'api.example': 'api.example',
    '*': '*',
    '*.example': '*.example',
    '*-eu.example': '*-eu.example'
  }
  for (const [host, hostname] of Object.entries(hostnames)) t.equal(read({ host }).hostname, hostname, host)
})

t.test('what a rule is and for whom', async t => {
  t.strictSame(read({}), {
    namespace: 'shop',
    name: 'web',
    createdMs: 5,
    hostname: 'web.shop.svc.cluster.local',
    exportTo: [],
    policy: undefined,
    subsets: new Map(),
    applies: true
  })
  t.strictSame(read({ exportTo: ['.', '*', 'infra'] }).exportTo, ['.', '*', 'infra'])
  const subsets = [
    { name: 'v1', labels: { version: 'v1', tier: 'web' } },
    { name: 'all', trafficPolicy: { tls: { mode: 'DISABLE' } } }
  ]
  t.strictSame(
    read({ subsets }).subsets,
    new Map([
      ['v1', { labels: new Map(Object.entries({ version: 'v1', tier: 'web' })), policy: undefined }],
      [
        'all',
        {
          labels: new Map(),
          policy: { parts: { tls: { tls: undefined, unsupported: [] } }, ports: new Map() }
        }
      ]
    ])
  )
})

t.test('VS-27: a rule with a workloadSelector is not for waypoints', async t => {
  t.equal(read({ workloadSelector: { matchLabels: { app: 'web' } } }).applies, false)
  t.equal(read({ workloadSelector: {} }).applies, false)
})

const unlimited = { connections: Infinity, pending: Infinity, requests: Infinity, retries: Infinity }
const defaults: TrafficPolicy = {
  balancing: { kind: 'least-request', warmup: undefined },
  locality: undefined,
  limits: unlimited,
  connections: {
    connectTimeoutMs: undefined,
    idleMs: undefined,
    maxRequestsPerConnection: Infinity,
    maxConcurrentStreams: Infinity,
    upgradeToHttp2: false
  },
  outliers: undefined,
  retryBudget: undefined,
  tls: undefined,
  unsupported: undefined
}

t.test('VS-32: parts that say nothing mean the defaults', async t => {
  t.strictSame(policyOf({ trafficPolicy: { loadBalancer: {} } }), defaults)
  t.strictSame(policyOf({ trafficPolicy: { connectionPool: {} } }), defaults)
  t.strictSame(
    policyOf({ trafficPolicy: { connectionPool: { http: {}, tcp: { tcpKeepalive: {} } } } }),
    defaults
  )
})

t.test('VS-31: tls with DISABLE and ISTIO_MUTUAL is no policy at all', async t => {
  t.equal(policyOf({}), undefined)
  t.equal(policyOf({ trafficPolicy: {} }), undefined)
  for (const tls of [{}, { mode: 'DISABLE' }, { mode: 'ISTIO_MUTUAL', sni: 'x', subjectAltNames: ['y'] }]) {
    t.equal(policyOf({ trafficPolicy: { tls } }), undefined)
  }
})

t.test('VS-47: tls SIMPLE says who the server has to be', async t => {
  const simple = { serverName: '', roots: undefined, names: [], verified: true }
  const situations: readonly (readonly [tls: object, expected: object])[] = [
    [{}, simple],
    [{ caCertificates: 'system' }, simple],
    [{ sni: 'api.example.com' }, { ...simple, serverName: 'api.example.com' }],
    [{ insecureSkipVerify: true }, { ...simple, verified: false }],
    [
      { subjectAltNames: ['a.example.com', 'spiffe://b/c', '10.0.0.1'] },
      {
        ...simple,
        names: [
          { kind: 'hostname', value: 'a.example.com' },
          { kind: 'uri', value: 'spiffe://b/c' },
          { kind: 'hostname', value: '10.0.0.1' }
        ]
      }
    ]
  ]
  for (const [tls, expected] of situations) {
    const policy = policyOf({ trafficPolicy: { tls: { mode: 'SIMPLE', ...tls } } })
    t.strictSame(policy, { ...defaults, tls: expected })
  }
})

const balancings: readonly (readonly [loadBalancer: object, balancing: object])[] = [
  [{ simple: 'UNSPECIFIED' }, { kind: 'least-request', warmup: undefined }],
  [{ simple: 'LEAST_CONN' }, { kind: 'least-request', warmup: undefined }],
  [{ simple: 'LEAST_REQUEST' }, { kind: 'least-request', warmup: undefined }],
  [{ simple: 'ROUND_ROBIN' }, { kind: 'round-robin', warmup: undefined }],
  [{ simple: 'RANDOM' }, { kind: 'random' }],
  [
    { warmup: { duration: '30s' } },
    { kind: 'least-request', warmup: { durationMs: 30_000, minimumPercent: 10, aggression: 1 } }
  ],
  [
    { simple: 'ROUND_ROBIN', warmup: { duration: '1m', minimumPercent: 12.5, aggression: 2.5 } },
    { kind: 'round-robin', warmup: { durationMs: 60_000, minimumPercent: 12.5, aggression: 2.5 } }
  ],
  [
    { warmup: { duration: '1m', minimumPercent: 0 } },
    { kind: 'least-request', warmup: { durationMs: 60_000, minimumPercent: 0, aggression: 1 } }
  ],
  [
    { warmupDurationSecs: '5s' },
    { kind: 'least-request', warmup: { durationMs: 5000, minimumPercent: 10, aggression: 1 } }
  ],
  [{ warmupDurationSecs: '5s', warmup: { duration: '6s' } }, { warmup: { durationMs: 6000 } }],
  [{ simple: 'RANDOM', warmup: { duration: '5s' } }, { kind: 'random' }],
  [{ consistentHash: {} }, { kind: 'random' }],
  [{ consistentHash: { useSourceIp: false } }, { kind: 'random' }],
  [
    { consistentHash: { httpHeaderName: 'X-User' } },
    {
      kind: 'consistent-hash',
      key: { from: 'header', name: 'x-user' },
      table: { kind: 'ring', minimumSize: 1024 }
    }
  ],
  [
    { consistentHash: { httpQueryParameterName: 'User', ringHash: { minimumRingSize: 5 } } },
    { key: { from: 'query', name: 'User' }, table: { kind: 'ring', minimumSize: 5 } }
  ],
  [
    { consistentHash: { useSourceIp: true, minimumRingSize: 7 } },
    { key: { from: 'source-ip' }, table: { kind: 'ring', minimumSize: 7 } }
  ],
  [{ consistentHash: { useSourceIp: true, ringHash: {} } }, { table: { kind: 'ring', minimumSize: 1024 } }],
  [{ consistentHash: { useSourceIp: true, maglev: {} } }, { table: { kind: 'maglev', size: 65_537 } }],
  [
    { consistentHash: { useSourceIp: true, maglev: { tableSize: 4_999_999 } } },
    { table: { kind: 'maglev', size: 4_999_999 } }
  ],
  [
    { consistentHash: { httpCookie: { name: 'user' } } },
    { key: { from: 'cookie', name: 'user', path: '', ttlMs: undefined, attributes: [] } }
  ],
  [
    {
      consistentHash: {
        httpCookie: {
          name: 'user',
          path: '/shop',
          ttl: '0s',
          attributes: [{ name: 'SameSite', value: 'Strict' }, { name: 'Secure' }]
        }
      }
    },
    {
      key: {
        from: 'cookie',
        name: 'user',
        path: '/shop',
        ttlMs: 0,
        attributes: [
          ['SameSite', 'Strict'],
          ['Secure', '']
        ]
      }
    }
  ]
]

t.test('VS-32, VS-33, VS-34: how pods are chosen', async t => {
  for (const [loadBalancer, balancing] of balancings) {
    const policy = policyOf({ trafficPolicy: { loadBalancer } })
    t.match(policy?.balancing, balancing, JSON.stringify(loadBalancer))
    t.equal(policy?.unsupported, undefined)
  }
})

const localities: readonly (readonly [localityLbSetting: object, locality: object])[] = [
  [{}, { kind: 'failover', failover: [] }],
  [{ enabled: null }, { kind: 'failover', failover: [] }],
  [{ enabled: false, failoverPriority: ['zone'] }, { kind: 'off' }],
  [
    { enabled: true, failover: [{ from: 'eu', to: 'us' }] },
    { kind: 'failover', failover: [{ from: 'eu', to: 'us' }] }
  ],
  [{ failoverPriority: ['zone', 'tier=web'] }, { kind: 'labels', labels: ['zone', 'tier=web'] }],
  [
    {
      distribute: [
        { from: 'eu/z1/*', to: { 'eu/z1/*': 80, us: 20 } },
        { from: '*', to: { '*': 100 } }
      ]
    },
    {
      kind: 'distribute',
      rules: [
        {
          from: 'eu/z1/*',
          to: [
            ['eu/z1/*', 80],
            ['us', 20]
          ]
        },
        { from: '*', to: [['*', 100]] }
      ]
    }
  ]
]

t.test('VS-36: near and far', async t => {
  for (const [localityLbSetting, locality] of localities) {
    const policy = policyOf({ trafficPolicy: { loadBalancer: { localityLbSetting } } })
    t.strictSame(policy?.locality, locality, JSON.stringify(localityLbSetting))
  }
})

t.test('limits and connections, where 0 is no limit', async t => {
  const all = {
    tcp: {
      maxConnections: 1,
      connectTimeout: '250ms',
      idleTimeout: '1h',
      tcpKeepalive: { probes: 3, time: '2h', interval: '75s' }
    },
    http: {
      http1MaxPendingRequests: 2,
      http2MaxRequests: 3,
      maxRetries: 4,
      maxRequestsPerConnection: 5,
      maxConcurrentStreams: 6,
      idleTimeout: '5s',
      h2UpgradePolicy: 'UPGRADE',
      useClientProtocol: false
    }
  }
  const policy = policyOf({ trafficPolicy: { connectionPool: all } })
  t.strictSame(policy, {
    ...defaults,
    limits: { connections: 1, pending: 2, requests: 3, retries: 4 },
    connections: {
      connectTimeoutMs: 250,
      idleMs: 5000,
      maxRequestsPerConnection: 5,
      maxConcurrentStreams: 6,
      upgradeToHttp2: true
    }
  })
  const zero = { http1MaxPendingRequests: 0, http2MaxRequests: 0, maxRetries: 0, maxRequestsPerConnection: 0 }
  t.strictSame(
    policyOf({ trafficPolicy: { connectionPool: { tcp: { maxConnections: 0 }, http: zero } } }),
    defaults
  )
})

t.test('the idle time of HTTP goes before that of TCP, and 0s of TCP means for ever', async t => {
  const idle = (connectionPool: object): number | undefined =>
    policyOf({ trafficPolicy: { connectionPool } })?.connections.idleMs
  t.equal(idle({ tcp: { idleTimeout: '9s' } }), 9000)
  t.equal(idle({ tcp: { idleTimeout: '0s' } }), Infinity)
  t.equal(idle({ tcp: { idleTimeout: '0s' }, http: { idleTimeout: '1s' } }), 1000)
  for (const h2UpgradePolicy of ['DEFAULT', 'DO_NOT_UPGRADE']) {
    const policy = policyOf({ trafficPolicy: { connectionPool: { http: { h2UpgradePolicy } } } })
    t.equal(policy?.connections.upgradeToHttp2, false)
  }
})

const usualOutliers = {
  consecutive5xx: 5,
  consecutiveGatewayErrors: 0,
  consecutiveLocalFailures: undefined,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionPercent: 10,
  minHealthPercent: 0
}

const outlierDetections: readonly (readonly [outlierDetection: object, different: object])[] = [
  [{}, {}],
  [{ consecutive5xxErrors: 0 }, { consecutive5xx: 0 }],
  [{ consecutive5xxErrors: 7, consecutiveErrors: 3 }, { consecutive5xx: 7 }],
  [{ consecutiveGatewayErrors: 2 }, { consecutiveGatewayErrors: 2 }],
  [{ consecutiveLocalOriginFailures: 9 }, {}],
  [{ splitExternalLocalOriginErrors: true }, { consecutiveLocalFailures: 5 }],
  [
    { splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 9 },
    { consecutiveLocalFailures: 9 }
  ],
  [
    { interval: '1m', baseEjectionTime: '3m30s' },
    { intervalMs: 60_000, baseEjectionMs: 210_000 }
  ],
  [
    { maxEjectionPercent: 100, minHealthPercent: 50 },
    { maxEjectionPercent: 100, minHealthPercent: 50 }
  ],
  [{ maxEjectionPercent: 0 }, {}],
  [{ outlierDetectionHttpErrorCodes: [] }, {}]
]

t.test('which pods are left out for what they answer', async t => {
  for (const [outlierDetection, different] of outlierDetections) {
    t.strictSame(
      policyOf({ trafficPolicy: { outlierDetection } }),
      { ...defaults, outliers: { ...usualOutliers, ...different } },
      JSON.stringify(outlierDetection)
    )
  }
})

t.test('the budget of retries', async t => {
  const budgets: readonly (readonly [retryBudget: object, expect: object])[] = [
    [{}, { percent: 20, minConcurrency: 3, intervalMs: 0 }],
    [{ percent: null }, { percent: 20, minConcurrency: 3, intervalMs: 0 }],
    [
      { percent: 0, minRetryConcurrency: 0 },
      { percent: 0, minConcurrency: 3, intervalMs: 0 }
    ],
    [
      { percent: 12.5, minRetryConcurrency: 10, budgetInterval: '10s' },
      { percent: 12.5, minConcurrency: 10, intervalMs: 10_000 }
    ]
  ]
  for (const [retryBudget, expect] of budgets) {
    t.strictSame(
      policyOf({ trafficPolicy: { retryBudget } }),
      { ...defaults, retryBudget: expect },
      JSON.stringify(retryBudget)
    )
  }
})

/** Valid, and not carried out. */
const unsupported: readonly (readonly [trafficPolicy: object, field: RegExp])[] = [
  [{ tls: { mode: 'SIMPLE', caCertificates: '/a.pem' } }, /tls\.caCertificates: .*in a BackendTLSPolicy/],
  [{ tls: { mode: 'SIMPLE', credentialName: 'a' } }, /tls\.credentialName: .*in a BackendTLSPolicy/],
  [{ tls: { mode: 'SIMPLE', caCrl: 'a' } }, /tls\.caCrl: /],
  [{ tls: { mode: 'SIMPLE', clientCertificate: 'a', privateKey: 'b' } }, /clientCertificate: .*privateKey: /],
  [
    {
      tls: {
        ...{ mode: 'MUTUAL', clientCertificate: 'a', privateKey: 'b', caCertificates: 'c', caCrl: 'd' },
        ...{ credentialName: 'e', subjectAltNames: ['f'], sni: 'g', insecureSkipVerify: true }
      }
    },
    /tls\.mode: MUTUAL/
  ],
  [{ tunnel: { protocol: 'CONNECT', targetHost: 'a', targetPort: 80 } }, /tunnel: /],
  [{ proxyProtocol: { version: 'V2' } }, /proxyProtocol: /],
  [{ loadBalancer: { simple: 'PASSTHROUGH' } }, /loadBalancer\.simple: PASSTHROUGH .*use LEAST_REQUEST/],
  [
    { loadBalancer: { backendUtilization: { weightUpdatePeriod: '1s' } } },
    /loadBalancer\.backendUtilization: .*use simple/
  ],
  [
    { loadBalancer: { zoneAwareLbSetting: { enabled: false } } },
    /loadBalancer\.zoneAwareLbSetting: .*use localityLbSetting/
  ],
  [
    { connectionPool: { tcp: { maxConnectionDuration: '1h' } } },
    /connectionPool\.tcp\.maxConnectionDuration: /
  ],
  [{ connectionPool: { http: { useClientProtocol: true } } }, /connectionPool\.http\.useClientProtocol: /],
  [
    { connectionPool: { http: { http2KeepAlive: { interval: '1s', timeout: '2s' } } } },
    /connectionPool\.http\.http2KeepAlive: /
  ],
  [
    { outlierDetection: { outlierDetectionHttpErrorCodes: [429] } },
    /outlierDetectionHttpErrorCodes: .*use consecutive5xxErrors/
  ]
]

t.test('VS-29: what is not carried out is told with the rule, the field and what to do', async t => {
  for (const [trafficPolicy, field] of unsupported) {
    const text = policyOf({ trafficPolicy })?.unsupported
    t.match(text, /^DestinationRule shop\/web: spec\.trafficPolicy\./)
    t.match(text, field)
  }
  const both = policyOf({ trafficPolicy: Object.assign({}, ...unsupported.map(([policy]) => policy)) })
  t.equal(both?.unsupported?.split('; DestinationRule').length, 6, 'one of each part')
})

const wrong: readonly (readonly [spec: object, complaint: RegExp])[] = [
  [{ host: null }, /spec\.host: is required/],
  [{ host: '' }, /spec\.host: "" is no hostname/],
  [{ host: 'a b' }, /spec\.host: "a b" is no hostname/],
  [{ host: 'a.*.example' }, /spec\.host: .* is no hostname/],
  [{ host: '-a.example' }, /spec\.host: .* is no hostname/],
  [{ host: 7 }, /spec\.host: expected text/],
  [{ hosts: [] }, /spec\.hosts: unknown field/],
  [{ exportTo: 'all' }, /spec\.exportTo: expected a list/],
  [{ exportTo: ['shop', '~'] }, /spec\.exportTo\[1\]: expected/],
  [{ exportTo: [7] }, /spec\.exportTo\[0\]: expected/],
  [{ workloadSelector: [] }, /spec\.workloadSelector: expected a mapping/],
  [{ workloadSelector: { labels: {} } }, /spec\.workloadSelector\.labels: unknown field/],
  [{ workloadSelector: { matchLabels: { app: 1 } } }, /matchLabels\["app"\]: expected text/],
  [{ subsets: {} }, /spec\.subsets: expected a list/],
  [{ subsets: [{}] }, /spec\.subsets\[0\]\.name: is required/],
  [{ subsets: [{ name: '' }] }, /spec\.subsets\[0\]\.name: must not be empty/],
  [{ subsets: [{ name: 'v1' }, { name: 'v1' }] }, /spec\.subsets\[1\]\.name: v1 is said twice/],
  [{ subsets: [{ name: 'v1', labels: { a: 1 } }] }, /spec\.subsets\[0\]\.labels\["a"\]: expected text/],
  [{ subsets: [{ name: 'v1', host: 'a' }] }, /spec\.subsets\[0\]\.host: unknown field/],
  [
    { subsets: [{ name: 'v1', trafficPolicy: { loadBalancer: { simple: 'FASTEST' } } }] },
    /spec\.subsets\[0\]\.trafficPolicy\.loadBalancer\.simple: expected one of UNSPECIFIED/
  ]
]

const wrongPolicies: readonly (readonly [trafficPolicy: unknown, complaint: RegExp])[] = [
  ['fast', /spec\.trafficPolicy: expected a mapping/],
  [{ balancer: {} }, /trafficPolicy\.balancer: unknown field/],
  [{ portLevelSettings: {} }, /portLevelSettings: expected a list/],
  [{ portLevelSettings: [{ tls: {} }] }, /portLevelSettings\[0\]\.port\.number: is required/],
  [{ portLevelSettings: [{ port: { number: 0 } }] }, /portLevelSettings\[0\]\.port\.number: is required/],
  [{ portLevelSettings: [{ port: { number: 70_000 } }] }, /port\.number: expected a whole number/],
  [{ portLevelSettings: [{ port: { name: 'a' } }] }, /port\.name: unknown field/],
  [{ portLevelSettings: [{ port: { number: 1 }, retryBudget: {} }] }, /\[0\]\.retryBudget: unknown field/],
  [
    { portLevelSettings: [{ port: { number: 1 }, tls: { mode: 'ON' } }] },
    /\[0\]\.tls\.mode: expected one of/
  ],
  [{ loadBalancer: { algorithm: 'x' } }, /loadBalancer\.algorithm: unknown field/],
  [{ loadBalancer: { simple: 'RANDOM', consistentHash: {} } }, /consistentHash: .*together with simple/],
  [
    { loadBalancer: { localityLbSetting: {}, zoneAwareLbSetting: {} } },
    /zoneAwareLbSetting: .*together with localityLbSetting/
  ],
  [{ loadBalancer: { warmup: {} } }, /warmup\.duration: is required/],
  [{ loadBalancer: { warmup: { duration: '0s' } } }, /warmup\.duration: expected a duration of 1ms or more/],
  [
    { loadBalancer: { warmup: { duration: '1s', minimumPercent: 101 } } },
    /minimumPercent: expected a number up/
  ],
  [{ loadBalancer: { warmup: { duration: '1s', minimumPercent: -1 } } }, /minimumPercent: expected a number/],
  [{ loadBalancer: { warmup: { duration: '1s', aggression: 0 } } }, /aggression: has to be above 0/],
  [{ loadBalancer: { warmup: { duration: '1s', aggression: '2' } } }, /aggression: expected a number/],
  [{ loadBalancer: { warmup: { duration: '1s', speed: 1 } } }, /warmup\.speed: unknown field/],
  [{ loadBalancer: { warmupDurationSecs: 'long' } }, /warmupDurationSecs: expected a duration/],
  [
    { loadBalancer: { consistentHash: { httpHeaderName: 'a', useSourceIp: true } } },
    /consistentHash: has more than one key/
  ],
  [{ loadBalancer: { consistentHash: { httpHeaderName: 'a b' } } }, /httpHeaderName: "a b" has characters/],
  [{ loadBalancer: { consistentHash: { useSourceIp: 'yes' } } }, /useSourceIp: expected true or false/],
  [{ loadBalancer: { consistentHash: { httpCookie: {} } } }, /httpCookie\.name: is required/],
  [{ loadBalancer: { consistentHash: { httpCookie: { name: 'a;b' } } } }, /httpCookie\.name: "a;b" has/],
  [{ loadBalancer: { consistentHash: { httpCookie: { name: 'a', path: '/;x' } } } }, /path: has characters/],
  [
    { loadBalancer: { consistentHash: { httpCookie: { name: 'a', path: '/\r\nx' } } } },
    /path: has characters/
  ],
  [
    { loadBalancer: { consistentHash: { httpCookie: { name: 'a', ttl: '-1s' } } } },
    /ttl: expected a duration/
  ],
  [
    { loadBalancer: { consistentHash: { httpCookie: { name: 'a', attributes: [{ value: 'b' }] } } } },
    /attributes\[0\]\.name: is required/
  ],
  [
    {
      loadBalancer: {
        consistentHash: { httpCookie: { name: 'a', attributes: [{ name: 'b', value: 'c;d' }] } }
      }
    },
    /attributes\[0\]\.value: has characters/
  ],
  [
    {
      loadBalancer: {
        consistentHash: { httpCookie: { name: 'a', attributes: [{ name: 'b' }, { name: 'b' }] } }
      }
    },
    /attributes\[1\]\.name: b is said twice/
  ],
  [
    { loadBalancer: { consistentHash: { ringHash: {}, maglev: {} } } },
    /maglev: is given together with ringHash/
  ],
  [
    { loadBalancer: { consistentHash: { minimumRingSize: 9, maglev: {} } } },
    /minimumRingSize: .*leave it out/
  ],
  [{ loadBalancer: { consistentHash: { ringHash: { minimumRingSize: 1e9 } } } }, /minimumRingSize: expected/],
  [{ loadBalancer: { consistentHash: { maglev: { tableSize: 1000 } } } }, /tableSize: 1000 is no prime/],
  [{ loadBalancer: { consistentHash: { maglev: { tableSize: 5_000_011 } } } }, /tableSize: expected/],
  [
    { loadBalancer: { localityLbSetting: { failover: [{ from: 'a', to: 'b' }], failoverPriority: ['c'] } } },
    /localityLbSetting: has more than one of/
  ],
  [{ loadBalancer: { localityLbSetting: { enabled: 'no' } } }, /enabled: expected true or false/],
  [
    { loadBalancer: { localityLbSetting: { failover: [{ from: 'a', to: 'a' }] } } },
    /\[0\]\.to: is the region/
  ],
  [
    { loadBalancer: { localityLbSetting: { failover: [{ from: 'a/b', to: 'c' }] } } },
    /from: "a\/b" is no region/
  ],
  [{ loadBalancer: { localityLbSetting: { failover: [{ from: 'a' }] } } }, /failover\[0\]\.to: is required/],
  [{ loadBalancer: { localityLbSetting: { failoverPriority: ['=x'] } } }, /\[0\]: "=x" is no label/],
  [
    { loadBalancer: { localityLbSetting: { failoverPriority: [1] } } },
    /failoverPriority\[0\]: expected text/
  ],
  [
    { loadBalancer: { localityLbSetting: { distribute: [{ from: 'a', to: { b: 50, c: 40 } }] } } },
    /distribute\[0\]\.to: the weights add up to 90/
  ],
  [
    { loadBalancer: { localityLbSetting: { distribute: [{ from: 'a', to: { b: 100, c: 0 } }] } } },
    /distribute\[0\]\.to\["c"\]: expected a whole number from 1/
  ],
  [
    { loadBalancer: { localityLbSetting: { distribute: [{ from: 'a/*/b', to: { '*': 100 } }] } } },
    /distribute\[0\]\.from: "a\/\*\/b" is no place/
  ],
  [
    { loadBalancer: { localityLbSetting: { distribute: [{ from: 'a', to: { 'a//b': 100 } }] } } },
    /distribute\[0\]\.to: "a\/\/b" is no place/
  ],
  [{ connectionPool: { udp: {} } }, /connectionPool\.udp: unknown field/],
  [{ connectionPool: { tcp: { maxConnections: -1 } } }, /tcp\.maxConnections: expected a whole number/],
  [{ connectionPool: { tcp: { maxConnections: 2 ** 31 } } }, /tcp\.maxConnections: expected a whole number/],
  [{ connectionPool: { tcp: { connectTimeout: '0s' } } }, /tcp\.connectTimeout: expected a duration of 1ms/],
  [
    { connectionPool: { tcp: { idleTimeout: 'never' } } },
    /tcp\.idleTimeout: expected a duration such as 30s/
  ],
  [{ connectionPool: { tcp: { maxConnectionDuration: 5 } } }, /maxConnectionDuration: expected text/],
  [{ connectionPool: { tcp: { tcpKeepalive: { probes: 1.5 } } } }, /tcpKeepalive\.probes: expected/],
  [{ connectionPool: { tcp: { tcpKeepalive: { time: '1' } } } }, /tcpKeepalive\.time: expected/],
  [{ connectionPool: { tcp: { tcpKeepalive: { interval: '1' } } } }, /tcpKeepalive\.interval: expected/],
  [{ connectionPool: { http: { http1MaxPendingRequests: '1' } } }, /http1MaxPendingRequests: expected/],
  [{ connectionPool: { http: { http2MaxRequests: -1 } } }, /http2MaxRequests: expected/],
  [{ connectionPool: { http: { maxRetries: 0.5 } } }, /maxRetries: expected/],
  [{ connectionPool: { http: { maxRequestsPerConnection: true } } }, /maxRequestsPerConnection: expected/],
  [{ connectionPool: { http: { maxConcurrentStreams: 2 ** 31 } } }, /maxConcurrentStreams: expected/],
  [{ connectionPool: { http: { idleTimeout: '0s' } } }, /http\.idleTimeout: expected a duration of 1ms/],
  [{ connectionPool: { http: { h2UpgradePolicy: 'MAYBE' } } }, /h2UpgradePolicy: expected one of/],
  [{ connectionPool: { http: { http2KeepAlive: { interval: 'x' } } } }, /http2KeepAlive\.interval: expected/],
  [{ outlierDetection: { errors: 1 } }, /outlierDetection\.errors: unknown field/],
  [{ outlierDetection: { consecutive5xxErrors: -1 } }, /consecutive5xxErrors: expected/],
  [{ outlierDetection: { consecutiveGatewayErrors: '1' } }, /consecutiveGatewayErrors: expected/],
  [{ outlierDetection: { consecutiveLocalOriginFailures: 1.5 } }, /consecutiveLocalOriginFailures: expected/],
  [{ outlierDetection: { splitExternalLocalOriginErrors: 1 } }, /splitExternalLocalOriginErrors: expected/],
  [{ outlierDetection: { interval: '0s' } }, /interval: expected a duration of 1ms/],
  [{ outlierDetection: { baseEjectionTime: 'x' } }, /baseEjectionTime: expected a duration/],
  [
    { outlierDetection: { maxEjectionPercent: 101 } },
    /maxEjectionPercent: expected a whole number up to 100/
  ],
  [{ outlierDetection: { minHealthPercent: -1 } }, /minHealthPercent: expected a whole number up to 100/],
  [{ outlierDetection: { outlierDetectionHttpErrorCodes: [99] } }, /ErrorCodes\[0\]: expected a status/],
  [{ tls: { mode: 'OFF' } }, /tls\.mode: expected one of DISABLE/],
  [{ tls: { sni: 1 } }, /tls\.sni: expected text/],
  [{ tls: { subjectAltNames: [1] } }, /tls\.subjectAltNames\[0\]: expected text/],
  [{ tls: { insecureSkipVerify: 'x' } }, /tls\.insecureSkipVerify: expected true/],
  [{ tunnel: {} }, /tunnel\.targetHost: is required/],
  [{ tunnel: { targetHost: 'a', targetPort: 70_000 } }, /tunnel\.targetPort: expected/],
  [{ proxyProtocol: { version: 'V3' } }, /proxyProtocol\.version: expected one of V1, V2/],
  [{ retryBudget: { percent: 101 } }, /retryBudget\.percent: expected a number up to 100/],
  [{ retryBudget: { minRetryConcurrency: -1 } }, /minRetryConcurrency: expected/],
  [{ retryBudget: { budgetInterval: '-1s' } }, /budgetInterval: expected a duration/],
  [{ retryBudget: { budget: 1 } }, /retryBudget\.budget: unknown field/]
]

t.test('a rule with anything wrong is refused with the field', async t => {
  const specs = [
    ...wrong,
    ...wrongPolicies.map(([trafficPolicy, complaint]) => [{ trafficPolicy }, complaint] as const)
  ]
  for (const [spec, complaint] of specs) {
    t.throws(() => read(spec), { message: complaint }, JSON.stringify(spec))
  }
})

t.test('all that is wrong is told at once', async t => {
  t.throws(
    () => read({ exportTo: ['~'], trafficPolicy: { tls: { mode: 'OFF' }, retryBudget: { percent: 'x' } } }),
    {
      message: /spec\.exportTo\[0\].*; spec\.trafficPolicy\.tls\.mode.*; .*percent: expected a number/
    }
  )
})

t.test('in place of a rule that cannot be read stands one that lets no request pass', async t => {
  const bad = { exportTo: ['infra'], subsets: [{ name: 'v1' }], trafficPolicy: { loadBalancer: 'x' } }
  const rule = unreadableRule(resource(bad), domain)
  t.match(rule, {
    namespace: 'shop',
    name: 'web',
    hostname: 'web.shop.svc.cluster.local',
    exportTo: ['infra']
  })
  const policy = rule && new RuleInForce([rule]).policyFor(80, 'v1')
  t.match(policy?.unsupported, /^DestinationRule shop\/web was not understood/)
  t.strictSame(
    unreadableRule(resource({ exportTo: ['infra', 7] }), domain)?.exportTo,
    [],
    'for all, to be safe'
  )
  t.equal(unreadableRule(resource({ host: 7 }), domain), undefined, 'nobody can tell for whom')
  t.equal(
    unreadableRule(resource({ workloadSelector: {}, subsets: 7 }), domain),
    undefined,
    'for sidecars only'
  )
})
