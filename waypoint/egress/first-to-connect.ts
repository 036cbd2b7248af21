/**
 * One connection to whichever of several addresses takes it first: they are tried one after the other, families in turn,
 * without waiting long for any. Source: RFC 8305 (Happy Eyeballs), sections 4 and 5.
 */
import type net from 'node:net'
import { ipFamily, type Ip } from '../../shared/net/address.ts'
import { MeshError, messageOf } from '../../shared/runtime/errors.ts'

/** Between two tries, where the earlier one has not failed before. */
const usualDelayMs = 250

/** Throws MeshError CONNECT_FAILED where none took it, or the signal's reason. Those that were slower are given up. */
export function firstToConnect(
  addresses: readonly Ip[],
  connect: (address: Ip, signal: AbortSignal) => Promise<net.Socket>,
  signal: AbortSignal,
  delayMs = usualDelayMs
): Promise<net.Socket> {
  const ordered = familiesInTurn(addresses)
  const slower = new AbortController()
  const among = AbortSignal.any([signal, slower.signal])
  return new Promise((resolve, reject) => {
    const failures: string[] = []
    let tried = 0
    let over = false
    let timer: NodeJS.Timeout | undefined
    const finish = (settle: () => void): void => {
      over = true
      clearTimeout(timer)
      settle()
      slower.abort(new Error('another address was faster'))
    }
    const failed = (error: unknown): void => {
      if (over) return
      failures.push(messageOf(error))
      if (signal.aborted) return finish(() => reject(signal.reason as Error))
      if (failures.length < ordered.length) return tryNext()
      const text = `none of ${ordered.length} addresses took the connection: ${failures.join('; ')}`
      finish(() => reject(new MeshError('CONNECT_FAILED', text)))
    }
    const tryNext = (): void => {
      clearTimeout(timer)
      const address = ordered[tried]
      if (address === undefined) return
      tried += 1
      if (tried < ordered.length) timer = setTimeout(tryNext, delayMs)
      connect(address, among).then(socket => {
        if (over) socket.destroy()
        else finish(() => resolve(socket))
      }, failed)
    }
    tryNext()
  })
}

/** As they come, but never two of a family in a row while there is one of the other. */
function familiesInTurn(addresses: readonly Ip[]): readonly Ip[] {
  const [first] = addresses
  const same = addresses.filter(ip => first !== undefined && ipFamily(ip) === ipFamily(first))
  const other = addresses.filter(ip => first !== undefined && ipFamily(ip) !== ipFamily(first))
  const longer = Math.max(same.length, other.length)
  return Array.from({ length: longer }, (_, index) => [same[index], other[index]])
    .flat()
    .filter(ip => ip !== undefined)
}
