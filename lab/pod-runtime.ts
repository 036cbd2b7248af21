/** What the API store serves of running containers: logs, exec and port-forward. */
import { spawn } from 'node:child_process'
import type { Duplex, Readable } from 'node:stream'
import { ip } from '../shared/net/address.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import { ApiError } from './api-store/api-error.ts'
import type { ContainerRef, ExecRequest, LogRequest, PodRuntime } from './api-store/pod-runtime.ts'
import type { ContainerLoop } from './container-loop.ts'
import { quote } from './container-root.ts'
import { dialIn } from './dial.ts'
import type { PodWorker } from './pod-worker.ts'

/** The worker of a pod; undefined when no such pod runs. */
export type FindWorker = (namespace: string, pod: string) => PodWorker | undefined

export function podRuntime(find: FindWorker): PodRuntime {
  return {
    logs: async (container, request, signal) => containerLogs(loopOf(find, container), request, signal),
    exec: async (container, request, signal) => execIn(loopOf(find, container), container, request, signal),
    portForward: async ({ namespace, pod }, port, signal) => forward(find, namespace, pod, port, signal)
  }
}

function containerLogs(loop: ContainerLoop, request: LogRequest, signal: AbortSignal): Readable {
  return loop.log.read(request, signal)
}

function execIn(
  loop: ContainerLoop,
  { container }: ContainerRef,
  request: ExecRequest,
  signal: AbortSignal
): Promise<number> {
  const instance = loop.running
  if (instance?.pid === undefined) throw new ApiError('BadRequest', `container ${container} does not run`)
  const words = instance.enter(request.command)
  // `script` lends a terminal; Node has none to give.
  const [command = '', ...args] = request.tty
    ? ['script', '--quiet', '--return', '--flush', '--command', words.map(quote).join(' '), '/dev/null']
    : words
  const child = spawn(command, args, { stdio: 'pipe', detached: true })
  const kill = (): void => {
    child.kill('SIGKILL')
  }
  signal.addEventListener('abort', kill, { once: true })
  // A command that ends before its input does is no fault.
  child.stdin.on('error', () => undefined)
  request.stdin.pipe(child.stdin)
  child.stdout.pipe(request.stdout, { end: false })
  child.stderr.pipe(request.tty ? request.stdout : request.stderr, { end: false })
  return new Promise((resolve, reject) => {
    child.once('error', error => reject(new ApiError('InternalError', `exec: ${error.message}`)))
    child.once('close', (code, killedBy) => {
      signal.removeEventListener('abort', kill)
      request.stdin.unpipe(child.stdin)
      resolve(code ?? (killedBy === 'SIGKILL' ? 137 : 143))
    })
  })
}

async function forward(
  find: FindWorker,
  namespace: string,
  pod: string,
  port: number,
  signal: AbortSignal
): Promise<Duplex> {
  const netns = find(namespace, pod)?.netns
  if (netns === undefined) throw new ApiError('BadRequest', `pod ${pod} does not run`)
  let failure: unknown
  for (const address of ['127.0.0.1', '::1']) {
    try {
      return await dialIn({ netns, to: { ip: ip(address), port } }, signal)
    } catch (error) {
      // Programs that listen on the other family's loopback address only.
      failure ??= error
    }
  }
  throw new ApiError('InternalError', `nothing answers on port ${port} of pod ${pod}: ${messageOf(failure)}`)
}

function loopOf(find: FindWorker, { namespace, pod, container }: ContainerRef): ContainerLoop {
  const worker = find(namespace, pod)
  const loop = worker?.loop(container)
  if (loop === undefined) {
    throw new ApiError(
      'BadRequest',
      `container ${container} in pod ${pod} is waiting to start: ContainerCreating`
    )
  }
  return loop
}
