/** What we take, Node's own HTTP server takes for the same: requests are mutated at random, and both are asked. */
import t from 'tap'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { ChunkedBody } from '../../../waypoint/http1/chunked-body.ts'
import { HeadReader } from '../../../waypoint/http1/head-reader.ts'
import { readRequestHead } from '../../../waypoint/http1/request-head.ts'

/** Long enough for some thousand requests; the seed is printed. */
const lastsMs = 6000
const seed = Number(process.env['UNDERPASS_SEED'] ?? Date.now() % 1_000_000)

interface Understood {
  readonly method: string
  readonly target: string
  readonly headers: readonly (readonly string[])[]
  readonly body: string
}

const originals = [
  'GET /a?b=c HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\nx-b: two words\r\n\r\n',
  'POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 11\r\nContent-Type: text/plain\r\n\r\nhello world',
  'POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n',
  'PUT /a HTTP/1.1\r\nHost: shop:8080\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n'
]
const splinters = [
  ...[' ', '\t', '\r', '\n', '\r\n', '\0', ':', ';', ',', '0', '1', 'a', '\x7f', '\xff', '\v', '"'],
  ...[
    'Content-Length: 5\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Host: other\r\n',
    'chunked',
    'HTTP/1.0',
    '\r\n '
  ]
]

/** A linear congruential generator: the same seed makes the same requests. */
function randomly(start: number): (below: number) => number {
  let state = start >>> 0
  return below => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

function mutated(random: (below: number) => number): string {
  let text = originals[random(originals.length)] ?? ''
  for (let times = 1 + random(2); times > 0; times--) {
    const at = random(text.length)
    const splinter = splinters[random(splinters.length)] ?? ''
    const removed = random(3) === 0 ? 0 : random(2) + 1
    text = text.slice(0, at) + splinter + text.slice(at + removed)
  }
  return text
}

/** Undefined where we refuse it, or would wait for more. */
function understoodByUs(bytes: Buffer): Understood | undefined {
  const cut = new HeadReader().push(bytes)
  if (cut.kind !== 'head') return undefined
  const head = readRequestHead(cut.text)
  if (head.kind === 'refused') return undefined
  const { method, target, framing } = head
  const headers = [...head.headers]
  if (framing.kind === 'chunked') {
    let body = ''
    const step = new ChunkedBody().push(cut.rest, data => (body += data.toString('latin1')))
    return step.kind === 'end' ? { method, target, headers, body } : undefined
  }
  const bytesOfBody = framing.kind === 'length' ? framing.bytes : 0
  if (cut.rest.length < bytesOfBody) return undefined
  return { method, target, headers, body: cut.rest.toString('latin1', 0, bytesOfBody) }
}

t.test(`node:http understands the same (seed ${seed})`, async t => {
  const heard: Understood[] = []
  const server = http.createServer((request, response) => {
    let body = ''
    request.setEncoding('latin1')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => {
      const { method = '', url = '', rawHeaders } = request
      const headers = Array.from({ length: rawHeaders.length / 2 }, (_, at) => [
        String(rawHeaders[2 * at]).toLowerCase(),
        String(rawHeaders[2 * at + 1])
      ])
      heard.push({ method, target: url, headers, body })
      response.end()
    })
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  server.on('upgrade', (_request, socket) => socket.destroy())
  server.on('connect', (_request, socket) => socket.destroy())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as net.AddressInfo

  const random = randomly(seed)
  const end = Date.now() + lastsMs
  let [tried, taken, compared] = [0, 0, 0]
  while (Date.now() < end) {
    const bytes = Buffer.from(mutated(random), 'latin1')
    tried += 1
    const ours = understoodByUs(bytes)
    if (ours === undefined) continue
    taken += 1
    heard.length = 0
    const socket = net.connect(port, '127.0.0.1')
    socket.on('error', () => undefined) // the verdict is what the server heard
    socket.resume().end(bytes)
    await once(socket, 'close')
    const [theirs] = heard
    // It knows only the usual methods, for one; what it refuses it cannot misunderstand.
    if (theirs === undefined) continue
    compared += 1
    if (JSON.stringify(theirs) !== JSON.stringify(ours)) {
      t.strictSame(
        { bytes: bytes.toString('latin1'), theirs },
        { bytes: bytes.toString('latin1'), theirs: ours }
      )
      break
    }
  }
  t.comment(`${tried} requests, ${taken} taken by us, ${compared} by both`)
  t.ok(compared > 50, `${compared} requests were compared`)
})
