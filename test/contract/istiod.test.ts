/** Istio's own control plane works on the API store: typed Go clients, informers, server-side apply, status writes. */
import t from 'tap'
import { spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { startStore } from '../lab/api-store-start.ts'
import type { Body } from './api.ts'

const program = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'pilot-discovery')
const skip =
  process.env['UNDERPASS_PEERS'] !== undefined && existsSync(program)
    ? false
    : 'needs pilot-discovery in UNDERPASS_PEERS'
const patienceMs = 60_000

t.test('istiod reads the store and writes what it has to say', { skip }, async t => {
  const { api, access, store } = await startStore(t)
  const folder = t.testdir({ 'mesh.yaml': 'rootNamespace: istio-system\ntrustDomain: cluster.local\n' })
  const kubeconfig = path.join(folder, 'kubeconfig')
  writeFileSync(kubeconfig, store.kubeconfig(access.server), { mode: 0o600 })
  const create = async (where: string, body: Body): Promise<void> => {
    t.equal((await api.post(where, body)).status, 201, where)
  }
  await create('/api/v1/namespaces', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'istio-system' }
  })
  await create('/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways', {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name: 'waypoint' },
    spec: {
      gatewayClassName: 'istio-waypoint',
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }]
    }
  })

  const [http = 0, ...others] = await freePorts(6)
  const [grpc = 0, secure = 0, webhook = 0, monitoring = 0, introspection = 0] = others
  const at = (port: number): string => `127.0.0.1:${port}`
  const istiod = spawn(
    program,
    [
      'discovery',
      ...[
        '--kubeconfig',
        kubeconfig,
        '--meshConfig',
        path.join(folder, 'mesh.yaml'),
        '--domain',
        'cluster.local'
      ],
      ...['--httpAddr', at(http), '--grpcAddr', at(grpc), '--secureGRPCAddr', at(secure)],
      ...[
        '--httpsAddr',
        at(webhook),
        '--monitoringAddr',
        at(monitoring),
        '--ctrlz_port',
        String(introspection)
      ]
    ],
    {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        HOME: folder,
        POD_NAMESPACE: 'istio-system',
        POD_NAME: 'istiod-0',
        SERVICE_ACCOUNT: 'istiod',
        PILOT_ENABLE_AMBIENT: 'true',
        CLUSTER_ID: 'Kubernetes',
        ISTIOD_CUSTOM_HOST: 'localhost',
        INJECTION_WEBHOOK_CONFIG_NAME: '',
        VALIDATION_WEBHOOK_CONFIG_NAME: '',
        PILOT_CERT_PROVIDER: 'istiod',
        ENABLE_LEADER_ELECTION: 'false'
      }
    }
  )
  const ended = once(istiod, 'close')
  t.teardown(async () => {
    istiod.kill('SIGKILL')
    await ended
  })
  let log = ''
  for (const output of [istiod.stdout, istiod.stderr]) {
    output.on('data', (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-20_000)
    })
  }
  const found = async (where: string, fits: (body: Body) => boolean): Promise<boolean> => {
    for (const deadline = Date.now() + patienceMs; Date.now() < deadline && istiod.exitCode === null;) {
      const { status, body } = await api.get(where)
      if (status === 200 && fits(body)) return true
      await delay(100)
    }
    t.comment(log)
    return false
  }
  t.ok(
    await found('/api/v1/namespaces/default/configmaps/istio-ca-root-cert', body =>
      /BEGIN CERTIFICATE/.test(body['data']['root-cert.pem'])
    ),
    'the root certificate is in every namespace'
  )
  t.ok(
    await found('/apis/gateway.networking.k8s.io/v1/gatewayclasses/istio-waypoint', body =>
      accepted(body['status']?.conditions)
    ),
    'the class of waypoints is there and accepted'
  )
  t.ok(
    await found('/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/waypoint', body =>
      accepted(body['status']?.conditions)
    ),
    'the status of the Gateway is written'
  )
  const { body } = await api.get('/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/waypoint')
  const writers = body['metadata'].managedFields.map(
    ({ manager, subresource }: { manager: string; subresource?: string }) => `${manager} ${subresource ?? ''}`
  )
  t.ok(
    writers.some((writer: string) => writer.endsWith(' status')),
    `written as a sub-resource: ${writers.join()}`
  )
  t.notMatch(log, /failed to list|Unsupported Media Type|unable to decode/i)
})

function accepted(
  conditions: readonly { type: string; status: string; reason: string }[] | undefined
): boolean {
  return conditions?.some(({ type, status }) => type === 'Accepted' && status === 'True') === true
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map(async server => once(server, 'listening')))
  const ports = servers.map(server => (server.address() as net.AddressInfo).port)
  await Promise.all(servers.map(async server => new Promise(resolve => server.close(resolve))))
  return ports
}
