import t, { type Test } from 'tap'
import { closeSync, fstatSync, mkdtempSync, openSync, readlinkSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Poller } from '../../../shared/net/poll.ts'
import { SeqpacketListener, ZdsConnection } from '../../../shared/zds/seqpacket.ts'

const poller = new Poller()
/** Not the test's own folder: a socket's path has at most 107 bytes. */
const folder = mkdtempSync(path.join(tmpdir(), 'zds-'))
t.teardown(async () => {
  rmSync(folder, { recursive: true })
  await poller.close()
})

interface Packet {
  readonly text: string
  readonly descriptors: readonly number[]
}

/** A connection whose packets and end can be awaited. */
class Inbox {
  readonly packets: Packet[] = []
  closed: { readonly error: Error | undefined } | undefined
  #changed: () => void = () => undefined

  readonly handlers = {
    onMessage: (bytes: Buffer, descriptors: readonly number[]): void => {
      this.packets.push({ text: bytes.toString('latin1'), descriptors })
      this.#changed()
    },
    onClose: (error?: Error): void => {
      this.closed = { error }
      this.#changed()
    }
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>(resolve => (this.#changed = resolve))
  }
}

async function pair(
  t: Test,
  name: string
): Promise<{ client: ZdsConnection; server: ZdsConnection; atClient: Inbox; atServer: Inbox }> {
  const socket = path.join(folder, name)
  const [atClient, atServer] = [new Inbox(), new Inbox()]
  let accepted: (connection: ZdsConnection) => void
  const connection = new Promise<ZdsConnection>(resolve => (accepted = resolve))
  const listener = new SeqpacketListener(poller, socket, connection => accepted(connection))
  const client = ZdsConnection.connect(poller, socket, atClient.handlers)
  const server = await connection
  server.start(atServer.handlers)
  t.teardown(() => {
    client.close()
    server.close()
    listener.close()
  })
  return { client, server, atClient, atServer }
}

t.test('packets keep their borders in both directions', async t => {
  const { client, server, atClient, atServer } = await pair(t, 'borders')
  for (const text of ['one', 'two', 'x'.repeat(1024)]) client.send(Buffer.from(text))
  server.send(Buffer.from('back'))
  await atServer.until(() => atServer.packets.length === 3)
  await atClient.until(() => atClient.packets.length === 1)
  t.strictSame(
    atServer.packets.map(({ text }) => text.length),
    [3, 3, 1024]
  )
  t.strictSame(atClient.packets, [{ text: 'back', descriptors: [] }])
})

t.test('a descriptor arrives as the same file, close-on-exec', async t => {
  const { client, server, atServer } = await pair(t, 'rights')
  const netns = openSync('/proc/self/ns/net', 'r')
  client.send(Buffer.from('take'), netns)
  await atServer.until(() => atServer.packets.length === 1)
  const [received = -1] = atServer.packets[0]?.descriptors ?? []
  t.not(received, netns)
  t.equal(fstatSync(received).ino, fstatSync(netns).ino)
  const flags = parseInt(/flags:\s+(\d+)/.exec(await fdinfo(received))?.[1] ?? '0', 8)
  t.ok(flags & 0o2000000, 'O_CLOEXEC')
  closeSync(received)
  closeSync(netns)
  server.close()
})

t.test('a packet too long for the receiver ends the connection with the reason', async t => {
  const { client, atServer } = await pair(t, 'long')
  client.send(Buffer.alloc(1025))
  await atServer.until(() => atServer.closed !== undefined)
  t.match(atServer.closed?.error?.message, /more than 1024 bytes/)
})

t.test('the peer sees the end, and sending afterwards fails', async t => {
  const { client, server, atServer } = await pair(t, 'end')
  client.send(Buffer.from('last'))
  client.close()
  await atServer.until(() => atServer.closed !== undefined)
  t.equal(atServer.packets[0]?.text, 'last')
  t.equal(atServer.closed?.error, undefined)
  t.ok(server.closed)
  t.throws(() => server.send(Buffer.from('x')), /closed/)
})

t.test('a peer that does not read stops the sender after a bounded number of packets', async t => {
  const socket = path.join(folder, 'slow')
  const listener = new SeqpacketListener(poller, socket, connection => {
    t.teardown(() => connection.close()) // never started: reads nothing
  })
  const client = ZdsConnection.connect(poller, socket, new Inbox().handlers)
  t.teardown(() => {
    client.close()
    listener.close()
  })
  t.throws(() => {
    for (let sent = 0; sent < 10_000; sent++) client.send(Buffer.alloc(1024))
  }, /the peer does not read/)
})

t.test('waiting packets go out when the peer reads again', async t => {
  const socket = path.join(folder, 'later')
  const inbox = new Inbox()
  let accepted: (connection: ZdsConnection) => void
  const connection = new Promise<ZdsConnection>(resolve => (accepted = resolve))
  const listener = new SeqpacketListener(poller, socket, connection => accepted(connection))
  const client = ZdsConnection.connect(poller, socket, new Inbox().handlers)
  t.teardown(() => {
    client.close()
    listener.close()
  })
  let sent = 0
  try {
    for (;;) {
      client.send(Buffer.from(String(sent)))
      sent++
    }
  } catch {
    // full, which is what this test needs
  }
  const server = await connection
  t.teardown(() => server.close())
  server.start(inbox.handlers)
  await inbox.until(() => inbox.packets.length === sent)
  t.strictSame(
    inbox.packets.map(({ text }) => Number(text)),
    Array.from({ length: sent }, (_, index) => index)
  )
})

t.test('connecting to nothing names the call and the path', async t => {
  const missing = path.join(folder, 'missing')
  t.throws(() => ZdsConnection.connect(poller, missing, new Inbox().handlers), {
    name: 'SystemCallError',
    call: 'connect',
    code: 'ENOENT'
  })
  t.throws(() => ZdsConnection.connect(poller, `/${'x'.repeat(120)}`, new Inbox().handlers), /107 bytes/)
})

t.test('only the own user may connect, and the path is gone with the listener', async t => {
  const socket = path.join(folder, 'mode')
  const listener = new SeqpacketListener(poller, socket, () => undefined)
  t.equal(statSync(socket).mode & 0o777, 0o600)
  listener.close()
  t.throws(() => statSync(socket), { code: 'ENOENT' })
})

t.test('no descriptor is left behind', async t => {
  const before = openDescriptors()
  const { client, server, atServer } = await pair(t, 'count')
  client.send(Buffer.from('x'))
  await atServer.until(() => atServer.packets.length === 1)
  client.close()
  await atServer.until(() => atServer.closed !== undefined)
  server.close()
  t.equal(openDescriptors(), before + 1, 'the listener only')
})

async function fdinfo(fd: number): Promise<string> {
  const { readFile } = await import('node:fs/promises')
  return readFile(`/proc/self/fdinfo/${fd}`, 'utf8')
}

function openDescriptors(): number {
  let count = 0
  for (let fd = 0; fd < 200; fd++) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')) count++
    } catch {
      // not open
    }
  }
  return count
}
