/**
 * One ztunnel in shared mode, for as long as one likes: ten pods a second come and go, connections are opened and
 * closed beside some that live as long as the run, a policy flaps, and certificates are renewed every half minute.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { makeNamespace } from '../support/namespaces.ts'
import { descriptors, residentMiB, settledDescriptors } from '../support/process-state.ts'
import { sharedNode, type SharedNode } from '../support/shared-node.ts'
import {
  ADDRESS_TYPE,
  AUTHORIZATION_TYPE,
  startControlPlane,
  type TestControlPlane
} from '../support/test-control-plane.ts'
import { at, attempt, connect, serve, type Proxy } from '../support/two-nodes.ts'
import { wireDeny } from '../support/wire-mesh.ts'
import type { Observed, Sample } from './verdict.ts'

const PORT = 8080
/** Closed by the policy while it is there. */
const FLAPPING_PORT = 9001
const PODS_A_SECOND = 10
/** Of the pods that come and go, so many are there at a time. */
const PODS_AT_ONCE = 5
const LONG_LIVED = 10
const OPENERS = 4
/** Renewal comes at half of it. */
const CERTIFICATE_SECONDS = 60
/** For changes to take effect, on a machine that is busy with this load. */
const PATIENCE_MS = 20_000

interface Run {
  readonly world: SharedNode
  readonly plane: TestControlPlane
  readonly over: AbortSignal
  readonly wrong: string[]
  readonly count: (what: string) => void
}

interface Teardown {
  teardown(undo: () => unknown): void
}

/** Ends early, in order, when the signal aborts. */
export async function churn(t: Teardown, minutes: number, signal: AbortSignal): Promise<Observed> {
  const world = await sharedNode(t)
  const { node, nodeIp, server } = world
  const inNode = { name: 'a', netns: node.name, netnsFd: node.fd, v4: nodeIp, v6: nodeIp } as const
  const plane = await startControlPlane(t, [inNode])
  plane.ttlSeconds = CERTIFICATE_SECONDS
  const proxy = await world.start({ workers: 2, env: { ...plane.caEnv, ...plane.xdsEnv } })
  for (const port of [PORT, FLAPPING_PORT]) await serve(t, server, socket => socket.pipe(socket), { port })
  const did: Record<string, number> = {}
  const over = AbortSignal.any([signal, AbortSignal.timeout(minutes * 60_000)])
  const run: Run = {
    world,
    plane,
    over,
    wrong: [],
    count: what => {
      did[what] = (did[what] ?? 0) + 1
    }
  }
  await ask(run, PORT, 'warm')
  const before = await settledSample(proxy)
  const issued = plane.issued.length
  const during: Sample[] = []
  await Promise.all([
    podsComeAndGo(t, run),
    policyFlaps(run),
    ...Array.from({ length: OPENERS }, () => connectionsComeAndGo(run)),
    ...Array.from({ length: LONG_LIVED }, (_, index) => connectionLives(run, index)),
    watch(proxy, over, during)
  ])
  did['certificates'] = plane.issued.length - issued
  return { minutes, before, during, after: await settledSample(proxy), did, wrong: run.wrong }
}

/** Records over xDS and pods over ZDS; ten namespaces are used in turn, each with another pod every time. */
async function podsComeAndGo(t: Teardown, { world, plane, over, wrong, count }: Run): Promise<void> {
  const namespaces = Array.from({ length: PODS_AT_ONCE * 2 }, () => makeNamespace(t, 'upsk'))
  const nameOf = (pod: number): string => `churn-${pod % 50}`
  const uidOf = (pod: number): string => `Kubernetes//Pod/churn/${nameOf(pod)}`
  const leave = async (pod: number): Promise<void> => {
    const answer = await world.agent.ask({ kind: 'del', uid: `uid-${pod}` })
    if (answer !== undefined) wrong.push(`pod ${pod} cannot leave: ${answer}`)
    plane.remove(ADDRESS_TYPE, uidOf(pod))
  }
  let pod = 0
  for (; !over.aborted; pod++) {
    const name = nameOf(pod)
    const workload = {
      uid: uidOf(pod),
      name,
      namespace: 'churn',
      serviceAccount: name,
      addresses: [Buffer.from([10, 200, (pod >> 8) & 255, pod & 255])],
      tunnelProtocol: 1,
      node: 'node-1'
    }
    plane.put({ addresses: { [workload.uid]: { workload } } })
    const asked = {
      kind: 'add',
      uid: `uid-${pod}`,
      workload: { name, namespace: 'churn', serviceAccount: name }
    } as const
    const answer = await world.agent.ask(asked, namespaces[pod % namespaces.length]?.fd)
    if (answer !== undefined) wrong.push(`pod ${pod} cannot come: ${answer}`)
    if (pod >= PODS_AT_ONCE) await leave(pod - PODS_AT_ONCE)
    count('pods')
    await pause(1000 / PODS_A_SECOND, over)
  }
  for (let last = Math.max(0, pod - PODS_AT_ONCE); last < pod; last++) await leave(last)
}

