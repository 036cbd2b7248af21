/** Whom a TLS client on the way out names in its hello, which goes on as it came. */
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import { withFirst } from '../../shared/net/prefixed-stream.ts'
import { readClientHello } from '../gateway/client-hello.ts'

export interface Named {
  /** In lower case; undefined where the client names nobody. */
  readonly serverName: string | undefined
  /** The stream with its hello in front. */
  readonly whole: ByteStream
}

/** Rejects where no hello comes in time, and where what comes is none; the stream is the caller's to end. */
export function readServerName(stream: ByteStream, timeoutMs: number): Promise<Named> {
  return new Promise((resolve, reject) => {
    let first = Buffer.alloc(0)
    let over = false
    const finish = (settle: () => void): void => {
      if (over) return
      over = true
      clearTimeout(timer)
      stream.pause()
      settle()
    }
    const fail = (reason: string): void => finish(() => reject(new Error(reason)))
    const timer = setTimeout(() => fail(`no TLS hello within ${timeoutMs} ms`), timeoutMs)
    stream.attach({
      data: chunk => {
        first = Buffer.concat([first, chunk])
        if (over) return
        const hello = readClientHello(first)
        if (hello.kind === 'refused') return fail(hello.reason)
        if (hello.kind === 'more') return
        const { serverName } = hello
        finish(() => resolve({ serverName, whole: withFirst(stream, first) }))
      },
      end: () => fail('the client left before its TLS hello was whole'),
      drain: () => undefined,
      close: () => fail('the client left before its TLS hello was whole')
    })
    stream.resume()
  })
}
