/** Sockets as byte streams: what their ends do to the socket, and that none is left open. */
import t from 'tap'
import { once } from 'node:events'
import net from 'node:net'
import { streamOf } from '../../../shared/net/socket-stream.ts'
import { withFirst } from '../../../shared/net/prefixed-stream.ts'
import type { ByteSink } from '../../../shared/net/byte-stream.ts'
import { eventually } from '../../support/eventually.ts'
import { descriptors } from '../../support/process-state.ts'
import { tcpPair } from '../hbone/support.ts'

const nothing: ByteSink = {
  data: () => undefined,
  end: () => undefined,
  drain: () => undefined,
  close: () => undefined
}

t.test('a stream that is cut while its end is on the way leaves no descriptor', async t => {
  const server = net.createServer(socket => socket.on('error', () => undefined).resume())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as net.AddressInfo
  const before = descriptors(process.pid)
  for (let round = 0; round < 20; round += 1) {
    const socket = net.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    const stream = streamOf(socket)
    stream.attach(nothing)
    stream.resume()
    stream.write(Buffer.alloc(10))
    stream.end()
    stream.destroy()
  }
  await eventually('all are closed', () => descriptors(process.pid) <= before, { everyMs: 20 })
  t.ok(descriptors(process.pid) <= before)
})

t.test('a stream that is cut shows its peer a reset, not an end', async t => {
  const [near, far] = await tcpPair(t)
  const told: string[] = []
  far
    .on('error', error => told.push((error as NodeJS.ErrnoException).code ?? ''))
    .on('end', () => told.push('end'))
  far.resume()
  const stream = streamOf(near)
  stream.attach(nothing)
  stream.destroy()
  await new Promise(resolve => far.on('close', resolve))
  t.strictSame(told, ['ECONNRESET'])
})

t.test('events go to whoever attached last', async t => {
  const [near, far] = await tcpPair(t)
  const stream = streamOf(near)
  const told: string[] = []
  const sink = (name: string): ByteSink => ({
    ...nothing,
    data: chunk => told.push(`${name} ${chunk.toString()}`)
  })
  stream.attach(sink('first'))
  stream.resume()
  far.write('a')
  await eventually('the first hears', () => told.length === 1, { everyMs: 5 })
  stream.attach(sink('second'))
  far.write('b')
  await eventually('the second hears', () => told.length === 2, { everyMs: 5 })
  t.strictSame(told, ['first a', 'second b'])
})

t.test('bytes that are put back come first, then what follows, the end, and the close', async t => {
  const [near, far] = await tcpPair(t)
  const inner = streamOf(near)
  const stream = withFirst(inner, Buffer.from('put back, '))
  const told: string[] = []
  stream.attach({
    data: chunk => told.push(chunk.toString()),
    end: () => {
      told.push('end')
      stream.end()
    },
    drain: () => undefined,
    close: error => told.push(`close ${error?.message ?? ''}`)
  })
  far.end('and more')
  await new Promise(resolve => setTimeout(resolve, 20))
  t.strictSame(told, [], 'nothing before it is resumed')
  stream.resume()
  await eventually('it is over', () => told.some(one => one.startsWith('close')), { everyMs: 5 })
  t.strictSame(told, ['put back, ', 'and more', 'end', 'close '])
})
