import t, { type Test } from 'tap'
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Poller } from '../../shared/net/poll.ts'
import { silent } from '../../shared/telemetry/logger.ts'
import { decodeRequest, encodeAck, encodeHello, type ZdsRequest } from '../../shared/zds/messages.ts'
import { ZdsConnection } from '../../shared/zds/seqpacket.ts'
import { type AddOutcome, type ZdsPod, ZdsServer } from '../../daemonset/zds-server.ts'

const poller = new Poller()
const folder = mkdtempSync(path.join(tmpdir(), 'zds-'))
t.teardown(async () => {
  rmSync(folder, { recursive: true })
  await poller.close()
})

const workload = { name: 'web-1', namespace: 'shop', serviceAccount: 'web' }

/** A ztunnel that answers what the test tells it to. */
class FakeZtunnel {
  readonly requests: (ZdsRequest & { readonly inode?: number })[] = []
  closed = false
  answer: (request: ZdsRequest) => Buffer | undefined = () => encodeAck()
  readonly connection: ZdsConnection
  #changed: () => void = () => undefined

  constructor(socket: string, greeting: Buffer | undefined = encodeHello()) {
    this.connection = ZdsConnection.connect(poller, socket, {
      onMessage: (bytes, descriptors) => {
        const request = decodeRequest(bytes)
        const [descriptor] = descriptors
        this.requests.push(
          descriptor === undefined ? request : { ...request, inode: fstatSync(descriptor).ino }
        )
        for (const descriptor of descriptors) closeSync(descriptor)
        const answer = this.answer(request)
        if (answer !== undefined) this.connection.send(answer)
        this.#changed()
      },
      onClose: () => {
        this.closed = true
        this.#changed()
      }
    })
    if (greeting !== undefined) this.connection.send(greeting)
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>(resolve => (this.#changed = resolve))
  }

  async snapshot(): Promise<string[]> {
    await this.until(() => this.requests.some(({ kind }) => kind === 'snapshot-sent'))
    return this.kinds()
  }

  kinds(): string[] {
    return this.requests.map(request => ('uid' in request ? `${request.kind} ${request.uid}` : request.kind))
  }
}

let sockets = 0

class World {
  readonly socket = path.join(folder, String(sockets++))
  readonly pods = new Map<string, ZdsPod>()
  readonly answers: string[] = []
  readonly netns = openSync('/proc/self/ns/net', 'r')
  readonly server: ZdsServer
  #connections = 0
  #changed: () => void = () => undefined

  constructor(t: Test, answerTimeoutMs = 5000) {
    this.server = new ZdsServer({
      poller,
      path: this.socket,
      pods: () => [...this.pods.values()],
      pod: uid => this.pods.get(uid),
      onSnapshotAnswer: (uid, outcome) => this.answers.push(`${uid} ${outcome.kind}`),
      onFallback: () => this.answers.push('fallback'),
      onConnections: count => {
        this.#connections = count
        this.#changed()
      },
      log: silent,
      answerTimeoutMs
    })
    t.teardown(() => {
      this.server.close()
      closeSync(this.netns)
    })
  }

  put(uid: string, netns: number | undefined = this.netns): void {
    this.pods.set(uid, { uid, workload, netns })
  }

  async connected(count: number): Promise<void> {
    while (this.#connections !== count) await new Promise<void>(resolve => (this.#changed = resolve))
  }
}

t.test('a new connection gets all pods, then that this was all', async t => {
  const world = new World(t)
  world.put('a')
  world.pods.set('b', { uid: 'b', workload, netns: undefined })
  const ztunnel = new FakeZtunnel(world.socket)
  t.strictSame(await ztunnel.snapshot(), ['add a', 'keep b', 'snapshot-sent'])
  t.match(ztunnel.requests[0], { workload, inode: fstatSync(world.netns).ino })
  t.strictSame(world.answers, ['a acknowledged', 'b acknowledged'])
})

t.test('nothing is sent to a peer that has not greeted, and it is dropped', async t => {
  const world = new World(t, 50)
  world.put('a')
  const silentPeer = new FakeZtunnel(world.socket, Buffer.alloc(0))
  const rude = new FakeZtunnel(world.socket, encodeAck('hello?'))
  await rude.until(() => rude.closed)
  t.strictSame(await world.server.add('a'), { kind: 'absent' })
  await silentPeer.until(() => silentPeer.closed)
  t.strictSame(silentPeer.requests, [])
})

t.test('additions go to the newest connection, removals to all', async t => {
  const world = new World(t)
  const old = new FakeZtunnel(world.socket)
  await old.snapshot()
  const recent = new FakeZtunnel(world.socket)
  await recent.snapshot()
  world.put('a')
  t.strictSame(await world.server.add('a'), { kind: 'acknowledged' })
  await world.server.remove('a')
  t.strictSame(old.kinds(), ['snapshot-sent', 'del a'])
  t.strictSame(recent.kinds(), ['snapshot-sent', 'add a', 'del a'])
})

t.test('when the newest leaves, the one before it is asked again', async t => {
  const world = new World(t)
  const old = new FakeZtunnel(world.socket)
  await old.snapshot()
  const recent = new FakeZtunnel(world.socket)
  await recent.snapshot()
  recent.connection.close()
  await world.connected(1)
  t.strictSame(world.answers, ['fallback'], 'and everybody is told that it may lack pods')
  world.put('a')
  t.strictSame(await world.server.add('a'), { kind: 'acknowledged' })
  t.strictSame(old.kinds(), ['snapshot-sent', 'add a'])
})

t.test('an older one that leaves changes nothing', async t => {
  const world = new World(t)
  const old = new FakeZtunnel(world.socket)
  await old.snapshot()
  const recent = new FakeZtunnel(world.socket)
  await recent.snapshot()
  old.connection.close()
  await world.connected(1)
  recent.connection.close()
  await world.connected(0)
  t.strictSame(world.answers, [])
})

t.test('a refusal has its reason, and the connection goes on', async t => {
  const world = new World(t)
  const ztunnel = new FakeZtunnel(world.socket)
  ztunnel.answer = request =>
    request.kind === 'add' ? encodeAck('failure to start proxy : address in use') : encodeAck()
  await ztunnel.snapshot()
  world.put('a')
  t.strictSame(await world.server.add('a'), {
    kind: 'refused',
    reason: 'failure to start proxy : address in use'
  })
  await world.server.remove('a')
  t.notOk(ztunnel.closed)
})

t.test('one request is in flight at a time', async t => {
  const world = new World(t)
  const ztunnel = new FakeZtunnel(world.socket)
  await ztunnel.snapshot()
  ztunnel.answer = () => undefined
  const outcomes: Promise<AddOutcome>[] = []
  for (const uid of ['a', 'b']) {
    world.put(uid)
    outcomes.push(world.server.add(uid))
  }
  await ztunnel.until(() => ztunnel.requests.length === 2)
  t.strictSame(ztunnel.kinds(), ['snapshot-sent', 'add a'])
  ztunnel.answer = () => encodeAck()
  ztunnel.connection.send(encodeAck())
  t.strictSame(await Promise.all(outcomes), [{ kind: 'acknowledged' }, { kind: 'acknowledged' }])
})

t.test('no answer in time ends the connection; a new one gets everything', async t => {
  const world = new World(t, 50)
  const ztunnel = new FakeZtunnel(world.socket)
  await ztunnel.snapshot()
  ztunnel.answer = () => undefined
  world.put('a')
  t.strictSame(await world.server.add('a'), { kind: 'absent' })
  await ztunnel.until(() => ztunnel.closed)
  const next = new FakeZtunnel(world.socket)
  t.strictSame(await next.snapshot(), ['add a', 'snapshot-sent'])
})

t.test('a peer that speaks without being asked is dropped', async t => {
  const world = new World(t)
  const ztunnel = new FakeZtunnel(world.socket)
  await ztunnel.snapshot()
  ztunnel.connection.send(encodeAck())
  await ztunnel.until(() => ztunnel.closed)
  t.ok(ztunnel.closed)
  await world.connected(0)
})

t.test('a pod that went while it waited for its turn is not sent', async t => {
  const world = new World(t)
  const ztunnel = new FakeZtunnel(world.socket)
  await ztunnel.snapshot()
  ztunnel.answer = () => undefined
  world.put('a')
  world.put('b')
  const first = world.server.add('a')
  const second = world.server.add('b')
  await ztunnel.until(() => ztunnel.requests.length === 2)
  world.pods.delete('b')
  ztunnel.connection.send(encodeAck())
  await Promise.all([first, second])
  t.strictSame(ztunnel.kinds(), ['snapshot-sent', 'add a'])
})
