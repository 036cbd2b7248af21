/**
 * Two replicas as programs of their own at a real API server, with no more rights than the manifest gives
 * them: what is written, who writes, and what happens when the one that writes is killed or cut off.
 */
import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { leaseName, leases } from '../../controlplane/write/leader.ts'
import { deployments } from '../../shared/kube/apps-api.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import { customResourceDefinitions, publishedDefinitions } from '../../shared/kube/definitions.ts'
import { gatewayClasses, gateways, type Gateway } from '../../shared/kube/gateway-api.ts'
import * as istioApi from '../../shared/kube/istio-api.ts'
import { namedType, type Condition, type KubeObject, type ResourceType } from '../../shared/kube/object.ts'
import { parseAllYaml } from '../../shared/kube/yaml.ts'
import { eventually } from '../support/eventually.ts'
import { needsKubeApiserver, startKubeApiserver, type KubeApiserver } from '../support/kube-apiserver.ts'

t.setTimeout(240_000)

const root = path.dirname(path.dirname(import.meta.dirname))
const rbac = 'rbac.authorization.k8s.io'
const rights: readonly ResourceType[] = [
  coreApi.serviceAccounts,
  { ...namedType(rbac, 'v1', 'ClusterRole'), namespaced: false },
  { ...namedType(rbac, 'v1', 'ClusterRoleBinding'), namespaced: false },
  namedType(rbac, 'v1', 'Role'),
  namedType(rbac, 'v1', 'RoleBinding')
]

