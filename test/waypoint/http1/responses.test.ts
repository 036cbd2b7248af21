/** Response heads, and how long what follows them is. */
import t from 'tap'
import { readResponseHead } from '../../../waypoint/http1/response-head.ts'

const lines = (...text: readonly string[]): string => text.map(line => `${line}\r\n`).join('')
const chunked = 'Transfer-Encoding: chunked'

const situations: readonly {
  readonly name: string
  readonly text: string
  readonly method?: string
  readonly as: object
}[] = [
  {
    name: 'a length',
    text: lines('HTTP/1.1 200 OK', 'Content-Length: 2'),
    as: { status: 200, framing: { kind: 'length', bytes: 2 }, keepAlive: true }
  },
  {
    name: 'chunks',
    text: lines('HTTP/1.1 200 OK', chunked),
    as: { framing: { kind: 'chunked' }, keepAlive: true }
  },
  {
    name: 'neither: the body ends with the connection',
    text: lines('HTTP/1.1 200 OK'),
    as: { framing: { kind: 'until close' }, keepAlive: false }
  },
  { name: 'no reason', text: lines('HTTP/1.1 404 '), as: { status: 404 } },
  { name: 'no blank either', text: lines('HTTP/1.1 404'), as: { status: 404 } },
  {
    name: 'to HEAD',
    text: lines('HTTP/1.1 200 OK', 'Content-Length: 2'),
    method: 'HEAD',
    as: { framing: { kind: 'none' }, keepAlive: true }
  },
  { name: '204', text: lines('HTTP/1.1 204 No Content'), as: { framing: { kind: 'none' }, keepAlive: true } },
  {
    name: '304',
    text: lines('HTTP/1.1 304 Not Modified', 'Content-Length: 2'),
    as: { framing: { kind: 'none' } }
  },
  { name: '100', text: lines('HTTP/1.1 100 Continue'), as: { status: 100, framing: { kind: 'none' } } },
  { name: 'a tunnel', text: lines('HTTP/1.1 200 OK'), method: 'CONNECT', as: { framing: { kind: 'none' } } },
  {
    name: 'HTTP/1.0 that closes',
    text: lines('HTTP/1.0 200 OK', 'Content-Length: 2'),
    as: { keepAlive: false }
  },
  { name: 'closing', text: lines('HTTP/1.1 200 OK', chunked, 'Connection: close'), as: { keepAlive: false } },
  {
    name: 'length and coding',
    text: lines('HTTP/1.1 200 OK', chunked, 'Content-Length: 2'),
    as: { kind: 'refused', reason: /both/ }
  },
  {
    name: 'length and coding, even where there is no body',
    text: lines('HTTP/1.1 304 Not Modified', chunked, 'Content-Length: 2'),
    as: { kind: 'refused', reason: /both/ }
  },
  { name: 'another protocol', text: lines('ICY 200 OK'), as: { kind: 'refused', reason: /status line/ } },
  { name: 'two digits', text: lines('HTTP/1.1 99 Low'), as: { kind: 'refused', reason: /status line/ } },
  { name: 'HTTP/2', text: lines('HTTP/2 200'), as: { kind: 'refused', reason: /status line/ } },
  { name: 'a reason with a carriage return', text: lines('HTTP/1.1 200 O\rK'), as: { kind: 'refused' } },
  {
    name: 'a folded line',
    text: lines('HTTP/1.1 200 OK', 'X: 1', ' 2'),
    as: { kind: 'refused', reason: /folded/ }
  }
]

for (const { name, text, method = 'GET', as } of situations) {
  t.test(name, async t => {
    t.match(readResponseHead(text, method), { kind: 'response', ...as })
  })
}
