/** What `underpass upgrade --plan` says of versions, definitions and connections. */
import t from 'tap'
import type { ConfigMap } from '../../shared/kube/core-api.ts'
import { publishedDefinitions } from '../../shared/kube/definitions.ts'
import { clientVersion } from '../../cli/commands/version.ts'
import { fakeCluster, ztunnelPod } from './fake-cluster.ts'
import { cells, run, type Ran } from './run-cli.ts'

const connection = {
  direction: 'outbound',
  src: '10.0.1.2:40000',
  originalDst: '10.0.2.2:5432',
  actualDst: '10.0.2.2:15008',
  protocol: 'HBONE',
  bytesFromClient: 1000,
  bytesToClient: 24,
  ageMs: 45_500
}
const inbound = { ...connection, direction: 'inbound', originalDst: null, actualDst: '10.0.2.2:5432' }
const pod = (uid: string, name: string): object => ({
  uid,
  state: 'Up',
  info: { namespace: 'shop', name, serviceAccount: name }
})
const answers = (version: string, ...connections: object[]): Record<string, unknown> => ({
  'GET /v1/version': { version },
  'GET /v1/pods': [pod('uid-web', 'web')],
  'GET /v1/connections': [{ uid: 'uid-web', connections }]
})

t.test('it names the connections that would be cut, the oldest first', async t => {
  const { code, out, err } = await plan(t, clientVersion(), [])
  t.equal(code, 0, err)
  t.match(out, new RegExp(`^${clientVersion()} -> ${clientVersion()}\\n`))
  t.match(out, /definitions: 1 would be created, 1 are older than ours and would stay/)
  t.match(out, /\+ sidecars\.networking\.istio\.io/)
  t.match(out, /! gateways\.gateway\.networking\.k8s\.io is of version v1\.4\.0/)
  const [, nodes = '', , cut = ''] = out.split('\n\n')
  t.strictSame(cells(nodes), [
    ['NODE', 'ZTUNNEL', 'VERSION', 'CONNECTIONS', 'LONG'],
    ['node-1', 'ztunnel-node-1', '0.0.9', '2', '1'],
    ['node-2', 'ztunnel-node-2', '0.1.0', '1', '1']
  ])
  t.strictSame(cells(cut).slice(1), [
    ['node-2', 'shop/web', 'inbound', '10.0.1.2:40000', '10.0.2.2:5432', 'HBONE', '3h', '1024'],
    ['node-1', 'shop/web', 'outbound', '10.0.1.2:40000', '10.0.2.2:5432', 'HBONE', '45s', '1024']
  ])
})

t.test('how old is long can be chosen', async t => {
  const { out } = await plan(t, clientVersion(), ['--older-than', '4h'])
  t.match(out, /no connection is older than 4h/)
  const json = await plan(t, clientVersion(), ['--older-than', '1m', '-o', 'json'])
  t.match(JSON.parse(json.out), {
    kind: 'UpgradePlan',
    refused: null,
    olderThanSeconds: 60,
    cut: [{ node: 'node-2', pod: 'shop/web', ageSeconds: 10_800, bytes: 1024 }]
  })
  const wrong = await plan(t, clientVersion(), ['--older-than', 'long'])
  t.equal(wrong.code, 1)
  t.match(wrong.err, /--older-than "long": expected a duration/)
})

t.test('a step that is too far is said, and exits with 2', async t => {
  const { code, out } = await plan(t, '9.9.9', [])
  t.equal(code, 2)
  t.match(out, /refused: .*more than one minor version/)
})

async function plan(t: Parameters<typeof fakeCluster>[0], version: string, words: string[]): Promise<Ran> {
  const definitions = publishedDefinitions()
    .filter(({ metadata }) => metadata.name !== 'sidecars.networking.istio.io')
    .map(definition =>
      definition.metadata.name === 'gateways.gateway.networking.k8s.io'
        ? {
            ...definition,
            metadata: {
              ...definition.metadata,
              annotations: { 'gateway.networking.k8s.io/bundle-version': 'v1.4.0' }
            }
          }
        : definition
    )
  const installation: ConfigMap = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'underpass-installation', namespace: 'istio-system' },
    data: { version, settings: '{}', parts: 'ztunnel' }
  }
  const cluster = await fakeCluster(t, {
    pods: [
      ztunnelPod('node-1', answers('0.0.9', connection, { ...connection, ageMs: 29_999 })),
      ztunnelPod('node-2', answers('0.1.0', { ...inbound, ageMs: 10_800_000 }))
    ],
    objects: { configmaps: [installation], customresourcedefinitions: definitions }
  })
  return run(['upgrade', '--plan', ...words], { env: { KUBECONFIG: cluster.kubeconfig } })
}