t.test('two replicas', { skip: needsKubeApiserver() }, async t => {
  const api = await startKubeApiserver(t)
  const client = new KubeClient(await loadKubeConfig({ kubeconfig: api.kubeconfig }))
  t.teardown(() => client.close())
  for (const definition of publishedDefinitions()) await client.create(customResourceDefinitions, definition)
  for (const name of ['istio-system', 'shop']) await makeNamespace(client, name)
  await grantRights(client)
  const line = await switchedLine(t, Number(new URL(api.server).port))
  const kubeconfig = await kubeconfigOf(t, api, client, line.port)
  const replicas = [startReplica(t, 'one', kubeconfig), startReplica(t, 'two', kubeconfig)]
  const holder = async (): Promise<string> =>
    (await client.find(leases, { namespace: 'istio-system', name: leaseName }))?.spec?.holderIdentity ?? ''
  const leading = async (): Promise<Replica | undefined> => {
    const name = (await holder()).split('_')[0]
    return replicas.find(each => each.name === name)
  }
  await eventually('one leads', async () => (await leading()) !== undefined)
  const rootsIn = async (namespace: string): Promise<string> => {
    const found = await client.find(coreApi.configMaps, { namespace, name: 'istio-ca-root-cert' })
    return found?.data?.['root-cert.pem'] ?? ''
  }

  await t.test('every namespace gets the roots, and gets them again', async t => {
    await eventually('roots in shop', async () => (await rootsIn('shop')) !== '')
    const roots = await rootsIn('shop')
    const ref = { namespace: 'shop', name: 'istio-ca-root-cert' }
    await client.patch(coreApi.configMaps, ref, { data: { 'root-cert.pem': 'other' } }, { kind: 'merge' })
    await eventually('what was changed is put right', async () => (await rootsIn('shop')) === roots)
    await client.delete(coreApi.configMaps, ref)
    await eventually('what was deleted is made again', async () => (await rootsIn('shop')) === roots)
    t.equal(await rootsIn('kube-system'), roots)
    t.equal(await rootsIn('kube-public'), '')
  })

  await t.test('a status keeps what others write into it at the same time', async t => {
    const ref = { namespace: 'shop', name: 'mine' }
    await makePolicy(client, 'mine')
    for (let round = 0; round < 20; round++) {
      await addCondition(client, ref, { type: 'example.com/Other', status: 'True', message: String(round) })
    }
    await eventually('our condition is there', async () => (await conditionOf(client, ref)) === 'True')
    const { status } = await client.get(istioApi.authorizationPolicies, ref)
    t.match(
      status?.conditions?.find(({ type }) => type === 'example.com/Other'),
      { message: '19' },
      'and theirs is as they wrote it last'
    )
  })

  await t.test('hosts of ServiceEntries get addresses', async t => {
    await makeEntry(client, 'a')
    await eventually('two addresses', async () => (await addressesOf(client, 'a')).length === 2)
    const given = await addressesOf(client, 'a')
    t.match(given[0], /^240\.240\./)
    await client.delete(istioApi.serviceEntries, { namespace: 'shop', name: 'a' })
    await makeEntry(client, 'a')
    await eventually('the same again', async () => String(await addressesOf(client, 'a')) === String(given))
  })

  await t.test('a Gateway of our class gets what runs a waypoint', async t => {
    const ref = { namespace: 'shop', name: 'waypoint' }
    const gateway = await makeGateway(client, 'waypoint')
    await eventually('a status', async () => (await programmed(client, ref)) !== undefined)
    const found = await client.get(gateways, ref)
    t.equal(await programmed(client, ref), 'False', 'nothing runs yet, and the status says so')
    t.same(found.status?.addresses ?? [], [])
    t.match(found.status?.conditions, [{ type: 'Accepted', status: 'True' }])
    for (const type of [deployments, coreApi.services, coreApi.serviceAccounts] as readonly ResourceType[]) {
      const { metadata } = await client.get(type, ref)
      t.match(metadata.labels, {
        'gateway.networking.k8s.io/gateway-name': 'waypoint',
        'gateway.networking.k8s.io/gateway-class-name': 'underpass-waypoint',
        'gateway.istio.io/managed': 'istio.io-mesh-controller'
      })
      t.match(
        metadata.ownerReferences,
        [{ kind: 'Gateway', name: 'waypoint', uid: gateway.metadata.uid }],
        'it goes with its Gateway'
      )
    }
    const conditions = [{ type: 'Available', status: 'True' }]
    await client.patch(deployments, ref, { status: { conditions } }, { kind: 'merge', subresource: 'status' })
    await eventually('it is programmed', async () => (await programmed(client, ref)) === 'True')
    t.match((await client.get(gateways, ref)).status?.addresses, [
      { type: 'Hostname', value: 'waypoint.shop.svc.cluster.local' }
    ])
    t.match((await client.get(gatewayClasses, { name: 'underpass-waypoint' })).spec, {
      controllerName: 'underpass.dev/waypoint-controller'
    })
  })

  await t.test('a Deployment that somebody else made is left alone', async t => {
    const ref = { namespace: 'shop', name: 'foreign' }
    const labels = { app: 'foreign' }
    await client.create(deployments, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: ref,
      spec: {
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'x' }] } }
      }
    })
    await makeGateway(client, 'foreign')
    await eventually('a status', async () => (await programmed(client, ref)) === 'False')
    t.equal((await client.get(deployments, ref)).metadata.labels, undefined)
    t.equal(await client.find(coreApi.services, ref), undefined)
  })

  await t.test('what changes while the API server cannot be reached is known afterwards', async t => {
    line.cut()
    await makePolicy(client, 'meanwhile')
    await client.delete(istioApi.serviceEntries, { namespace: 'shop', name: 'a' })
    await makeNamespace(client, 'late')
    line.mend()
    await eventually(
      'the policy has a status',
      async () => (await conditionOf(client, { namespace: 'shop', name: 'meanwhile' })) === 'True'
    )
    await eventually('the namespace has the roots', async () => (await rootsIn('late')) !== '')
    t.ok(replicas.every(each => each.running()))
  })

  await t.test('when the one that writes is killed, the other goes on', async t => {
    let first: Replica | undefined
    await eventually('one leads', async () => (first = await leading()) !== undefined)
    const roots = await rootsIn('shop')
    first?.kill()
    await makePolicy(client, 'after')
    await makeNamespace(client, 'after')
    await makeEntry(client, 'after')
    await eventually('the other leads', async () => (await leading())?.running() === true)
    await eventually(
      'statuses',
      async () => (await conditionOf(client, { namespace: 'shop', name: 'after' })) === 'True'
    )
    await eventually('roots', async () => (await rootsIn('after')) === roots)
    await eventually('addresses', async () => (await addressesOf(client, 'after')).length === 2)
    t.not((await leading())?.name, first?.name)
  })

  await t.test('the rights of the manifest were enough, and no write met another', async t => {
    for (const replica of replicas) {
      const said = replica.output()
      t.notMatch(said, /forbidden|permission is missing/i, `${replica.name} was refused nothing`)
      const failed = /writing .* failed|allocating .* failed|running a waypoint failed/
      t.notMatch(said, failed, `${replica.name} wrote in peace`)
    }
  })
})

interface Replica {
  readonly name: string
  running(): boolean
  output(): string
  kill(): void
}

function startReplica(t: Test, name: string, kubeconfig: string): Replica {
  const child = spawn(process.execPath, [path.join(root, 'controlplane/main.ts')], {
    env: {
      PATH: process.env['PATH'],
      KUBECONFIG: kubeconfig,
      POD_NAME: name,
      UNDERPASS_LISTEN: '127.0.0.1',
      UNDERPASS_XDS_PORT: '0',
      UNDERPASS_MONITORING_PORT: '0',
      UNDERPASS_READY_PORT: '0',
      UNDERPASS_WEBHOOK_PORT: '0',
      ROOT_CA_DIR: path.join(path.dirname(kubeconfig), 'none')
    },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => lines.push(text))
  }
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return {
    name,
    running: () => child.exitCode === null && child.signalCode === null,
    output: () => lines.join(''),
    kill: () => void child.kill('SIGKILL')
  }
}

