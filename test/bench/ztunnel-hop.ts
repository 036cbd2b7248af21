/** One ztunnel, ours or the Rust one, in dedicated mode inside a namespace. Logs at warn: the access log is off. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { interrupted } from './interrupt.ts'
import { run } from './load.ts'

export interface ZtunnelOptions {
  /** The command up to its arguments. */
  readonly program: readonly string[]
  readonly netns: string
  /** Name of the workload `bench/<role>` and of its log in the folder. */
  readonly role: string
  readonly folder: string
  /** More variables; they win. `LOCAL_XDS_PATH` or `XDS_ADDRESS` say where the mesh comes from. */
  readonly env: Readonly<Record<string, string>>
}

const READY_PORT = 15021

/** Starts it and waits until it is ready: it knows the mesh and listens. */
export async function startZtunnel(options: ZtunnelOptions): Promise<ChildProcess> {
  const { program, netns, role, folder, env } = options
  const file = path.join(folder, `${role}.log`)
  const log = openSync(file, 'w')
  const child = spawn('nsenter', [`--net=/run/netns/${netns}`, ...program, 'proxy', 'ztunnel'], {
    stdio: ['ignore', log, log],
    detached: true, // a Ctrl-C is for the benchmark, which ends it in order
    cwd: folder,
    env: {
      PATH: process.env['PATH'],
      PROXY_MODE: 'dedicated',
      PROXY_WORKLOAD_INFO: `bench/${role}/${role}`,
      NODE_NAME: role,
      XDS_ADDRESS: '',
      CA_ADDRESS: '',
      FAKE_CA: 'true',
      ENABLE_ORIG_SRC: 'false',
      ZTUNNEL_WORKER_THREADS: '1',
      RUST_LOG: 'warn',
      ISTIO_META_DNS_CAPTURE: 'false',
      ...env
    }
  })
  closeSync(log)
  const ready = ['curl', '-sf', '-o', '/dev/null', `http://127.0.0.1:${READY_PORT}/healthz/ready`]
  try {
    for (let attempt = 0; attempt < 400; attempt += 1) {
      interrupted.throwIfAborted()
      if (child.exitCode !== null)
        throw new Error(`${program.join(' ')} ended with ${child.exitCode}: ${lastWords(file)}`)
      if (await succeeds('ip', ['netns', 'exec', netns, ...ready])) return child
      await delay(25)
    }
    throw new Error(`${program.join(' ')} was not ready within 10 s: ${lastWords(file)}`)
  } catch (error) {
    await end(child)
    throw error
  }
}

/** The end of a log, which goes with the benchmark's folder. */
export function lastWords(file: string): string {
  return readFileSync(file, 'utf8').slice(-1000).trim()
}

async function succeeds(command: string, args: readonly string[]): Promise<boolean> {
  return run(command, args, 2000).then(
    () => true,
    () => false
  )
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise(resolve => child.on('close', resolve))
  child.kill('SIGKILL')
  await ended
}

/** A workload of the namespace `bench` as a line of a local configuration. */
export function workloadLine(name: string, ip: string): string {
  return `- {uid: c//Pod/bench/${name}, name: ${name}, namespace: bench, serviceAccount: ${name}, trustDomain: cluster.local, workloadIps: [${ip}], protocol: HBONE, node: ${name}, services: {}}`
}
