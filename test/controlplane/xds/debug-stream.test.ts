import t from 'tap'
import type { Caller } from '../../../controlplane/access/token.ts'
import { debugStream, type DebugStreamOptions } from '../../../controlplane/xds/debug-stream.ts'
import type { ClientStatus } from '../../../controlplane/xds/server.ts'
import { addressType, authorizationType } from '../../../controlplane/desired/snapshot.ts'
import { message } from '../../../shared/xds/schema.ts'

interface Answer {
  readonly typeUrl?: string
  readonly nonce: string
  readonly resources: readonly { readonly type_url: string; readonly value: Buffer }[]
  readonly controlPlane?: { readonly identifier: string }
}

const request = message('envoy.service.discovery.v3.DiscoveryRequest')
const response = message<Answer>('envoy.service.discovery.v3.DiscoveryResponse')
const clientConfig = message('envoy.service.status.v3.ClientConfig')
const nodeMessage = message('envoy.service.discovery.v3.Node')

const sentAt = Date.UTC(2026, 0, 1)
const ztunnel = (pod: string, namespace = 'istio-system'): NonNullable<ClientStatus['node']> => ({
  id: `ztunnel~10.0.0.1~${pod}.${namespace}~${namespace}.svc.cluster.local`,
  type: 'ztunnel',
  pod,
  namespace,
  serviceAccount: 'ztunnel',
  nodeName: 'n1',
  clusterId: 'Kubernetes',
  version: '1.2.3'
})
const type = (
  typeUrl: string,
  more: Partial<ClientStatus['types'][number]> = {}
): ClientStatus['types'][number] => ({
  typeUrl,
  wildcard: true,
  sent: '2',
  acked: '2',
  rejected: undefined,
  sentAt,
  ...more
})
const clients: readonly ClientStatus[] = [
  {
    node: ztunnel('ztunnel-1'),
    remote: '10.0.0.1:1',
    connectedAt: 0,
    types: [type(addressType, { acked: '1' }), type(authorizationType, { rejected: 'shop/bad: no' })]
  },
  {
    node: ztunnel('waypoint-1', 'shop'),
    remote: '10.0.0.2:1',
    connectedAt: 0,
    types: [type(addressType), type(authorizationType, { sent: '', acked: '', sentAt: 0 })]
  },
  { node: undefined, remote: '10.0.0.3:1', connectedAt: 0, types: [] }
]

const operator: Caller = { namespace: 'istio-system', serviceAccount: 'default', podName: '', podUid: '' }
const outsider: Caller = { namespace: 'shop', serviceAccount: 'web', podName: '', podUid: '' }
const node = (caller: Caller | undefined): object => ({
  id: `sidecar~10.9.9.9~x.${caller?.namespace ?? 'shop'}~${caller?.namespace ?? 'shop'}.svc.cluster.local`
})

function open(caller: Caller | undefined, more: Partial<DebugStreamOptions> = {}) {
  const answers: Answer[] = []
  let closed = ''
  const stream = debugStream(
    {
      clients: () => clients,
      page: name => (name === 'syncz?namespace=shop' ? '["page"]' : undefined),
      systemNamespace: 'istio-system',
      authenticate: true,
      podName: 'istiod-abc',
      version: '0.9.0',
      ...more
    },
    {
      remote: 'test',
      caller,
      send: bytes => answers.push(response.decode(bytes)),
      close: (status, reason) => (closed = `${status} ${reason}`)
    }
  )
  const ask = (typeUrl: string, resourceNames: readonly string[] = [], extra: object = {}): void =>
    stream.request(request.encode({ node: node(caller), typeUrl, resourceNames, ...extra }))
  return { stream, ask, answers, closed: () => closed }
}

t.test('proxy-status hears of each client what it was sent and what it took', async t => {
  const { ask, answers } = open(operator)
  ask('istio.io/debug/syncz', [], { responseNonce: '2026-01-01 of the clock of istioctl' })
  const [answer] = answers
  t.equal(answers.length, 1)
  t.strictSame(JSON.parse(answer?.controlPlane?.identifier ?? ''), {
    Component: 'istiod',
    ID: 'istiod-abc',
    Info: { version: '0.9.0', revision: '', golang_version: '', status: 'Clean', tag: '0.9.0' }
  })
  const [first, second, ...others] = (answer?.resources ?? []).map(({ type_url, value }) => {
    t.equal(type_url, 'type.googleapis.com/envoy.service.status.v3.ClientConfig')
    return clientConfig.decode(value)
  })
  t.strictSame(others, [], 'who has not said its name is no proxy yet')
  const [stale, error, synced, unsent] = [3, 4, 1, 2]
  const seconds = sentAt / 1000
  t.match(first, {
    node: {
      id: 'ztunnel-1.istio-system',
      metadata: {
        fields: {
          CLUSTER_ID: { stringValue: 'Kubernetes' },
          NAMESPACE: { stringValue: 'istio-system' },
          ISTIO_VERSION: { stringValue: '1.2.3' }
        }
      }
    },
    genericXdsConfigs: [
      { typeUrl: authorizationType, configStatus: error, errorState: { details: 'shop/bad: no' } },
      { typeUrl: addressType, configStatus: stale, lastUpdated: { seconds } }
    ]
  })
  t.match(second, {
    node: { id: 'waypoint-1.shop' },
    genericXdsConfigs: [{ configStatus: unsent }, { configStatus: synced }]
  })
})

