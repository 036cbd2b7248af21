/** Looks at the first bytes of a stream and gives it on with these bytes in front. */
import type { ByteStream } from '../shared/net/byte-stream.ts'
import { withFirst } from '../shared/net/prefixed-stream.ts'
import { detectProtocol, type Detected } from './detect-protocol.ts'

const EMPTY = Buffer.alloc(0)
/** What is looked at, at most. */
const most = 16_384

/**
 * `found` is called once, unless the stream ends before it says anything. After `timeoutMs` of silence, or when the
 * client has ended, what has come is taken for TCP: a server that speaks first has no other chance.
 */
export function sniff(
  stream: ByteStream,
  timeoutMs: number | undefined,
  found: (detected: Exclude<Detected, 'more'>, whole: ByteStream) => void
): void {
  let first: Buffer = EMPTY
  let over = false
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => finish('tcp'), timeoutMs)
  const finish = (detected: Exclude<Detected, 'more'>): void => {
    if (over) return
    over = true
    clearTimeout(timer)
    stream.pause()
    found(detected, withFirst(stream, first))
  }
  stream.attach({
    data: chunk => {
      if (over) return
      first = first.length === 0 ? chunk : Buffer.concat([first, chunk])
      const detected = detectProtocol(first)
      if (detected !== 'more') finish(detected)
      else if (first.length >= most) finish('tcp')
    },
    end: () => {
      if (over) return
      over = true
      clearTimeout(timer)
      stream.destroy() // nothing of sense is that short
    },
    drain: () => undefined,
    close: () => {
      over = true
      clearTimeout(timer)
    }
  })
  stream.resume()
}
