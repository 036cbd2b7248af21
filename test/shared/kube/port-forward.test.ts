import t from 'tap'
import { WebSocketServer, type WebSocket } from 'ws'
import { KubeClient } from '../../../shared/kube/client.ts'
import { readBody } from '../../../shared/kube/http.ts'
import { portForward, requestThrough } from '../../../shared/kube/port-forward.ts'
import { answerStatus, scriptedServer } from './scripted-server.ts'

const target = { namespace: 'shop', pod: 'cart-0', port: 15000 }
const portMessage = (channel: number): Buffer => Buffer.from([channel, 15000 & 0xff, 15000 >> 8])

/** An API server whose only pod answers on its forwarded port as `serve` says. */
async function forwarder(
  t: { teardown(fn: () => void): unknown },
  serve: (socket: WebSocket) => void,
  protocol = 'v4.channel.k8s.io'
) {
  const server = await scriptedServer(t, () => undefined)
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: offered => (offered.has(protocol) ? protocol : false)
  })
  const asked: string[] = []
  server.https.on('upgrade', (request, socket, head) => {
    asked.push(`${request.url} ${request.headers.authorization} ${request.headers['sec-websocket-protocol']}`)
    // what a pod says at once arrives in one piece with the answer to the upgrade
    socket.cork()
    setImmediate(() => socket.uncork())
    sockets.handleUpgrade(request, socket, head, webSocket => {
      webSocket.on('error', () => undefined)
      webSocket.send(portMessage(0))
      webSocket.send(portMessage(1))
      serve(webSocket)
    })
  })
  const client = new KubeClient(server.access)
  t.teardown(() => client.close())
  return { client, asked }
}

t.test('HTTP works through a forwarded port, in pieces of any size', async t => {
  const { client, asked } = await forwarder(t, socket => {
    let request = ''
    socket.on('message', (data: Buffer) => {
      t.equal(data[0], 0)
      request += data.subarray(1).toString()
      if (!request.endsWith('{"q":1}')) return
      t.match(request, /^POST \/v1\/explain HTTP\/1\.1\r\n/)
      t.match(request, /host: localhost\r\n/i)
      for (const piece of ['HTTP/1.1 200 OK\r\ncontent-', 'length: 5\r\n\r\nhe', 'llo']) {
        socket.send(Buffer.concat([Buffer.from([0]), Buffer.from(piece)]))
      }
      socket.close(1000)
    })
  })
  const signal = AbortSignal.timeout(10_000)
  const connection = await portForward(client, target, signal)
  const response = await requestThrough(
    connection,
    { method: 'POST', path: '/v1/explain', body: '{"q":1}' },
    signal
  )
  t.equal(response.statusCode, 200)
  t.equal(await readBody(response, 1000), 'hello')
  t.strictSame(asked, [
    '/api/v1/namespaces/shop/pods/cart-0/portforward?ports=15000 Bearer test-token v5.channel.k8s.io,v4.channel.k8s.io'
  ])
})

t.test('a body that ends with the connection ends in order', async t => {
  const { client } = await forwarder(t, socket => {
    socket.once('message', () => {
      socket.send(Buffer.concat([Buffer.from([0]), Buffer.from('HTTP/1.1 200 OK\r\n\r\nline\n')]))
      socket.close(1000)
    })
  })
  const signal = AbortSignal.timeout(10_000)
  const response = await requestThrough(
    await portForward(client, target, signal),
    { method: 'GET', path: '/' },
    signal
  )
  t.equal(await readBody(response, 1000), 'line\n')
})

t.test('a port that nobody listens on is named', async t => {
  const { client } = await forwarder(t, socket => {
    socket.send(
      Buffer.concat([Buffer.from([1]), Buffer.from('dial tcp4 127.0.0.1:15000: connection refused')])
    )
    socket.close(1000)
  })
  const signal = AbortSignal.timeout(10_000)
  const connection = await portForward(client, target, signal)
  await t.rejects(requestThrough(connection, { method: 'GET', path: '/' }, signal), {
    message: /port 15000 of pod shop\/cart-0: dial tcp4 .*connection refused/
  })
})

t.test('an error is told at once, also when the server does not hang up', async t => {
  const { client } = await forwarder(t, socket => {
    socket.pause() // it will not even read our part of the closing
    socket.send(Buffer.concat([Buffer.from([1]), Buffer.from('nothing answers')]))
    socket.close(1000)
  })
  const signal = AbortSignal.timeout(10_000)
  const connection = await portForward(client, target, signal)
  await t.rejects(requestThrough(connection, { method: 'GET', path: '/' }, signal), {
    message: /nothing answers/
  })
})

t.test('a slow reader stops the pod: bytes that wait are bounded', async t => {
  let sent = 0
  const { client } = await forwarder(t, socket => {
    const chunk = Buffer.alloc(64 << 10)
    const pump = (): void => {
      if (sent >= 64 << 20 || socket.readyState !== socket.OPEN) return
      sent += chunk.length
      socket.send(chunk, () => setImmediate(pump))
    }
    pump()
  })
  const stop = new AbortController()
  const connection = await portForward(client, target, stop.signal)
  connection.on('error', () => undefined)
  let last = -1
  while (last !== sent) {
    last = sent
    await new Promise(resolve => setTimeout(resolve, 150))
  }
  t.ok(sent < 40 << 20, `the pod sent ${sent >> 20} MiB that nobody read`)
  t.ok(connection.readableLength < 1 << 20)
  stop.abort()
})

t.test('v5 says when one side has ended', async t => {
  const { client } = await forwarder(
    t,
    socket => {
      socket.on('message', (data: Buffer) => {
        if (data[0] !== 255) return
        socket.send(Buffer.concat([Buffer.from([0]), Buffer.from('after your end')]))
        socket.send(Buffer.from([255, 0]))
      })
    },
    'v5.channel.k8s.io'
  )
  const connection = await portForward(client, target, AbortSignal.timeout(10_000))
  connection.end('x')
  let text = ''
  for await (const chunk of connection) text += String(chunk)
  t.equal(text, 'after your end')
})

t.test('a refusal carries the permission that is missing; a server without WebSocket is named', async t => {
  const server = await scriptedServer(t, (asked, response) =>
    asked.url.includes('cart-0')
      ? answerStatus(response, 403, 'Forbidden', 'pods "cart-0" is forbidden')
      : void response.writeHead(400).end('Upgrade request required')
  )
  const client = new KubeClient(server.access)
  const signal = AbortSignal.timeout(10_000)
  await t.rejects(portForward(client, target, signal), {
    name: 'KubeError',
    status: 403,
    message: 'pods "cart-0" is forbidden',
    needs: 'create pods/portforward in namespace shop'
  })
  await t.rejects(portForward(client, { ...target, pod: 'x' }, signal), {
    name: 'KubeError',
    status: 400,
    message: /^400: Upgrade request required; port-forward needs WebSocket all the way/
  })
  const away = new KubeClient({ ...server.access, server: 'http://127.0.0.1:1' })
  await t.rejects(portForward(away, target, signal), {
    name: 'KubeUnreachableError',
    message: /ECONNREFUSED/
  })
})

t.test('a signal ends a forwarded connection', async t => {
  const { client } = await forwarder(t, () => undefined)
  const stop = new AbortController()
  const connection = await portForward(client, target, stop.signal)
  const closed = new Promise(resolve => connection.once('close', resolve))
  connection.on('error', () => undefined)
  connection.resume()
  stop.abort()
  await closed
  await t.rejects(portForward(client, target, stop.signal))
})
