import t from 'tap'
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Poller } from '../../shared/net/poll.ts'
import { silent } from '../../shared/telemetry/logger.ts'
import { decodeAck, decodeHello, encodeRequest, type ZdsRequest } from '../../shared/zds/messages.ts'
import { SeqpacketListener, type ZdsConnection } from '../../shared/zds/seqpacket.ts'
import type { PodDescription } from '../../ztunnel/pod.ts'
import { runZdsClient, ZdsFatal } from '../../ztunnel/zds-client.ts'

const workload = { name: 'web', namespace: 'shop', serviceAccount: 'sa' }

t.test('pods of the snapshot are started, those that are not in it stopped', async t => {
  const { agent, pods, synced } = await world(t, ['old', 'kept'])
  t.equal(await agent.ask({ kind: 'add', uid: 'new', workload }, true), undefined)
  t.equal(await agent.ask({ kind: 'keep', uid: 'kept' }), undefined)
  t.strictSame(synced, [])
  t.equal(await agent.ask({ kind: 'snapshot-sent' }), undefined)
  t.strictSame([...pods.keys()].toSorted(), ['kept', 'new'])
  t.match(pods.get('new'), { uid: 'new', info: workload, self: false })
  t.ok(fstatSync(pods.get('new')?.netns ?? -1).isFile(), 'the descriptor arrived')
  t.strictSame(synced, [true])
  t.equal(await agent.ask({ kind: 'del', uid: 'new' }), undefined)
  t.strictSame([...pods.keys()], ['kept'])
  t.equal(await agent.ask({ kind: 'del', uid: 'never-seen' }), undefined)
})

t.test('before the snapshot is complete nothing is stopped', async t => {
  const { agent, pods } = await world(t, ['a', 'b'])
  await agent.ask({ kind: 'keep', uid: 'a' })
  await agent.ask({ kind: 'del', uid: 'a' })
  t.equal(pods.size, 2)
  await agent.ask({ kind: 'snapshot-sent' })
  t.equal(pods.size, 0, 'a was taken back, b never named')
})

t.test('a pod that cannot start is answered with the reason, and the connection goes on', async t => {
  const { agent, failing } = await world(t)
  failing.add = new Error('bind failed')
  t.equal(await agent.ask({ kind: 'add', uid: '1', workload }, true), 'failure to start proxy : bind failed')
  failing.add = undefined
  t.equal(await agent.ask({ kind: 'add', uid: '2', workload }, true), undefined)
})

for (const { name, requests, says } of [
  {
    name: 'keep after the snapshot',
    requests: [{ kind: 'snapshot-sent' }, { kind: 'keep', uid: 'x' }],
    says: /keep of x after the snapshot/
  },
  {
    name: 'a second snapshot',
    requests: [{ kind: 'snapshot-sent' }, { kind: 'snapshot-sent' }],
    says: /second snapshot/
  },
  {
    name: 'add without a workload',
    requests: [{ kind: 'add', uid: 'x', workload: undefined }],
    says: /without workload information/
  }
] as const) {
  t.test(`${name} is answered and ends the process`, async t => {
    const { agent, run } = await world(t)
    let answer: string | undefined
    for (const request of requests) answer = await agent.ask(request, request.kind === 'add')
    t.match(answer, says)
    await t.rejects(run, ZdsFatal)
  })
}

for (const { name, request, descriptor, says } of [
  {
    name: 'add without descriptor',
    request: { kind: 'add', uid: 'x', workload },
    descriptor: false,
    says: /failure to read message : add came without/
  },
  {
    name: 'del with descriptor',
    request: { kind: 'del', uid: 'x' },
    descriptor: true,
    says: /failure to read message : del came with/
  }
] as const) {
  t.test(`${name} is answered, and ztunnel connects again`, async t => {
    const { agent, pods } = await world(t)
    t.match(await agent.ask(request, descriptor), says)
    await agent.next()
    t.equal(await agent.ask({ kind: 'add', uid: '1', workload }, true), undefined)
    t.strictSame([...pods.keys()], ['1'])
  })
}

