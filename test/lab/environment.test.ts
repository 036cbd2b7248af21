import t from 'tap'
import { environmentOf, expand, MissingReference, podField, quantity } from '../../lab/environment.ts'
import type { EnvironmentVariable, LabPod } from '../../lab/kinds.ts'
import type { Service } from '../../shared/kube/core-api.ts'

const pod: LabPod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'web-1',
    namespace: 'shop',
    uid: 'u1',
    labels: { app: 'web' },
    annotations: { a: 'x "y"' }
  },
  spec: { nodeName: 'node1', serviceAccountName: 'web' }
}

const cart: Service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'cart-api', namespace: 'shop' },
  spec: { clusterIP: '10.96.1.1', ports: [{ name: 'http', port: 80 }] }
}

const sources = {
  configMap: (namespace: string, name: string) =>
    namespace === 'shop' && name === 'settings'
      ? { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { colour: 'blue', size: 'xl' } }
      : undefined,
  secret: (namespace: string, name: string) =>
    namespace === 'shop' && name === 'keys'
      ? {
          apiVersion: 'v1',
          kind: 'Secret',
          metadata: { name },
          data: { key: Buffer.from('s3').toString('base64') }
        }
      : undefined,
  services: (namespace: string) => (namespace === 'shop' ? [cart] : []),
  podIps: ['10.244.1.2', 'fd00:244:1::2'],
  hostIp: '10.50.0.11'
}

const values: readonly (readonly [
  claim: string,
  variable: EnvironmentVariable,
  value: string | undefined
])[] = [
  ['a plain value', { name: 'V', value: 'x' }, 'x'],
  [
    'a reference to a variable before it',
    { name: 'V', value: '$(HOSTNAME):$$(HOSTNAME):$(NOPE)' },
    'web-1:$(HOSTNAME):$(NOPE)'
  ],
  ['the name of the pod', { name: 'V', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }, 'web-1'],
  ['its node', { name: 'V', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }, 'node1'],
  ['its address', { name: 'V', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } }, '10.244.1.2'],
  ['one label', { name: 'V', valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } }, 'web'],
  [
    'a key of a ConfigMap',
    { name: 'V', valueFrom: { configMapKeyRef: { name: 'settings', key: 'colour' } } },
    'blue'
  ],
  [
    'a key of a Secret, decoded',
    { name: 'V', valueFrom: { secretKeyRef: { name: 'keys', key: 'key' } } },
    's3'
  ],
  [
    'an optional reference to nothing',
    { name: 'V', valueFrom: { configMapKeyRef: { name: 'gone', key: 'k', optional: true } } },
    undefined
  ],
  [
    'a limit in its divisor',
    { name: 'V', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } } },
    '64'
  ]
]

t.test('each kind of value arrives in the container', async t => {
  for (const [claim, variable, value] of values) {
    const container = { name: 'web', env: [variable], resources: { limits: { memory: '64Mi' } } }
    t.equal(environmentOf(pod, container, sources).get('V'), value, claim)
  }
})

t.test('Services of the namespace are in the environment, unless the pod declines', async t => {
  const environment = environmentOf(pod, { name: 'web' }, sources)
  t.equal(environment.get('CART_API_SERVICE_HOST'), '10.96.1.1')
  t.equal(environment.get('CART_API_PORT_80_TCP'), 'tcp://10.96.1.1:80')
  t.equal(environment.get('CART_API_SERVICE_PORT_HTTP'), '80')
  const declined = environmentOf({ ...pod, spec: { enableServiceLinks: false } }, { name: 'web' }, sources)
  t.notOk(declined.has('CART_API_SERVICE_HOST'))
})

t.test('all keys of a ConfigMap come with a prefix, and later ones win', async t => {
  const container = {
    name: 'web',
    envFrom: [{ prefix: 'S_', configMapRef: { name: 'settings' } }],
    env: [{ name: 'S_size', value: 'm' }]
  }
  const environment = environmentOf(pod, container, sources)
  t.equal(environment.get('S_colour'), 'blue')
  t.equal(environment.get('S_size'), 'm')
})

t.test('a reference to nothing keeps the container waiting and says to what', async t => {
  const container = {
    name: 'web',
    env: [{ name: 'V', valueFrom: { configMapKeyRef: { name: 'settings', key: 'nope' } } }]
  }
  t.throws(
    () => environmentOf(pod, container, sources),
    new MissingReference('ConfigMap settings has no key nope')
  )
})

t.test('annotations are written line by line, quoted', async t => {
  t.equal(podField(pod, 'metadata.annotations', sources), String.raw`a="x \"y\""`)
  t.equal(podField(pod, 'spec.nothing', sources), undefined)
})

t.test('quantities and references are read as Kubernetes writes them', async t => {
  t.equal(quantity('250m'), 0.25)
  t.equal(quantity('2Gi'), 2 * 2 ** 30)
  t.equal(expand('$(A)$(B)', new Map([['A', '$(B)']])), '$(B)$(B)')
})
