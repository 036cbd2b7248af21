/** A pod runtime of processes of this machine: commands run as they are, ports are those of an echo server. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { Readable } from 'node:stream'
import { ApiError } from '../../lab/api-store/api-error.ts'
import type { LogRequest, PodRuntime } from '../../lab/api-store/pod-runtime.ts'

export interface TestRuntime {
  readonly runtime: PodRuntime
  readonly logRequests: LogRequest[]
  /** Sizes that the terminal was set to. */
  readonly sizes: { columns: number; rows: number }[]
  /** Logs that are being followed. */
  readonly following: () => number
  /** Connections to the echo server that are open. */
  readonly connections: () => number
}

/** Port 80 echoes, port 81 says `bye` and ends, port 1 refuses. */
export async function startRuntime(t: { teardown(fn: () => void): unknown }): Promise<TestRuntime> {
  const echo = net.createServer(socket => socket.on('error', () => undefined).pipe(socket))
  const bye = net.createServer(socket => socket.on('error', () => undefined).end('bye'))
  for (const server of [echo, bye]) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
  }
  const logRequests: LogRequest[] = []
  const sizes: { columns: number; rows: number }[] = []
  let open = 0
  let followed = 0
  const runtime: PodRuntime = {
    logs: async ({ container }, request, signal) => {
      logRequests.push(request)
      const lines = Readable.from([`first of ${container}\n`, 'second\n'])
      if (!request.follow) return lines
      const endless = new Readable({ read: () => undefined })
      endless.push('following\n')
      followed += 1
      endless.once('close', () => {
        followed -= 1
      })
      signal.addEventListener('abort', () => endless.destroy(), { once: true })
      return endless
    },
    exec: async (_container, request, signal) => {
      const [command = '', ...args] = request.command
      if (command === 'refused') throw new ApiError('BadRequest', 'the container does not run')
      request.onResize(size => sizes.push(size))
      const child = spawn(command, args, { stdio: 'pipe', signal })
      child.stdin.on('error', () => undefined)
      request.stdin.pipe(child.stdin)
      child.stdout.pipe(request.stdout, { end: false })
      child.stderr.pipe(request.tty ? request.stdout : request.stderr, { end: false })
      return new Promise((resolve, reject) => {
        child.once('error', reject)
        child.once('close', code => resolve(code ?? 137))
      })
    },
    portForward: async (_pod, port) => {
      if (port === 1) throw new Error('connection refused')
      const server = port === 80 ? echo : bye
      const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
      await once(socket, 'connect')
      open += 1
      socket.once('close', () => {
        open -= 1
      })
      return socket
    }
  }
  return { runtime, logRequests, sizes, connections: () => open, following: () => followed }
}