t.test('older versions of istioctl hear who is connected', async t => {
  const { ask, answers } = open(operator)
  ask('istio.io/connections')
  const [first] = answers[0]?.resources ?? []
  t.equal(first?.type_url, 'type.googleapis.com/envoy.config.core.v3.Node')
  t.match(nodeMessage.decode(first?.value ?? Buffer.alloc(0)), { id: clients[0]?.node?.id })
  t.match(answers[0]?.controlPlane?.identifier, /"version":"0.9.0"/)
})

t.test('a page of /debug comes as it is over HTTP', async t => {
  const { ask, answers } = open(operator)
  ask('istio.io/debug', ['syncz?namespace=shop'])
  t.match(answers, [{ typeUrl: 'istio.io/debug', resources: [{ type_url: 'istio.io/debug' }] }])
  t.equal(answers[0]?.resources[0]?.value.toString(), '["page"]')
})

t.test('an account of another namespace hears of its own proxies only', async t => {
  const { ask, answers } = open(outsider)
  ask('istio.io/debug/syncz')
  t.strictSame(
    answers[0]?.resources.map(
      ({ value }) => (clientConfig.decode(value) as { node: { id: string } }).node.id
    ),
    ['waypoint-1.shop']
  )
})

const refusals: readonly {
  readonly name: string
  readonly caller: Caller | undefined
  readonly type: string
  readonly names?: readonly string[]
  readonly more?: object
  readonly expect: RegExp
}[] = [
  { name: 'nobody', caller: undefined, type: 'istio.io/debug/syncz', expect: /^UNAUTHENTICATED / },
  {
    name: 'an outsider who wants a page',
    caller: outsider,
    type: 'istio.io/debug',
    names: ['syncz'],
    expect: /^PERMISSION_DENIED only accounts of namespace istio-system/
  },
  {
    name: 'a page that there is not',
    caller: operator,
    type: 'istio.io/debug',
    names: ['nothing'],
    expect: /^INVALID_ARGUMENT there is no debug page nothing/
  },
  {
    name: 'no page',
    caller: operator,
    type: 'istio.io/debug',
    expect: /^INVALID_ARGUMENT .*one resource name/
  },
  {
    name: 'two pages',
    caller: operator,
    type: 'istio.io/debug',
    names: ['syncz', 'adsz'],
    expect: /^INVALID_ARGUMENT .*one resource name/
  },
  {
    name: 'the mesh',
    caller: operator,
    type: addressType,
    expect: /^INVALID_ARGUMENT .*use DeltaAggregatedResources/
  },
  {
    name: 'a node of somebody else',
    caller: operator,
    type: 'istio.io/debug/syncz',
    more: { node: node(outsider) },
    expect: /^PERMISSION_DENIED .*namespace shop/
  },
  {
    name: 'no node',
    caller: operator,
    type: 'istio.io/debug/syncz',
    more: { node: {} },
    expect: /^INVALID_ARGUMENT .*node with an id/
  }
]
for (const { name, caller, type, names, more, expect } of refusals) {
  t.test(`refused with its reason: ${name}`, async t => {
    const { ask, answers, closed } = open(caller)
    ask(type, names, more)
    t.strictSame(answers, [])
    t.match(closed(), expect)
    ask('istio.io/debug/syncz')
    t.strictSame(answers, [], 'and nothing after it')
  })
}

t.test('bytes that are no request end the stream', async t => {
  const { stream, closed } = open(operator)
  stream.request(Buffer.from([0xff, 0xff]))
  t.match(closed(), /^INVALID_ARGUMENT .*no DiscoveryRequest/)
})

t.test('an acknowledgement is not answered, and answers are counted', async t => {
  const { ask, answers, closed } = open(undefined, { authenticate: false })
  ask('istio.io/debug/syncz')
  ask('istio.io/debug/syncz', [], { responseNonce: answers[0]?.nonce })
  t.equal(answers.length, 1)
  for (let count = 0; count < 20; count += 1) ask('istio.io/debug/syncz')
  t.equal(answers.length, 16, 'a client that does not read cannot fill the memory')
  t.match(closed(), /^INVALID_ARGUMENT 16 answers/)
})
