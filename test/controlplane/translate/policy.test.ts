import t from 'tap'
import type { AuthorizationPolicyObject } from '../../../controlplane/cluster/objects.ts'
import { readObject } from '../../../controlplane/read/object.ts'
import type { MeshSettings } from '../../../controlplane/cluster/settings.ts'
import { translatePolicy, type PolicyTranslation } from '../../../controlplane/translate/policy.ts'
import { parseYaml } from '../../../shared/kube/yaml.ts'
import { object, settings, shown } from '../world.ts'

function translate(
  spec: string,
  metadata = '{name: p}',
  changed: Partial<MeshSettings> = {}
): PolicyTranslation {
  const value = parseYaml(`kind: AuthorizationPolicy\nmetadata: ${metadata}\nspec: ${spec}\n`)
  const policy = object(value) as AuthorizationPolicyObject
  return shown(translatePolicy(policy, { ...settings, ...changed })) as PolicyTranslation
}

const rulesOf = (translation: PolicyTranslation): unknown =>
  translation.kind === 'sent' ? translation.message.rules : translation.kind

t.test('scope and action', async t => {
  const rows = [
    { name: 'of its namespace', spec: '{}', expect: { scope: 'NAMESPACE', action: undefined, rules: [] } },
    {
      name: 'of the mesh',
      spec: '{}',
      metadata: '{name: p, namespace: istio-system}',
      expect: { scope: undefined }
    },
    {
      name: 'of workloads',
      spec: '{selector: {matchLabels: {app: web}}}',
      expect: { scope: 'WORKLOAD_SELECTOR' }
    },
    {
      name: 'of workloads everywhere',
      spec: '{selector: {matchLabels: {app: web}}}',
      metadata: '{name: p, namespace: istio-system}',
      expect: { scope: 'WORKLOAD_SELECTOR' }
    },
    { name: 'an empty selector selects everything', spec: '{selector: {}}', expect: { scope: 'NAMESPACE' } },
    { name: 'a denial', spec: '{action: DENY, rules: [{}]}', expect: { action: 'DENY', rules: [{}] } },
    { name: 'a rule without conditions matches all', spec: '{rules: [{}]}', expect: { rules: [{}] } }
  ]
  for (const { name, spec, metadata, expect } of rows) {
    const translation = translate(spec, metadata)
    t.equal(translation.kind, 'sent', name)
    if (translation.kind !== 'sent') continue
    for (const [field, value] of Object.entries(expect)) {
      t.strictSame(translation.message[field as never], value, `${name}: ${field}`)
    }
  }
})

t.test('policies that ztunnel does not get', async t => {
  const dry = '{name: p, annotations: {istio.io/dry-run: "true"}}'
  t.equal(translate('{targetRefs: [{kind: Service, name: s}]}').kind, 'not-for-ztunnel')
  t.equal(translate('{targetRef: {kind: Gateway, name: s}}').kind, 'not-for-ztunnel')
  t.match(translate('{action: AUDIT}'), { kind: 'refused', message: /spec\.action.*AUDIT/ })
  t.match(translate('{action: CUSTOM}'), { kind: 'refused', message: /CUSTOM/ })
  t.match(translate('{action: DENY, rules: [{}]}', dry), { kind: 'refused', message: /dry-run/ })
  t.match(translate('{action: DENY, rules: [{}]}', dry, { sendDryRun: true }), {
    kind: 'sent',
    message: { dryRun: true }
  })
})

