/** Kubernetes' own scheduler and controllers work on the API store, as they do on theirs. */
import t from 'tap'
import { spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startStore } from '../lab/api-store-start.ts'
import type { Body } from './api.ts'
import { deployment } from './context.ts'

const peers = process.env['UNDERPASS_PEERS']
const programs = ['kube-controller-manager', 'kube-scheduler']
const skip =
  peers !== undefined && programs.every(program => existsSync(path.join(peers, program)))
    ? false
    : `needs ${programs.join(' and ')} in UNDERPASS_PEERS`
const patienceMs = 60_000

t.test(
  'a Deployment becomes pods on a node and endpoints of a Service, and goes with all of them',
  { skip },
  async t => {
    const { api, access, store } = await startStore(t)
    const folder = t.testdir({})
    const kubeconfig = path.join(folder, 'kubeconfig')
    writeFileSync(kubeconfig, store.kubeconfig(access.server), { mode: 0o600 })
    const key = path.join(folder, 'sa.key')
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    writeFileSync(key, privateKey.export({ type: 'sec1', format: 'pem' }), { mode: 0o600 })
    let log = ''
    const start = (program: string, ...more: readonly string[]): void => {
      const common = ['--kubeconfig', kubeconfig, '--leader-elect=false', '--secure-port=0']
      const child = spawn(path.join(peers ?? '', program), [...common, ...more], {
        cwd: folder,
        env: { HOME: folder },
        stdio: ['ignore', 'ignore', 'pipe']
      })
      child.stderr.on('data', (chunk: Buffer) => {
        log = (log + chunk.toString()).slice(-50_000)
      })
      const ended = once(child, 'close')
      t.teardown(async () => {
        child.kill('SIGKILL')
        await ended
      })
    }
    start(
      'kube-controller-manager',
      '--service-account-private-key-file',
      key,
      '--node-monitor-grace-period=10m'
    )
    start('kube-scheduler')
    const eventually = async (name: string, where: string, fits: (body: Body) => boolean): Promise<Body> => {
      const deadline = Date.now() + patienceMs
      for (;;) {
        const { body } = await api.get(where)
        if (fits(body)) {
          t.pass(name)
          return body
        }
        if (Date.now() > deadline) {
          t.fail(name, { found: body, log: log.slice(-4000) })
          return body
        }
        await delay(50)
      }
    }

    const now = new Date().toISOString().replace(/\.\d+/, '')
    const resources = { cpu: '4', memory: '8Gi', pods: '110' }
    await api.post('/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } })
    await api.patch('/api/v1/nodes/n1/status', 'merge', {
      status: {
        capacity: resources,
        allocatable: resources,
        conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime: now, lastTransitionTime: now }]
      }
    })
    const home = '/namespaces/default'
    await api.post(`/apis/apps/v1${home}/deployments`, deployment('web', { replicas: 2 }))
    await api.post(`/api/v1${home}/services`, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web' },
      spec: { selector: { app: 'web' }, ports: [{ port: 80 }] }
    })

    const placed = await eventually(
      'both pods are made and placed',
      `/api/v1${home}/pods`,
      ({ items }) => items.length === 2 && items.every((pod: Body) => pod['spec'].nodeName === 'n1')
    )
    for (const [index, pod] of (placed['items'] as Body[]).entries()) {
      const status = {
        phase: 'Running',
        podIP: `10.244.1.${index + 1}`,
        podIPs: [{ ip: `10.244.1.${index + 1}` }],
        conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: now }]
      }
      t.equal(
        (await api.patch(`/api/v1${home}/pods/${pod['metadata'].name}/status`, 'strategic', { status }))
          .status,
        200
      )
    }
    await eventually(
      'the Deployment counts them',
      `/apis/apps/v1${home}/deployments/web`,
      ({ status }) => status.readyReplicas === 2
    )
    await eventually(
      'the Service has two endpoints',
      `/apis/discovery.k8s.io/v1${home}/endpointslices?labelSelector=kubernetes.io/service-name%3Dweb`,
      ({ items }) =>
        items
          .flatMap((slice: Body) => slice['endpoints'] ?? [])
          .filter((endpoint: Body) => endpoint['conditions'].ready === true).length === 2
    )
    const scheduled = ({ items }: Body): boolean =>
      items.some((event: Body) => event['reason'] === 'Scheduled')
    await eventually(
      'the scheduler reports in one group of events',
      `/apis/events.k8s.io/v1${home}/events`,
      scheduled
    )
    const core = await eventually('and in the other', `/api/v1${home}/events`, scheduled)
    t.match(
      core['items'].find((event: Body) => event['reason'] === 'Scheduled'),
      { involvedObject: { kind: 'Pod' }, message: /^Successfully assigned/ }
    )

    await api.delete(`/apis/apps/v1${home}/deployments/web`, { propagationPolicy: 'Background' })
    await eventually(
      'its ReplicaSet goes',
      `/apis/apps/v1${home}/replicasets`,
      ({ items }) => items.length === 0
    )
    const ending = await eventually('its pods are asked to end', `/api/v1${home}/pods`, ({ items }) =>
      items.every((pod: Body) => pod['metadata'].deletionTimestamp !== undefined)
    )
    for (const pod of ending['items'] as Body[])
      await api.delete(`/api/v1${home}/pods/${pod['metadata'].name}`, { gracePeriodSeconds: 0 })
    t.same((await api.get(`/api/v1${home}/pods`)).body['items'], [])
  }
)