/** What carries the replicas' connections to the API server, and can stop doing so. */
async function switchedLine(t: Test, to: number): Promise<{ port: number; cut(): void; mend(): void }> {
  const open = new Set<net.Socket>()
  let whole = true
  const server = net.createServer(socket => {
    if (!whole) {
      socket.destroy()
      return
    }
    const upstream = net.connect(to, '127.0.0.1')
    for (const [one, other] of [
      [socket, upstream],
      [upstream, socket]
    ] as const) {
      open.add(one)
      one.on('error', () => other.destroy()) // its end is what the other side sees
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const cut = (): void => {
    whole = false
    for (const socket of open) socket.destroy()
  }
  t.teardown(() => {
    cut()
    server.close()
  })
  return { port: (server.address() as net.AddressInfo).port, cut, mend: () => void (whole = true) }
}

/** Accounts and roles of the control plane, as the manifest has them. */
async function grantRights(client: KubeClient): Promise<void> {
  const manifest = readFileSync(path.join(root, 'daemonset/manifests/underpass.yaml'), 'utf8')
  for (const { value } of parseAllYaml(manifest)) {
    const object = value as KubeObject
    const type = rights.find(({ kind }) => kind === object.kind)
    if (type === undefined || object.metadata.labels?.['app'] !== 'istiod') continue
    await client.create(type, object)
  }
}

async function kubeconfigOf(t: Test, api: KubeApiserver, client: KubeClient, port: number): Promise<string> {
  const answer = (await client.raw('POST', '/api/v1/namespaces/istio-system/serviceaccounts/istiod/token', {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: { audiences: ['https://kubernetes.default.svc'] }
  })) as { readonly status: { readonly token: string } }
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-replicas-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = path.join(folder, 'kubeconfig')
  const cluster = {
    server: `https://127.0.0.1:${port}`,
    'certificate-authority-data': Buffer.from(api.caPem).toString('base64')
  }
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster }],
    users: [{ name: 'istiod', user: { token: answer.status.token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'istiod' } }],
    'current-context': 'test'
  }
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 })
  return file
}

async function makeNamespace(client: KubeClient, name: string): Promise<void> {
  await client.create(coreApi.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
}

async function makePolicy(client: KubeClient, name: string): Promise<void> {
  await client.create(istioApi.authorizationPolicies, {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { namespace: 'shop', name },
    spec: { rules: [{ from: [{ source: { namespaces: ['shop'] } }] }] }
  })
}

async function makeEntry(client: KubeClient, name: string): Promise<void> {
  await client.create(istioApi.serviceEntries, {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { namespace: 'shop', name },
    spec: {
      hosts: [`${name}.example.com`],
      ports: [{ number: 5432, name: 'tcp', protocol: 'TCP' }],
      resolution: 'DNS'
    }
  })
}

async function makeGateway(client: KubeClient, name: string): Promise<Gateway> {
  return client.create(gateways, {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { namespace: 'shop', name },
    spec: {
      gatewayClassName: 'underpass-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }]
    }
  })
}

async function addressesOf(client: KubeClient, name: string): Promise<readonly string[]> {
  const found = await client.find(istioApi.serviceEntries, { namespace: 'shop', name })
  return (found?.status?.addresses ?? []).map(({ value }) => value)
}

interface Reference {
  readonly namespace: string
  readonly name: string
}

async function conditionOf(client: KubeClient, ref: Reference): Promise<string | undefined> {
  const found = await client.get(istioApi.authorizationPolicies, ref)
  return found.status?.conditions?.find(({ type }) => type === 'ZtunnelAccepted')?.status
}

async function programmed(client: KubeClient, ref: Reference): Promise<string | undefined> {
  const found = await client.get(gateways, ref)
  const said = found.status?.conditions?.find(
    ({ type, observedGeneration }) =>
      type === 'Programmed' && observedGeneration === found.metadata.generation
  )
  return said?.status
}

/** As another controller does: reads, changes its own condition, writes if nobody did meanwhile. */
async function addCondition(client: KubeClient, ref: Reference, condition: Condition): Promise<void> {
  await eventually('the condition is written', async () => {
    const { metadata, status } = await client.get(istioApi.authorizationPolicies, ref)
    const others = (status?.conditions ?? []).filter(({ type }) => type !== condition.type)
    const body = {
      metadata: { resourceVersion: metadata.resourceVersion },
      status: { conditions: [...others, condition] }
    }
    await client.patch(istioApi.authorizationPolicies, ref, body, { kind: 'merge', subresource: 'status' })
    return true
  })
}
