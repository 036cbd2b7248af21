/** The loads: real clients (iperf3, wrk, h2load) in the client's namespace, bounded in time, against servers in the other. */
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { interrupted } from './interrupt.ts'
import { percentile } from './statistics.ts'

/** Runs a command in the client's namespace as the captured user; resolves to its standard output. */
export type RunClient = (command: string, ...args: string[]) => Promise<string>

/** Runs a command to its end and returns what it printed; throws with its errors when it fails. */
export async function run(command: string, args: readonly string[], timeoutMs = 120_000): Promise<string> {
  interrupted.throwIfAborted()
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
    signal: interrupted,
    killSignal: 'SIGKILL'
  })
  child.on('error', () => undefined) // interrupted; `close` follows
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  const status = await new Promise(resolve => child.on('close', (code, signal) => resolve(signal ?? code)))
  interrupted.throwIfAborted()
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${String(status)}: ${err}${out}`)
  return out
}

export interface BulkResult {
  readonly gigabytes: number
  readonly gigabytesPerSecond: number
}

/** Sends `gigabytes` (10^9 bytes) over `streams` connections; `reverse`: the server sends. */
export async function bulk(
  client: RunClient,
  target: { readonly ip: string; readonly port: number },
  { gigabytes, streams, reverse }: { gigabytes: number; streams: number; reverse: boolean }
): Promise<BulkResult> {
  const text = await client(
    'iperf3',
    ...['-c', target.ip, '-p', String(target.port), '-J', '-P', String(streams)],
    ...['-n', String(Math.round((gigabytes * 1e9) / streams)), ...(reverse ? ['-R'] : [])]
  )
  const report = JSON.parse(text) as { end: { sum_received: { bytes: number; seconds: number } } }
  const { bytes, seconds } = report.end.sum_received
  return { gigabytes: bytes / 1e9, gigabytesPerSecond: bytes / 1e9 / seconds }
}

/** Small HTTP requests as fast as 16 connections carry them; returns how many were answered. */
export async function requests(
  client: RunClient,
  url: string,
  { seconds, reuse }: { seconds: number; reuse: boolean }
): Promise<number> {
  const text = await client(
    'wrk',
    '-t1',
    '-c16',
    `-d${seconds}s`,
    ...(reuse ? [] : ['-H', 'Connection: close']),
    url
  )
  const done = Number(/(\d+) requests in/.exec(text)?.[1])
  const failed = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text)
  // Without reuse wrk counts the server's close as a read error; connect errors and timeouts are real ones.
  if (failed !== null && Number(failed[1]) + Number(failed[4]) > 0)
    throw new Error(`requests failed: ${failed[0]}`)
  const refused = /Non-2xx or 3xx responses: (\d+)/.exec(text)
  if (refused !== null) throw new Error(`${refused[1]} of ${done} requests were not answered well`)
  if (!(done > 0)) throw new Error(`wrk answered nothing: ${text}`)
  return done
}

export interface Latency {
  /** Microseconds. */
  readonly p50: number
  readonly p99: number
}

/** Requests on 8 connections, at a fixed rate, or one after the other when it is left out; latencies in microseconds. */
export async function latencyAt(
  client: RunClient,
  url: string,
  {
    perSecond,
    seconds,
    connections = 8
  }: { readonly perSecond?: number; readonly seconds: number; readonly connections?: number }
): Promise<Latency> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-bench-'))
  chmodSync(folder, 0o777) // h2load writes as the captured user
  const log = path.join(folder, 'requests')
  try {
    const rate = perSecond === undefined ? [] : [`--rps=${Math.max(1, Math.round(perSecond / connections))}`]
    await client(
      'h2load',
      '--h1',
      `-c${connections}`,
      '-t1',
      ...rate,
      `-D${seconds}`,
      '--warm-up-time=1',
      `--log-file=${log}`,
      url
    )
    const times = readFileSync(log, 'utf8').trim().split('\n')
    const sorted = times.map(line => Number(line.split('\t')[2])).toSorted((a, b) => a - b)
    return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
