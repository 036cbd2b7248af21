/**
 * The API server goes away and comes back, at the lab's API store behind a gate: clients keep what they have, hear
 * what changed meanwhile and nothing else, and what was opened on the way is closed again.
 */
import t, { type Test } from 'tap'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startApp, type App } from '../../controlplane/app.ts'
import { readConfig } from '../../controlplane/config.ts'
import { addressType, authorizationType } from '../../controlplane/desired/snapshot.ts'
import { startApiStore } from '../../lab/api-store/api-store.ts'
import { historyLimit } from '../../lab/api-store/storage.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { eventually } from '../support/eventually.ts'
import { DeltaClient, type Response } from './xds/delta-client.ts'

t.setTimeout(240_000)

for (const { name, between } of [
  { name: 'for a while', between: 0 },
  { name: 'for longer than it remembers changes (410)', between: historyLimit + 100 }
]) {
  t.test(`the API server is gone ${name}`, async t => {
    const { gate, writer, app, token, lines, rootsPem } = await world(t)
    for (const [pod, ip] of [
      ['stays', '10.0.0.1'],
      ['goes', '10.0.0.2'],
      ['moves', '10.0.0.3']
    ] as const) {
      await runPod(writer, pod, ip)
    }
    const clients = [
      subscriber(t, app, rootsPem, token('ztunnel')),
      subscriber(t, app, rootsPem, token('ztunnel'))
    ]
    for (const client of clients) await client.knows(['goes', 'moves', 'stays'])
    const before = gate.open
    const pushes = clients.map(({ heard }) => heard.length)

    gate.down()
    await eventually('the outage is said', () =>
      lines.some(line => /watching pods failed, trying again/.test(line))
    )
    t.match(
      await ready(app),
      { status: 200, body: /^ready\n.* pods: (the connection to|cannot reach) the API server/s },
      'still serving, and it says what it misses'
    )
    await writer.delete(coreApi.pods, { namespace: 'shop', name: 'goes' }, { gracePeriodSeconds: 0 })
    await runPod(writer, 'comes', '10.0.0.4')
    await setReady(writer, 'moves', false)
    for (let change = 0; change < between; change++) await annotate(writer, 'stays', String(change))
    await delay(2000) // the length of the fault: several tries of every watch
    t.strictSame(
      clients.map(({ heard }) => heard.length),
      pushes,
      'nobody hears of an outage'
    )
    const late = subscriber(t, app, rootsPem, token('ztunnel'))
    await late.knows(['goes', 'moves', 'stays'])
    const stranger = subscriber(t, app, rootsPem, token('web'))
    t.match(
      await stranger.xds.ended(),
      { code: 14, details: /API server/ },
      'whom nobody can vouch for waits'
    )

    gate.up()
    for (const client of [...clients, late]) await client.knows(['comes', 'moves', 'stays'])
    await eventually('all is followed again', async () => (await ready(app)).body === 'ready\n')
    for (const [index, client] of clients.entries()) {
      const since = client.heard.slice(pushes[index])
      t.strictSame(
        namesOf(since),
        { changed: ['comes', 'moves'], removed: ['goes'] },
        'what changed, once, and no more'
      )
    }
    t.strictSame(
      lines.filter(line => line.includes('\terror\t')),
      []
    )
    await eventually('as many connections as before', () => gate.open <= before)
  })
}

t.test('an API server that comes and goes leaves no connection behind, and no client notices', async t => {
  const { gate, writer, app, token, rootsPem } = await world(t)
  await runPod(writer, 'stays', '10.0.0.1')
  const client = subscriber(t, app, rootsPem, token('ztunnel'))
  await client.knows(['stays'])
  const before = gate.open
  const pushes = client.heard.length
  for (let flap = 0; flap < 10; flap++) {
    gate.down()
    await delay(100)
    gate.up()
    await delay(200)
  }
  await eventually('all is followed again', async () => (await ready(app)).body === 'ready\n')
  await runPod(writer, 'comes', '10.0.0.2')
  await client.knows(['comes', 'stays'])
  t.strictSame(namesOf(client.heard.slice(pushes)), { changed: ['comes'], removed: [] })
  await eventually('as many connections as before', () => gate.open <= before)
})

interface World {
  readonly gate: Gate
  /** Goes past the gate. */
  readonly writer: KubeClient
  readonly app: App
  readonly lines: readonly string[]
  readonly rootsPem: string
  readonly token: (account: string) => string
}

