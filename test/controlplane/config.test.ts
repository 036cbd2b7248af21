import t from 'tap'
import { readConfig } from '../../controlplane/config.ts'
import { readMeshConfig } from '../../controlplane/cluster/mesh-config.ts'
import { ConfigError } from '../../shared/runtime/env.ts'
import { settings } from './world.ts'

t.test('defaults are istiod’s', async t => {
  const { config } = readConfig({})
  t.match(config, {
    mesh: {
      clusterId: 'Kubernetes',
      systemNamespace: 'istio-system',
      rootNamespace: 'istio-system',
      trustDomain: 'cluster.local',
      revision: 'default',
      allowWaypoints: true,
      sendDryRun: false
    },
    meshConfigMap: 'istio',
    ports: { xds: 15012, plaintext: undefined, monitoring: 15014, ready: 8080 },
    authenticate: true,
    audiences: ['istio-ca'],
    caEnabled: true,
    caFolder: '/etc/cacerts',
    maxTtlSeconds: 90 * 24 * 3600,
    debounceAfterMs: 10,
    debounceMaxMs: 100,
    maxConnectionAgeMs: 30 * 60_000
  })
  t.strictSame([...config.trustedNodeAccounts], ['istio-system/ztunnel'])
})

t.test('what is set', async t => {
  const { config } = readConfig({
    POD_NAMESPACE: 'mesh',
    REVISION: 'canary',
    CA_TRUSTED_NODE_ACCOUNTS: 'mesh/ztunnel, mesh/other',
    UNDERPASS_PLAINTEXT_XDS: 'true',
    UNDERPASS_PLAINTEXT_PORT: '0',
    UNDERPASS_LISTEN: '127.0.0.1',
    MAX_WORKLOAD_CERT_TTL: '48h'
  })
  t.match(config, {
    mesh: { systemNamespace: 'mesh', rootNamespace: 'mesh', revision: 'canary' },
    meshConfigMap: 'istio-canary',
    listen: '127.0.0.1',
    ports: { plaintext: 0 },
    maxTtlSeconds: 48 * 3600
  })
  t.strictSame([...config.trustedNodeAccounts], ['mesh/ztunnel', 'mesh/other'])
})

t.test('everything that is wrong is told at once', async t => {
  const wrong = {
    UNDERPASS_XDS_PORT: '99999',
    UNDERPASS_LISTEN: 'here',
    XDS_AUTH: 'perhaps',
    UNDERPASS_LOG: '!'
  }
  try {
    readConfig(wrong)
    t.fail('it was taken')
  } catch (error) {
    t.ok(error instanceof ConfigError)
    for (const name of Object.keys(wrong)) t.match((error as Error).message, name)
  }
})

t.test('every setting says what it means', async t => {
  for (const { name, meaning } of readConfig({}).variables) t.ok(meaning.length > 10, name)
})

t.test('the mesh configuration', async t => {
  const rows = [
    { text: '', expect: { rootNamespace: 'istio-system', trustDomain: 'cluster.local' } },
    {
      text: 'trustDomain: example.org\nrootNamespace: root\n',
      expect: { rootNamespace: 'root', trustDomain: 'example.org' }
    },
    { text: 'accessLogFile: /dev/stdout\ndefaultConfig: {x: y}\n', expect: { trustDomain: 'cluster.local' } },
    {
      text: 'discoverySelectors:\n- matchLabels: {mesh: "on"}\n- matchExpressions: [{key: env, operator: In, values: [prod]}]\n',
      expect: {
        discoverySelectors: [
          { matchLabels: { mesh: 'on' } },
          { matchExpressions: [{ key: 'env', operator: 'In', values: ['prod'] }] }
        ]
      }
    },
    {
      text: 'serviceEntryVisibility:\n- namespaceSelector: {matchLabels: {team: a}}\n  visibility: NAMESPACE\n',
      expect: {
        serviceEntryVisibility: [{ selector: { matchLabels: { team: 'a' } }, visibility: 'NAMESPACE' }]
      }
    }
  ]
  for (const { text, expect } of rows) {
    t.match(readMeshConfig(text, settings), { kind: 'settings', settings: expect }, text)
  }
  for (const [text, problem] of [
    ['trustDomain: [1]\n', /trustDomain: expected text/],
    ['discoverySelectors: {a: b}\n', /discoverySelectors: expected a list/],
    [
      'serviceEntryVisibility: [{visibility: SOMETIMES}]\n',
      /serviceEntryVisibility\[0\]\.visibility: expected one of PUBLIC, NAMESPACE, NONE/
    ],
    ['a: [\n', /mesh configuration/],
    ['- a\n', /expected an object/]
  ] as const) {
    t.match(readMeshConfig(text, settings), { kind: 'problem', message: problem }, text)
  }
})