async function connectionsComeAndGo(run: Run): Promise<void> {
  for (let number = 0; !run.over.aborted; number++) {
    const text = `${number}`.repeat(1 + (number % 100))
    const answer = await ask(run, PORT, text)
    if (answer !== text) run.wrong.push(`a connection answered ${JSON.stringify(answer)}`)
    run.count('connections')
    await pause(20, run.over)
  }
}

/** Through every renewal of a certificate and every change of a policy that is not about it. */
async function connectionLives({ world, over, wrong, count }: Run, index: number): Promise<void> {
  const { client, server } = world
  const socket = await connect(client, at(server.v4, PORT), { captured: false })
  const cut = new AbortController()
  socket.on('error', () => undefined).once('close', () => cut.abort())
  for (let number = 0; !over.aborted; number++) {
    const text = `${index}-${number}`
    try {
      const answer = once(socket, 'data', {
        signal: AbortSignal.any([cut.signal, AbortSignal.timeout(PATIENCE_MS)])
      })
      socket.write(text)
      if (String((await answer)[0]) !== text) throw new Error('other bytes came back')
    } catch (cause) {
      wrong.push(`long connection ${index}, message ${number}: ${String(cause)}`)
      break
    }
    count('messages on connections that live')
    await pause(1000, over)
  }
  socket.destroy()
}

async function policyFlaps(run: Run): Promise<void> {
  const { world, plane, over, wrong, count } = run
  const policy = { 'shop/flap': wireDeny('flap', { destinationPorts: [FLAPPING_PORT] }) }
  while (!over.aborted) {
    const live = await connect(world.client, at(world.server.v4, FLAPPING_PORT), { captured: false })
    const closed = closing(live)
    live.write('x')
    plane.put({ policies: policy })
    if (!(await soon(closed))) wrong.push('a denied connection was not closed')
    if ((await ask(run, FLAPPING_PORT, 'denied')) !== '') wrong.push('a denied connection was carried')
    plane.remove(AUTHORIZATION_TYPE, 'shop/flap')
    const opens = async (): Promise<void> => {
      const late = performance.now() + PATIENCE_MS
      while ((await ask(run, FLAPPING_PORT, 'allowed')) !== 'allowed') {
        if (performance.now() > late) throw new Error('still denied')
      }
    }
    await opens().catch(() => wrong.push('an allowed connection was not carried'))
    count('changes of a policy')
    await pause(1000, over)
  }
}

async function watch(proxy: Proxy, over: AbortSignal, during: Sample[]): Promise<void> {
  while (!over.aborted) {
    during.push(sample(proxy))
    await pause(2000, over)
  }
}

async function ask({ world: { client, server } }: Run, port: number, text: string): Promise<string> {
  return attempt(await connect(client, at(server.v4, port), { captured: false }), Buffer.from(text))
}

function sample({ pid }: Proxy): Sample {
  const threads = Number(/^Threads:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  return { residentMiB: residentMiB(pid), descriptors: descriptors(pid), threads }
}

async function settledSample(proxy: Proxy): Promise<Sample> {
  await settledDescriptors(proxy.pid)
  return sample(proxy)
}

function closing(socket: net.Socket): Promise<void> {
  return new Promise(resolve => {
    socket.on('error', () => undefined).once('close', () => resolve())
    socket.once('end', () => socket.destroy()).resume()
  })
}

async function soon(promise: Promise<void>): Promise<boolean> {
  const patience = new AbortController()
  const late = delay(PATIENCE_MS, false, { signal: patience.signal }).catch(() => false)
  const inTime = await Promise.race([promise.then(() => true), late])
  patience.abort()
  return inTime
}

async function pause(ms: number, over: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal: over }).catch(() => undefined) // the loop sees that it is over
}
