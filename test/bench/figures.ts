/** What is measured, one function a figure; each returns plain numbers of one run on one contender. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import path from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { Hops } from './hops.ts'
import { interrupted } from './interrupt.ts'
import { bulk, latencyAt, requests } from './load.ts'
import { cpuSeconds, residentMb, workerSeconds } from './process-cost.ts'

/** Where captured clients run, and what they ask. */
type CapturedPath = Pick<Hops, 'clientNamespace' | 'http'>

export type Sample = Readonly<Record<string, number>>

/** CPU seconds of each hop while `work` runs. */
async function cost<T>(
  hops: Hops,
  work: () => Promise<T>
): Promise<{ client: number; server: number; result: T }> {
  const before = [cpuSeconds(hops.clientPid), cpuSeconds(hops.serverPid)] as const
  const result = await work()
  return {
    client: cpuSeconds(hops.clientPid) - before[0],
    server: cpuSeconds(hops.serverPid) - before[1],
    result
  }
}

export async function bulkFigures(hops: Hops, gigabytes: number): Promise<Sample> {
  const forward = await cost(hops, () =>
    bulk(hops.client, hops.iperf, { gigabytes, streams: 1, reverse: false })
  )
  const back = await cost(hops, () => bulk(hops.client, hops.iperf, { gigabytes, streams: 1, reverse: true }))
  const many = await cost(hops, () =>
    bulk(hops.client, hops.iperf, { gigabytes, streams: 8, reverse: false })
  )
  return {
    'bulk, sending hop': forward.client / forward.result.gigabytes,
    'bulk, receiving hop': forward.server / forward.result.gigabytes,
    'bulk reverse, sending hop': back.server / back.result.gigabytes,
    'bulk reverse, receiving hop': back.client / back.result.gigabytes,
    'bulk 8 streams, sending hop': many.client / many.result.gigabytes,
    'bulk 8 streams, receiving hop': many.server / many.result.gigabytes,
    'time per GB, 1 stream': 1 / forward.result.gigabytesPerSecond,
    'time per GB, 8 streams': 1 / many.result.gigabytesPerSecond
  }
}

export async function requestFigures(hops: Hops, seconds: number): Promise<Sample> {
  const url = `http://${hops.http.ip}:${hops.http.port}/`
  const kept = await cost(hops, () => requests(hops.client, url, { seconds, reuse: true }))
  const fresh = await cost(hops, () => requests(hops.client, url, { seconds, reuse: false }))
  return {
    'keep-alive request, client hop': (kept.client / kept.result) * 1e6,
    'keep-alive request, server hop': (kept.server / kept.result) * 1e6,
    'new connection, client hop': (fresh.client / fresh.result) * 1e6,
    'new connection, server hop': (fresh.server / fresh.result) * 1e6,
    'keep-alive requests per second': kept.result / seconds
  }
}

export async function latencyFigures(hops: Hops, perSecond: number, seconds: number): Promise<Sample> {
  const url = `http://${hops.http.ip}:${hops.http.port}/`
  const { p50, p99 } = await latencyAt(hops.client, url, { perSecond, seconds })
  return { 'latency p50': p50, 'latency p99': p99 }
}

/**
 * Kilobytes that one more open connection costs each hop: the growth from `count` to three times as many idle
 * captured connections, so that what the first ones make a process load does not count.
 */
export async function connectionMemory(hops: Hops, count: number): Promise<Sample> {
  const resident = (): readonly [number, number] => [residentMb(hops.clientPid), residentMb(hops.serverPid)]
  await using held = new AsyncDisposableStack()
  held.defer(await holdConnections(hops, count))
  await delay(500)
  const before = resident()
  held.defer(await holdConnections(hops, 2 * count))
  await delay(500)
  const after = resident()
  return {
    'memory per connection, client hop': ((after[0] - before[0]) * 1000) / (2 * count),
    'memory per connection, server hop': ((after[1] - before[1]) * 1000) / (2 * count)
  }
}

/**
 * The share of the work that the less busy of two workers does while `count` connections are opened, in per cent:
 * 50 is an even split. The kernel spreads connections, at the server hop sessions of up to 100 connections each.
 */
export async function workerShares(hops: Hops, count: number): Promise<Sample> {
  const share = (pid: number): (() => number) => {
    const before = workerSeconds(pid)
    return () => {
      const used = workerSeconds(pid).map((seconds, index) => seconds - (before[index] ?? 0))
      return (Math.min(...used) / used.reduce((sum, seconds) => sum + seconds, 0)) * 100
    }
  }
  const [client, server] = [share(hops.clientPid), share(hops.serverPid)]
  const release = await holdConnections(hops, count)
  const sample = {
    'two workers: share of the less busy, client hop': client(),
    'two workers: share of the less busy, server hop': server()
  }
  await release()
  return sample
}

/** Opens captured connections and keeps them until the returned function is called. */
async function holdConnections(hops: Hops, count: number): Promise<() => Promise<void>> {
  const child = spawnCaptured(hops, 'hold', String(count), hops.http.ip, String(hops.http.port))
  const said = await firstLine(child)
  if (said !== 'open') throw new Error(`the holding client said ${JSON.stringify(said)}`)
  return async () => {
    const ended = new Promise(resolve => child.on('close', resolve))
    child.stdin.end()
    await ended
  }
}

/** Milliseconds from the start of a proxy to the first captured request that is answered through it. */
export async function startTime(hops: CapturedPath, start: () => Promise<unknown>): Promise<number> {
  const client = spawnCaptured(hops, 'first', hops.http.ip, String(hops.http.port))
  await delay(500) // the client has loaded and is refused by now
  const started = Date.now()
  const ready = start()
  const answered = Number(await firstLine(client))
  await ready
  return answered - started
}

function spawnCaptured(hops: CapturedPath, ...args: string[]): ChildProcessByStdio<Writable, Readable, null> {
  const client = [process.execPath, path.join(import.meta.dirname, 'captured-client.ts'), ...args]
  const child = spawn('ip', ['netns', 'exec', hops.clientNamespace, ...client], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
    signal: interrupted
  })
  child.on('error', () => undefined) // interrupted; `close` follows
  return child
}

async function firstLine(child: ChildProcessByStdio<Writable, Readable, null>): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (text.includes('\n')) resolve(text.trim())
    })
    child.on('close', () => reject(new Error(`the captured client ended early: ${text}`)))
  })
}
