/** A tunnel as a Node stream, for TLS or HTTP inside it. The relay does not need it and is cheaper without. */
import { Duplex } from 'node:stream'
import type { Tunnel } from './tunnel.ts'

export function tunnelDuplex(tunnel: Tunnel): Duplex {
  let written: (() => void) | undefined
  let finished = false
  const duplex = new Duplex({
    allowHalfOpen: true,
    read: () => tunnel.resume(),
    write: (chunk: Buffer, _encoding, done) => {
      if (tunnel.write(chunk)) done()
      else written = done
    },
    final: done => {
      tunnel.end()
      done()
    },
    destroy: (error, done) => {
      if (!finished) tunnel.destroy(error ?? undefined)
      written?.()
      done(error)
    }
  })
  tunnel.attach({
    data: chunk => {
      if (!duplex.push(chunk)) tunnel.pause()
    },
    end: () => {
      duplex.push(null)
    },
    drain: () => {
      const done = written
      written = undefined
      done?.()
    },
    close: error => {
      finished = true
      if (error !== undefined) duplex.destroy(error)
      written?.() // what was written is dropped, as a socket does
    }
  })
  return duplex
}