async function world(t: Test): Promise<World> {
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }] })
  t.teardown(async () => store.close())
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-controlplane-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const gate = new Gate(store.addresses[0]?.port ?? 0)
  await gate.start(t)
  const clientOf = async (port: number | undefined): Promise<KubeClient> => {
    const kubeconfig = path.join(folder, `kubeconfig-${port}`)
    writeFileSync(kubeconfig, store.kubeconfig(`https://127.0.0.1:${port}`))
    const client = new KubeClient(await loadKubeConfig({ kubeconfig }))
    t.teardown(() => client.close())
    return client
  }
  const writer = await clientOf(store.addresses[0]?.port)
  const client = await clientOf(gate.port)
  for (const name of ['istio-system', 'shop']) {
    await writer.create(coreApi.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  for (const name of ['ztunnel', 'web']) {
    const metadata = { namespace: 'istio-system', name }
    await writer.create(coreApi.serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata })
  }
  const { config } = readConfig({
    UNDERPASS_LISTEN: '127.0.0.1',
    UNDERPASS_XDS_PORT: '0',
    UNDERPASS_MONITORING_PORT: '0',
    UNDERPASS_READY_PORT: '0',
    UNDERPASS_WEBHOOK_PORT: '0',
    TERMINATION_DRAIN_DURATION: '100ms',
    ROOT_CA_DIR: path.join(folder, 'none')
  })
  const lines: string[] = []
  const logs = new LogOutput({ ...config.log, sink: { write: line => void lines.push(line) } })
  const app = await startApp({ config, client, logs })
  t.teardown(async () => app.close())
  await app.ready
  const token = (account: string): string =>
    store.issueToken('istio-system', account, { audiences: ['istio-ca'], expirationSeconds: 600 + tokens++ })
  let tokens = 0
  const known = token('ztunnel')
  return {
    gate,
    writer,
    app,
    lines,
    rootsPem: app.authority.bundlePem,
    token: account => (account === 'ztunnel' ? known : token(account))
  }
}

/** Between the control plane and the API server. */
class Gate {
  readonly #to: number
  readonly #sockets = new Set<net.Socket>()
  readonly #server: net.Server
  #up = true

  constructor(to: number) {
    this.#to = to
    this.#server = net.createServer(near => this.#pass(near))
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port
  }

  /** Connections through it. */
  get open(): number {
    return this.#sockets.size / 2
  }

  async start(t: Test): Promise<void> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    t.teardown(() => {
      this.down()
      this.#server.close()
    })
  }

  down(): void {
    this.#up = false
    for (const socket of this.#sockets) socket.destroy()
  }

  up(): void {
    this.#up = true
  }

  #pass(near: net.Socket): void {
    near.on('error', () => undefined) // one end tells the other by closing
    if (!this.#up) {
      near.destroy()
      return
    }
    const far = net.connect(this.#to, '127.0.0.1').on('error', () => undefined)
    for (const [socket, other] of [
      [near, far],
      [far, near]
    ] as const) {
      this.#sockets.add(socket)
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  }
}

interface Subscriber {
  readonly xds: DeltaClient
  /** Pushes of addresses, in order. */
  readonly heard: readonly Response[]
  /** Resolves when these pods of `shop`, by name, are all it knows. */
  readonly knows: (pods: readonly string[]) => Promise<void>
}

/** Subscribes to everything, as a ztunnel does, and acknowledges each push. */
function subscriber(t: Test, app: App, rootsPem: string, token: string): Subscriber {
  const xds = new DeltaClient({ target: `127.0.0.1:${app.addresses.xds.port}`, rootsPem, token })
  t.teardown(() => xds.close())
  const heard: Response[] = []
  const held = new Set<string>()
  void (async () => {
    for (let push = await xds.next(); push !== undefined; push = await xds.next()) {
      xds.ack(push)
      if (push.typeUrl !== addressType) continue
      heard.push(push)
      for (const { name } of push.resources) held.add(podOf(name))
      for (const name of push.removedResources) held.delete(podOf(name))
    }
  })()
  xds.subscribe(authorizationType)
  xds.subscribe(addressType)
  const knows = async (pods: readonly string[]): Promise<void> =>
    eventually(
      `a client knows ${pods.join()}`,
      () =>
        [...held]
          .filter(name => !name.includes('/'))
          .toSorted()
          .join() === pods.join(),
      {
        everyMs: 50
      }
    )
  return { xds, heard, knows }
}

function podOf(resource: string): string {
  return resource.replace('Kubernetes//Pod/shop/', '')
}

function namesOf(pushes: readonly Response[]): { changed: string[]; removed: string[] } {
  return {
    changed: pushes.flatMap(({ resources }) => resources.map(({ name }) => podOf(name))).toSorted(),
    removed: pushes.flatMap(({ removedResources }) => removedResources.map(podOf)).toSorted()
  }
}

async function ready(app: App): Promise<{ status: number; body: string }> {
  const response = await fetch(`http://127.0.0.1:${app.addresses.ready[0]?.port}/ready`)
  return { status: response.status, body: await response.text() }
}

async function runPod(client: KubeClient, name: string, ip: string): Promise<void> {
  await client.create(coreApi.pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'shop', name, labels: { 'istio.io/dataplane-mode': 'ambient' } },
    spec: { nodeName: 'n1', serviceAccountName: 'default', containers: [{ name: 'c', image: 'x' }] }
  })
  await patchStatus(client, name, {
    phase: 'Running',
    podIP: ip,
    podIPs: [{ ip }],
    conditions: [{ type: 'Ready', status: 'True' }]
  })
}

async function setReady(client: KubeClient, name: string, value: boolean): Promise<void> {
  await patchStatus(client, name, { conditions: [{ type: 'Ready', status: value ? 'True' : 'False' }] })
}

async function patchStatus(client: KubeClient, name: string, status: object): Promise<void> {
  await client.patch(
    coreApi.pods,
    { namespace: 'shop', name },
    { status },
    { kind: 'merge', subresource: 'status' }
  )
}

/** A change that no client has to know. */
async function annotate(client: KubeClient, name: string, value: string): Promise<void> {
  await client.patch(
    coreApi.pods,
    { namespace: 'shop', name },
    { metadata: { annotations: { change: value } } },
    { kind: 'merge' }
  )
}