t.test('what is no message at all is answered, and ztunnel connects again', async t => {
  const { agent } = await world(t)
  t.match(await agent.send(Buffer.from([0xff, 0xff, 0xff])), /failure to read message/)
  await agent.next()
  t.equal(await agent.ask({ kind: 'snapshot-sent' }), undefined)
})

t.test('when the agent goes away pods stay, and a new snapshot is waited for', async t => {
  const { agent, pods, synced } = await world(t)
  await agent.ask({ kind: 'add', uid: '1', workload }, true)
  await agent.ask({ kind: 'snapshot-sent' })
  agent.close()
  await agent.next()
  t.strictSame(synced, [true, false])
  t.equal(pods.size, 1)
  await agent.ask({ kind: 'keep', uid: '1' })
  await agent.ask({ kind: 'snapshot-sent' })
  t.equal(pods.size, 1)
  t.strictSame(synced, [true, false, true])
})

t.test('messages are answered one by one, in order', async t => {
  const { agent } = await world(t)
  const answers = await Promise.all([
    agent.ask({ kind: 'add', uid: '1', workload }, true),
    agent.ask({ kind: 'add', uid: '2', workload }, true),
    agent.ask({ kind: 'snapshot-sent' })
  ])
  t.strictSame(answers, [undefined, undefined, undefined])
})

interface Agent {
  ask(request: ZdsRequest, withDescriptor?: boolean): Promise<string | undefined>
  send(bytes: Buffer): Promise<string | undefined>
  /** Waits for ztunnel's next connection. */
  next(): Promise<void>
  close(): void
}

interface World {
  agent: Agent
  pods: Map<string, PodDescription>
  synced: boolean[]
  failing: { add?: Error | undefined }
  run: Promise<void>
}

async function world(
  test: { teardown(fn: () => unknown): unknown },
  known: readonly string[] = []
): Promise<World> {
  const folder = mkdtempSync(path.join(tmpdir(), 'uph7-zds-'))
  const socket = path.join(folder, 'zds.sock')
  const poller = new Poller()
  const pods = new Map<string, PodDescription>(
    known.map(uid => [uid, { uid, info: workload, netns: undefined, self: false }])
  )
  const failing: World['failing'] = {}
  const synced: boolean[] = []
  const stop = new AbortController()
  const answers: ((text: string | undefined) => void)[] = []
  let connection: ZdsConnection | undefined
  let greeted = Promise.withResolvers<void>()
  const listener = new SeqpacketListener(poller, socket, accepted => {
    connection = accepted
    let first = true
    accepted.start({
      onMessage: bytes => {
        if (first) {
          decodeHello(bytes)
          first = false
          greeted.resolve()
        } else answers.shift()?.(decodeAck(bytes))
      },
      onClose: () => undefined
    })
  })
  const run = runZdsClient(
    {
      path: socket,
      poller,
      log: silent,
      onSynced: value => synced.push(value),
      pods: {
        add: async description => {
          if (failing.add !== undefined) throw failing.add
          pods.set(description.uid, description)
        },
        remove: async uid => void pods.delete(uid),
        uids: () => [...pods.keys()]
      }
    },
    stop.signal
  )
  run.catch(() => undefined)
  test.teardown(async () => {
    stop.abort()
    await run.catch(() => undefined)
    connection?.close()
    listener.close()
    await poller.close()
    for (const { netns } of pods.values()) if (netns !== undefined) closeSync(netns)
    rmSync(folder, { recursive: true })
  })
  await greeted.promise
  const send = (bytes: Buffer, descriptor?: number): Promise<string | undefined> =>
    new Promise(resolve => {
      answers.push(resolve)
      connection?.send(bytes, descriptor)
    })
  const agent: Agent = {
    ask: async (request, withDescriptor = false) => {
      if (!withDescriptor) return send(encodeRequest(request))
      const fd = openSync('/proc/self/ns/net', 'r')
      try {
        return await send(encodeRequest(request), fd)
      } finally {
        closeSync(fd)
      }
    },
    send,
    next: async () => {
      greeted = Promise.withResolvers<void>()
      await greeted.promise
    },
    close: () => connection?.close()
  }
  return { agent, pods, synced, failing, run }
}
