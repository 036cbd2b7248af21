/** Our clients at Istio's own control plane: the mesh that it sends, on demand too, through its restart, and certificates. */
import t, { type Test } from 'tap'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { CaClient } from '../../shared/identity/ca-client.ts'
import { spiffeId, type SpiffeId } from '../../shared/identity/spiffe-id.ts'
import { decideRoute } from '../../shared/mesh/route.ts'
import { ip } from '../../shared/net/address.ts'
import { evaluate } from '../../shared/policy/evaluate.ts'
import type { ControlPlaneTarget } from '../../shared/xds/grpc-client.ts'
import { eventually } from '../support/eventually.ts'
import { ADDRESS, followMesh } from '../support/follow-mesh.ts'
import { closedPort } from '../support/fake-control-plane.ts'
import { needsKubeApiserver, startKubeApiserver, type KubeApiserver } from '../support/kube-apiserver.ts'

const peers = process.env['UNDERPASS_PEERS'] ?? ''
const cluster = process.env['UNDERPASS_CLUSTER'] ?? ''
const signal = new AbortController().signal

function needsIstiod(): string | false {
  const reason = needsKubeApiserver()
  if (reason !== false) return reason
  if (!existsSync(path.join(peers, 'pilot-discovery'))) return 'needs pilot-discovery in UNDERPASS_PEERS'
  if (!existsSync(path.join(cluster, 'crds.yaml.xz'))) return 'needs crds.yaml.xz in UNDERPASS_CLUSTER'
  return false
}

const pod = (namespace: string, name: string, account: string, node: string): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    namespace,
    name,
    labels: { app: name },
    annotations: { 'ambient.istio.io/redirection': 'enabled' }
  },
  spec: { nodeName: node, serviceAccountName: account, containers: [{ name: 'c', image: 'x' }] }
})

const objects = [
  ...['istio-system', 'shop'].map(name => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, ...(name === 'shop' && { labels: { 'istio.io/dataplane-mode': 'ambient' } }) }
  })),
  ...['n1', 'n2'].map(name => ({ apiVersion: 'v1', kind: 'Node', metadata: { name } })),
  ...[
    ['istio-system', 'ztunnel'],
    ['shop', 'web'],
    ['shop', 'far']
  ].map(([namespace, name]) => ({
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { namespace, name }
  })),
  pod('istio-system', 'ztunnel-1', 'ztunnel', 'n1'),
  pod('shop', 'web', 'web', 'n1'),
  pod('shop', 'far', 'far', 'n2'),
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name: 'web' },
    spec: { clusterIP: '10.96.0.80', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] }
  },
  {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { namespace: 'shop', name: 'no-9999' },
    spec: { action: 'DENY', rules: [{ to: [{ operation: { ports: ['9999'] } }] }] }
  }
]

t.test('our clients at istiod', { skip: needsIstiod() }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-istiod-client-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const api = await startKubeApiserver(t)
  run('sh', [
    '-c',
    `xz -dc "${cluster}/crds.yaml.xz" | "${api.kubectl}" --kubeconfig "${api.kubeconfig}" apply --server-side -f -`
  ])
  const manifest = path.join(folder, 'objects.json')
  writeFileSync(manifest, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }))
  kubectl(api, 'apply', '-f', manifest)
  setPodIp(api, 'web', '10.10.0.1')
  setPodIp(api, 'far', '10.10.0.2')
  const port = await closedPort()
  let istiod = await startIstiod(t, api, folder, port)
  let roots = ''
  await eventually('istiod publishes its root', () => {
    roots = kubectl(
      api,
      '-n',
      'shop',
      'get',
      'cm',
      'istio-ca-root-cert',
      '-o',
      'jsonpath={.data.root-cert\\.pem}'
    )
    return roots.includes('BEGIN CERTIFICATE')
  })
  const token = kubectl(
    api,
    '-n',
    'istio-system',
    'create',
    'token',
    'ztunnel',
    '--audience',
    'istio-ca',
    '--bound-object-kind',
    'Pod',
    '--bound-object-name',
    'ztunnel-1'
  ).trim()
  const target: ControlPlaneTarget = {
    address: `https://localhost:${port}`,
    roots,
    altHostname: undefined,
    token,
    clusterId: 'Kubernetes',
    headers: []
  }

  const mesh = followMesh(t, target, { name: 'ztunnel-1', node: 'n1' }, 'wildcard')
  await t.test('everything is understood', async t => {
    await mesh.client.synced
    const view = mesh.store.view()
    t.match(mesh.client.state().types, [
      { synced: true, lastRejection: undefined },
      { synced: true, lastRejection: undefined }
    ])
    t.match(view.workloadByAddress('', ip('10.10.0.1')), {
      uid: 'Kubernetes//Pod/shop/web',
      serviceAccount: 'web',
      node: 'n1',
      protocol: 'HBONE',
      trustDomain: 'cluster.local'
    })
    const source = view.workloadByName('shop', 'far', 'far')
    if (source === undefined) throw new Error('the workload far is not known')
    const context = { network: '', source, sourceIp: ip('10.10.0.2'), random: () => 0 }
    t.match(decideRoute(view, context, { ip: ip('10.96.0.80'), port: 80 }), {
      kind: 'hbone',
      authority: '10.10.0.1:8080',
      hop: { expected: ['spiffe://cluster.local/ns/shop/sa/web'] },
      service: { name: 'web' }
    })
    const web = view.workloadByName('shop', 'web', 'web')
    const verdict = (port: number): string =>
      evaluate(web === undefined ? [] : view.policiesOf(web), {
        sourceIp: ip('10.10.0.2'),
        identity: undefined,
        destinationIp: ip('10.10.0.1'),
        destinationPort: port
      }).reason
    t.equal(verdict(9999), 'explicitly denied by: shop/no-9999')
    t.equal(verdict(8080), 'no allow policies')
  })

  await t.test('names are answered on demand, and so is that there is nothing', async t => {
    const { client, store } = followMesh(t, target, { name: 'ztunnel-1', node: 'n1' }, 'on-demand')
    await client.synced
    t.equal(store.view().workloadByAddress('', ip('10.10.0.1')), undefined)
    await client.subscribe(ADDRESS, '/10.10.0.1')
    t.equal(store.view().workloadByAddress('', ip('10.10.0.1'))?.name, 'web')
    await client.subscribe(ADDRESS, '/10.99.99.99')
    t.equal([...store.view().workloads()].length, 1)
  })

  await t.test('certificates: for a pod of the token’s node, and for nobody else', async t => {
    const client = new CaClient({ target, ttlSeconds: 3600, impersonate: true })
    t.teardown(() => client.close())
    const identity = (serviceAccount: string): SpiffeId =>
      spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount })
    const certificate = await client.fetch(identity('web'), signal)
    t.equal(certificate.identity, identity('web'))
    t.ok(
      roots.includes((certificate.rootsPem[0] ?? '').trim().slice(30, 200)),
      'below the root that istiod publishes'
    )
    await t.rejects(client.fetch(identity('far'), signal), /UNAUTHENTICATED/, 'its pod is on another node')
    const forged = new CaClient({
      target: { ...target, token: 'forged' },
      ttlSeconds: 3600,
      impersonate: true
    })
    t.teardown(() => forged.close())
    await t.rejects(forged.fetch(identity('web'), signal), /UNAUTHENTICATED/)
  })

  await t.test('what changed while istiod was away is known after it came back', async t => {
    await end(istiod)
    await eventually('the client notices', () => !mesh.client.state().connected)
    t.equal(mesh.store.view().workloadByAddress('', ip('10.10.0.2'))?.name, 'far', 'what was known stays')
    kubectl(api, '-n', 'shop', 'delete', 'pod', 'far', '--force', '--grace-period=0')
    const known = mesh.responses.length
    istiod = await startIstiod(t, api, folder, port)
    await eventually(
      'the removal arrives',
      () => mesh.store.view().workloadByAddress('', ip('10.10.0.2')) === undefined
    )
    t.equal(mesh.store.view().workloadByAddress('', ip('10.10.0.1'))?.name, 'web')
    // Policies it sends again, changed or not; there are few.
    const told = mesh.responses.slice(known).filter(({ typeUrl }) => typeUrl === ADDRESS)
    t.strictSame(
      told.flatMap(({ resources }) => resources.map(({ name }) => name)),
      [],
      'what is known is not sent again'
    )
    t.strictSame(
      told.flatMap(({ removed }) => removed),
      ['Kubernetes//Pod/shop/far']
    )
  })
})

