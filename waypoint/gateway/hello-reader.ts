/** Waits for a TLS client's hello and puts it back, so that whoever ends TLS finds the connection as it was. */
import type net from 'node:net'
import { readClientHello, type Hello } from './client-hello.ts'

/** Nobody may have read from the socket. Throws where no hello comes in time; the connection is the caller's to end. */
export function awaitClientHello(
  socket: net.Socket,
  timeoutMs: number
): Promise<Exclude<Hello, { kind: 'more' }>> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const settle = (): void => {
      clearTimeout(timer)
      socket.off('readable', read)
      socket.off('end', onEnd)
      socket.off('close', onEnd)
    }
    const onEnd = (): void => {
      settle()
      reject(new Error('the client left before it said hello'))
    }
    const read = (): void => {
      let came = false
      for (
        let chunk = socket.read() as Buffer | null;
        chunk !== null;
        chunk = socket.read() as Buffer | null
      ) {
        chunks.push(chunk)
        came = true
      }
      if (!came) return
      const whole = Buffer.concat(chunks)
      const hello = readClientHello(whole)
      if (hello.kind === 'more') {
        chunks.splice(0, chunks.length, whole)
        return
      }
      settle()
      socket.unshift(whole)
      resolve(hello)
    }
    const timer = setTimeout(() => {
      settle()
      reject(new Error(`no hello within ${timeoutMs} ms`))
    }, timeoutMs)
    timer.unref()
    socket.on('readable', read)
    socket.once('end', onEnd)
    socket.once('close', onEnd)
  })
}
