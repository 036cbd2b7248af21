/** What the first bytes of a client say, also when they come one by one. */
import t from 'tap'
import { detectProtocol, type Detected } from '../../waypoint/detect-protocol.ts'

const situations: readonly (readonly [name: string, bytes: string | Buffer, detected: Detected])[] = [
  ['nothing', '', 'more'],
  ['an HTTP/1.1 request', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', 'http1'],
  ['its method and the beginning of a path', 'DELETE /thi', 'http1'],
  ['a method alone', 'POST', 'more'],
  ['an absolute target', 'GET http://x/ HTTP/1.1\r\n', 'http1'],
  ['OPTIONS of a server', 'OPTIONS * HTTP/1.1\r\n', 'http1'],
  ['an extension method', 'VERSION-CONTROL /x', 'http1'],
  ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0', 'http2'],
  ['the beginning of its preface', 'PRI * HT', 'more'],
  ['a method that begins like it', 'PRINT /x', 'http1'],
  ['TLS', Buffer.from([0x16, 3, 1, 2, 0]), 'tls'],
  ['one byte of TLS', Buffer.from([0x16]), 'more'],
  ['SSH', 'SSH-2.0-OpenSSH_9\r\n', 'tcp'],
  ['SMTP', 'EHLO mail.example\r\n', 'tcp'],
  ['Redis', '*1\r\n$4\r\nPING\r\n', 'tcp'],
  ['words of a text protocol', 'LIST all of it\r\n', 'tcp'],
  ['letters without an end', 'A'.repeat(30), 'tcp'],
  ['bytes', Buffer.from([0, 1, 2]), 'tcp']
]

for (const [name, bytes, detected] of situations) {
  t.test(`${name}: ${detected}`, async t => {
    const all = Buffer.from(bytes)
    t.equal(detectProtocol(all), detected)
    const seen = new Set(Array.from({ length: all.length }, (_, at) => detectProtocol(all.subarray(0, at))))
    for (const early of seen) t.ok(early === 'more' || early === detected, `early ${early}`)
  })
}
