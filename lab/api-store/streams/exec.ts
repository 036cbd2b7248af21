/**
 * A command in a container over a WebSocket. Source: Kubernetes, remote command sub-protocols v4 and v5:
 * channels 0 stdin, 1 stdout, 2 stderr, 3 status at the end, 4 size of the terminal; v5 adds 255, the end of a channel.
 */
import { Readable, Writable } from 'node:stream'
import { ApiError } from '../api-error.ts'
import { isObject, type JsonObject } from '../json.ts'
import type { ContainerRef, ExecRequest, PodRuntime } from '../pod-runtime.ts'
import { messageOf } from '../../../shared/runtime/errors.ts'
import type { Channels } from '../websocket.ts'

export const execProtocols = ['v5.channel.k8s.io', 'v4.channel.k8s.io']

const channel = { stdin: 0, stdout: 1, stderr: 2, status: 3, resize: 4, close: 255 } as const

export interface ExecOptions {
  readonly command: readonly string[]
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
  readonly tty: boolean
}

export async function serveExec(
  channels: Channels,
  runtime: PodRuntime,
  container: ContainerRef,
  options: ExecOptions,
  closing: AbortSignal
): Promise<void> {
  const stdin = new Readable({ read: () => channels.resume() })
  if (!options.stdin) stdin.push(null)
  const resizeListeners: ((size: { columns: number; rows: number }) => void)[] = []
  channels.onMessage((number, data) => {
    if (number === channel.stdin && options.stdin && !stdin.readableEnded) {
      if (data.length > 0 && !stdin.push(data)) channels.pause()
    } else if (number === channel.close && data[0] === channel.stdin) stdin.push(null)
    else if (number === channel.resize) {
      const size = readSize(data)
      if (size !== undefined) for (const listener of resizeListeners) listener(size)
    }
  })
  channels.closed.addEventListener('abort', () => stdin.destroy(), { once: true })
  const output = (number: number, wanted: boolean): Writable =>
    new Writable({
      write: (data: Buffer, _encoding, done) => (wanted ? channels.send(number, data, () => done()) : done())
    })
  const request: ExecRequest = {
    command: options.command,
    tty: options.tty,
    stdin,
    stdout: output(channel.stdout, options.stdout),
    stderr: output(channel.stderr, options.stderr && !options.tty),
    onResize: listener => resizeListeners.push(listener)
  }
  const status = await runtime
    .exec(container, request, AbortSignal.any([channels.closed, closing]))
    .then(exitStatus, failure)
  await Promise.all([finished(request.stdout), finished(request.stderr)])
  channels.send(channel.status, Buffer.from(JSON.stringify(status)))
  channels.close()
}

/** Everything that was written has been handed to the connection. */
async function finished(stream: Writable): Promise<void> {
  if (stream.destroyed) return
  await new Promise<void>(resolve => stream.end(resolve))
}

function exitStatus(code: number): JsonObject {
  if (code === 0) return { metadata: {}, status: 'Success' }
  return {
    metadata: {},
    status: 'Failure',
    reason: 'NonZeroExitCode',
    message: `command terminated with non-zero exit code: exit status ${code}`,
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] }
  }
}

function failure(error: unknown): JsonObject {
  if (error instanceof ApiError) return error.toStatus()
  return new ApiError('InternalError', messageOf(error)).toStatus()
}

function readSize(data: Buffer): { columns: number; rows: number } | undefined {
  try {
    const size: unknown = JSON.parse(data.toString('utf8'))
    if (!isObject(size) || typeof size['Width'] !== 'number' || typeof size['Height'] !== 'number')
      return undefined
    return { columns: size['Width'], rows: size['Height'] }
  } catch {
    return undefined // a size that is not JSON changes nothing
  }
}