async function startIstiod(t: Test, api: KubeApiserver, folder: string, port: number): Promise<ChildProcess> {
  const http = await closedPort()
  const meshConfig = path.join(folder, 'mesh.yaml')
  writeFileSync(meshConfig, 'rootNamespace: istio-system\ntrustDomain: cluster.local\n')
  const child = spawn(
    path.join(peers, 'pilot-discovery'),
    [
      ...[
        'discovery',
        '--kubeconfig',
        api.kubeconfig,
        '--meshConfig',
        meshConfig,
        '--domain',
        'cluster.local'
      ],
      ...['--httpAddr', `127.0.0.1:${http}`, '--secureGRPCAddr', `127.0.0.1:${port}`],
      ...['--grpcAddr', '127.0.0.1:0', '--httpsAddr', '', '--monitoringAddr', '127.0.0.1:0']
    ],
    {
      cwd: folder,
      stdio: 'ignore',
      env: {
        PATH: process.env['PATH'],
        REVISION: 'default',
        POD_NAMESPACE: 'istio-system',
        POD_NAME: 'istiod-0',
        SERVICE_ACCOUNT: 'istiod',
        PILOT_ENABLE_AMBIENT: 'true',
        PILOT_ENABLE_IP_AUTOALLOCATE: 'false',
        CA_TRUSTED_NODE_ACCOUNTS: 'istio-system/ztunnel',
        CLUSTER_ID: 'Kubernetes',
        ISTIOD_CUSTOM_HOST: 'localhost',
        INJECTION_WEBHOOK_CONFIG_NAME: '',
        VALIDATION_WEBHOOK_CONFIG_NAME: '',
        PILOT_CERT_PROVIDER: 'istiod',
        ENABLE_LEADER_ELECTION: 'false'
      }
    }
  )
  t.teardown(() => end(child))
  await eventually('istiod is ready', async () => {
    if (child.exitCode !== null) throw new Error(`pilot-discovery ended with ${child.exitCode}`)
    return (await fetch(`http://127.0.0.1:${http}/ready`)).ok
  })
  return child
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

function setPodIp(api: KubeApiserver, name: string, address: string): void {
  const status = {
    phase: 'Running',
    podIP: address,
    podIPs: [{ ip: address }],
    conditions: [{ type: 'Ready', status: 'True' }]
  }
  kubectl(
    api,
    '-n',
    'shop',
    'patch',
    'pod',
    name,
    '--subresource=status',
    '--type=merge',
    '-p',
    JSON.stringify({ status })
  )
}

function kubectl(api: KubeApiserver, ...args: string[]): string {
  return run(api.kubectl, ['--kubeconfig', api.kubeconfig, ...args])
}

function run(program: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${path.basename(program)} ${args.join(' ')}: ${stderr}`)
  return stdout
}