t.test('each attribute', async t => {
  const rows = [
    [
      'from: [{source: {principals: ["a", "b*", "*c", "*"]}}]',
      { principals: [{ exact: 'a' }, { prefix: 'b' }, { suffix: 'c' }, { presence: {} }] }
    ],
    ['from: [{source: {notPrincipals: ["*"]}}]', { notPrincipals: [{ presence: {} }] }],
    ['from: [{source: {namespaces: [a]}}]', { namespaces: [{ exact: 'a' }] }],
    ['from: [{source: {notNamespaces: [a]}}]', { notNamespaces: [{ exact: 'a' }] }],
    [
      'from: [{source: {serviceAccounts: [a, b/c]}}]',
      {
        serviceAccounts: [
          { namespace: 'shop', serviceAccount: 'a' },
          { namespace: 'b', serviceAccount: 'c' }
        ]
      }
    ],
    [
      'from: [{source: {notServiceAccounts: [a]}}]',
      { notServiceAccounts: [{ namespace: 'shop', serviceAccount: 'a' }] }
    ],
    [
      'from: [{source: {ipBlocks: [10.1.2.3/8, "2001:db8::1"]}}]',
      {
        sourceIps: [
          { address: '10.0.0.0', length: 8 },
          { address: '2001:db8::1', length: 128 }
        ]
      }
    ],
    [
      'from: [{source: {notIpBlocks: [192.0.2.1]}}]',
      { notSourceIps: [{ address: '192.0.2.1', length: 32 }] }
    ],
    [
      'to: [{operation: {ports: ["80"], notPorts: ["81"]}}]',
      { destinationPorts: [80], notDestinationPorts: [81] }
    ],
    [
      'when: [{key: source.ip, values: [192.0.2.1], notValues: [192.0.2.2]}]',
      {
        sourceIps: [{ address: '192.0.2.1', length: 32 }],
        notSourceIps: [{ address: '192.0.2.2', length: 32 }]
      }
    ],
    [
      'when: [{key: source.namespace, values: [a], notValues: [b]}]',
      { namespaces: [{ exact: 'a' }], notNamespaces: [{ exact: 'b' }] }
    ],
    [
      'when: [{key: source.principal, values: [a], notValues: [b]}]',
      { principals: [{ exact: 'a' }], notPrincipals: [{ exact: 'b' }] }
    ],
    [
      'when: [{key: destination.ip, values: [192.0.2.1], notValues: [192.0.2.2]}]',
      {
        destinationIps: [{ address: '192.0.2.1', length: 32 }],
        notDestinationIps: [{ address: '192.0.2.2', length: 32 }]
      }
    ],
    [
      'when: [{key: destination.port, values: ["1"], notValues: ["2"]}]',
      { destinationPorts: [1], notDestinationPorts: [2] }
    ]
  ] as const
  for (const [rule, match] of rows) {
    t.strictSame(rulesOf(translate(`{rules: [{${rule}}]}`)), [{ clauses: [{ matches: [match] }] }], rule)
  }
})

t.test('what is joined by AND and what by OR', async t => {
  const spec =
    '{rules: [{from: [{source: {namespaces: [a]}}, {source: {namespaces: [b]}}], to: [{operation: {ports: ["80"]}}], when: [{key: destination.port, values: ["1"]}, {key: source.namespace, values: [c]}]}, {to: [{operation: {ports: ["90"]}}]}]}'
  t.strictSame(rulesOf(translate(spec)), [
    {
      clauses: [
        { matches: [{ destinationPorts: [80] }] },
        { matches: [{ namespaces: [{ exact: 'a' }] }, { namespaces: [{ exact: 'b' }] }] },
        { matches: [{ destinationPorts: [1] }] },
        { matches: [{ namespaces: [{ exact: 'c' }] }] }
      ]
    },
    { clauses: [{ matches: [{ destinationPorts: [90] }] }] }
  ])
})

