/** Several addresses for one connection: who is tried when, who wins, and what becomes of the others. */
import t from 'tap'
import { EventEmitter } from 'node:events'
import type net from 'node:net'
import { ip, type Ip } from '../../../shared/net/address.ts'
import { firstToConnect } from '../../../waypoint/egress/first-to-connect.ts'

interface Try {
  readonly address: Ip
  readonly signal: AbortSignal
  readonly socket: { destroyed: boolean }
  readonly connect: () => void
  readonly fail: (reason: string) => void
}

const never = new AbortController().signal

function race(addresses: readonly string[], { delayMs = 60_000, signal = never } = {}) {
  const tries: Try[] = []
  const told = new EventEmitter()
  const winner = firstToConnect(
    addresses.map(ip),
    (address, signal) =>
      new Promise((resolve, reject) => {
        const socket = { destroyed: false, destroy: () => (socket.destroyed = true) }
        const connect = (): void => resolve(socket as unknown as net.Socket)
        tries.push({ address, signal, socket, connect, fail: reason => reject(new Error(reason)) })
        signal.addEventListener('abort', () => reject(signal.reason as Error))
        told.emit('try')
      }),
    signal,
    delayMs
  )
  const nextTry = (count: number): Promise<void> =>
    new Promise(resolve => {
      const look = (): void => {
        if (tries.length >= count) resolve()
        else told.once('try', look)
      }
      look()
    })
  return { tries, winner, nextTry, at: (index: number) => tries[index] as Try }
}

t.test('families take turns, in the order of the answer', async t => {
  const { tries, winner, nextTry, at } = race(['2a00::1', '2a00::2', '2a00::3', '1.1.1.1', '1.0.0.1'])
  for (let index = 0; index < 5; index += 1) {
    await nextTry(index + 1)
    at(index).fail(`no ${index}`)
  }
  t.strictSame(
    tries.map(({ address }) => address),
    ['2a00::1', '1.1.1.1', '2a00::2', '1.0.0.1', '2a00::3']
  )
  await t.rejects(winner, {
    message: 'none of 5 addresses took the connection: no 0; no 1; no 2; no 3; no 4',
    code: 'CONNECT_FAILED'
  })
})

t.test('who is slow is overtaken and given up', async t => {
  const { winner, nextTry, at } = race(['1.1.1.1', '1.0.0.1'], { delayMs: 1 })
  await nextTry(2)
  at(1).connect()
  t.equal(await winner, at(1).socket as unknown as net.Socket)
  t.equal(at(0).signal.aborted, true)
  t.equal(at(1).socket.destroyed, false)
})

t.test('while one is on its way and in time nobody else is bothered', async t => {
  const { tries, winner, at } = race(['1.1.1.1', '1.0.0.1'])
  at(0).connect()
  await winner
  t.equal(tries.length, 1)
})

t.test('who asks no more gets no connection', async t => {
  const ending = new AbortController()
  const { tries, winner } = race(['1.1.1.1', '1.0.0.1'], { signal: ending.signal })
  ending.abort(new Error('the end'))
  await t.rejects(winner, { message: 'the end' })
  t.equal(tries.length, 1)
})