t.test('what cannot be enforced never opens anything', async t => {
  const fromA = { matches: [{ namespaces: [{ exact: 'a' }] }] }
  const port80 = { matches: [{ destinationPorts: [80] }] }
  const rows = [
    { action: 'ALLOW', rule: 'to: [{operation: {methods: [GET]}}]', expect: [], note: /methods.*left out/ },
    {
      action: 'ALLOW',
      rule: 'from: [{source: {namespaces: [a]}}], to: [{operation: {paths: [/x]}}]',
      expect: [],
      note: /paths/
    },
    {
      action: 'ALLOW',
      rule: 'from: [{source: {namespaces: [a], requestPrincipals: ["*"]}}]',
      expect: [],
      note: /requestPrincipals/
    },
    {
      action: 'ALLOW',
      rule: 'from: [{source: {namespaces: [a]}}], when: [{key: "request.headers[x]", values: [y]}]',
      expect: [],
      note: /request\.headers/
    },
    { action: 'ALLOW', rule: 'to: [{operation: {ports: ["80-90"]}}]', expect: [], note: /ports.*80-90/ },
    {
      action: 'ALLOW',
      rule: 'from: [{source: {namespaces: [a], notIpBlocks: ["10.0.0.0/40"]}}]',
      expect: [],
      note: /notIpBlocks/
    },
    {
      action: 'ALLOW',
      rule: 'from: [{source: {namespaces: [a], principals: [""]}}]',
      expect: [],
      note: /principals/
    },
    {
      action: 'DENY',
      rule: 'to: [{operation: {ports: ["80"], methods: [GET]}}]',
      expect: [{ clauses: [port80] }],
      note: /methods.*denies more/
    },
    {
      action: 'DENY',
      rule: 'from: [{source: {namespaces: [a]}}], to: [{operation: {methods: [GET]}}]',
      expect: [{ clauses: [fromA] }],
      note: /methods/
    },
    { action: 'DENY', rule: 'to: [{operation: {methods: [GET]}}]', expect: [{}], note: /methods/ },
    { action: 'DENY', rule: 'to: [{operation: {ports: ["80-90"]}}]', expect: [{}], note: /80-90/ },
    {
      action: 'DENY',
      rule: 'from: [{source: {namespaces: [a]}}], to: [{operation: {ports: ["80", "x"]}}]',
      expect: [{ clauses: [fromA] }],
      note: /"x"/
    },
    {
      action: 'DENY',
      rule: 'to: [{operation: {ports: ["80"]}}, {operation: {methods: [GET]}}]',
      expect: [{}],
      note: /to\[1\]\.operation\.methods/
    },
    {
      action: 'DENY',
      rule: 'from: [{source: {namespaces: [a]}}], to: [{operation: {}}]',
      expect: [{ clauses: [fromA] }],
      note: /to\[0\]\.operation \(empty\)/
    },
    {
      action: 'DENY',
      rule: 'from: [{source: {namespaces: []}}]',
      expect: [{}],
      note: /from\[0\]\.source \(empty\)/
    },
    { action: 'DENY', rule: 'when: [{key: source.ip}]', expect: [{}], note: /when\[0\] \(empty\)/ },
    { action: 'ALLOW', rule: 'from: [{source: {}}]', expect: [], note: /from\[0\]\.source \(empty\)/ },
    { action: 'ALLOW', rule: 'when: [{key: constructor, values: [x]}]', expect: [], note: /key constructor/ },
    {
      action: 'DENY',
      rule: 'from: [{source: {namespaces: [a]}}], when: [{key: x, values: [y]}]',
      expect: [{ clauses: [fromA] }],
      note: /key x/
    }
  ]
  for (const { action, rule, expect, note } of rows) {
    const translation = translate(`{action: ${action}, rules: [{${rule}}]}`)
    t.strictSame(rulesOf(translation), expect, `${action} ${rule}`)
    t.match(
      translation.kind === 'sent' ? translation.notes.join('; ') : '',
      note,
      'and the status names the field'
    )
  }
  const good = translate(
    '{rules: [{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {ports: ["80"]}}]}]}'
  )
  t.strictSame(rulesOf(good), [{ clauses: [port80] }], 'the other rules of the policy stay')
})

t.test('a policy that is no policy names the field', async t => {
  const rows = [
    ['{rules: x}', 'spec.rules'],
    ['{rules: [{from: [{source: {namespaces: [1]}}]}]}', 'spec.rules[0].from[0].source.namespaces[0]'],
    ['{action: allow}', 'spec.action'],
    ['{selector: {matchLabels: {a: 1}}}', 'spec.selector.matchLabels.a']
  ] as const
  for (const [spec, field] of rows) {
    const raw = parseYaml(`kind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: ${spec}\n`)
    t.match(readObject('AuthorizationPolicy', raw), { kind: 'problem', field }, spec)
  }
})
