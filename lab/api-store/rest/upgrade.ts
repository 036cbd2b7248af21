/** Requests that turn into connections: exec and port-forward. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { ApiError, badRequest } from '../api-error.ts'
import type { ApiObject } from '../object.ts'
import { acceptWebSocket, type Channels } from '../websocket.ts'
import { at } from '../json.ts'
import { execProtocols, serveExec } from '../streams/exec.ts'
import { channelProtocols, forwardChannels, forwardSpdy, tunnelProtocols } from '../streams/port-forward.ts'
import { containerOf, running } from './pod-logs.ts'
import { readTarget, type ResourcePath } from './request-target.ts'
import { asApiError, type ServerDeps } from './server.ts'

/** Serves the connection until it ends. A refusal is answered as plain HTTP. */
export async function answerUpgrade(
  deps: ServerDeps,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer
): Promise<void> {
  socket.on('error', () => socket.destroy()) // the client is gone
  let taken = false
  try {
    deps.authenticator.authenticate(request.headers)
    const url = URL.parse(request.url ?? '/', 'https://store')
    const target = url === null ? undefined : readTarget(url.pathname)
    if (url === null || target?.kind !== 'resource' || target.path.plural !== 'pods' || target.group !== '') {
      throw badRequest('only exec and port-forward of pods can be upgraded')
    }
    const upgrade: Upgrade = {
      request,
      url,
      path: target.path,
      pod: runningPod(deps, target.path),
      accept: async protocol => {
        taken = true
        return acceptWebSocket(request, socket, head, protocol, deps.closing)
      },
      take: () => {
        taken = true
        if (head.length > 0) socket.unshift(head)
        return socket
      }
    }
    const { subresource } = target.path
    if (subresource === 'exec') await exec(deps, upgrade)
    else if (subresource === 'portforward') await portForward(deps, upgrade)
    else throw badRequest('only exec and port-forward of pods can be upgraded')
  } catch (error) {
    const refusal = asApiError(error, deps.logger, request)
    if (taken) socket.destroy()
    else refuse(socket, refusal)
  }
}

interface Upgrade {
  readonly request: IncomingMessage
  readonly url: URL
  readonly path: ResourcePath
  readonly pod: ApiObject
  /** From here on the connection is a WebSocket. */
  readonly accept: (protocol: string) => Promise<Channels>
  /** From here on the connection is the handler's. */
  readonly take: () => Duplex
}

function runningPod(deps: ServerDeps, path: ResourcePath): ApiObject {
  const resource = deps.objects.registry.find('', 'v1', 'pods')
  if (resource === undefined) throw new ApiError('NotFound', 'pods are not served')
  const pod = deps.objects.get(resource, path)
  const phase = at(pod, 'status', 'phase')
  if (phase === 'Succeeded' || phase === 'Failed') {
    throw badRequest(
      `cannot exec into or forward to a container in a completed pod; current phase is ${phase}`
    )
  }
  return pod
}

async function exec(deps: ServerDeps, { request, url, path, pod, accept }: Upgrade): Promise<void> {
  const query = url.searchParams
  const flag = (option: string): boolean => ['true', '1'].includes(query.get(option) ?? '')
  const container = containerOf(pod, query.get('container') ?? undefined)
  const command = query.getAll('command')
  if (command.length === 0) throw badRequest('command: Required value: you must specify at least one command')
  const runtime = running(deps.pods())
  const channels = await accept(chooseProtocol(request, execProtocols))
  const options = {
    command,
    stdin: flag('stdin'),
    stdout: flag('stdout'),
    stderr: flag('stderr'),
    tty: flag('tty')
  }
  const where = { namespace: path.namespace, pod: path.name, container }
  await serveExec(channels, runtime, where, options, deps.closing)
}

async function portForward(deps: ServerDeps, { request, url, path, accept, take }: Upgrade): Promise<void> {
  const runtime = running(deps.pods())
  const pod = { namespace: path.namespace, pod: path.name }
  if (request.headers.upgrade?.toLowerCase() === 'spdy/3.1') {
    const socket = take()
    socket.write(`${spdyAnswer.join('\r\n')}\r\n\r\n`)
    return forwardSpdy(socket, runtime, pod, deps.closing)
  }
  const protocol = chooseProtocol(request, [...tunnelProtocols, ...channelProtocols])
  if (tunnelProtocols.includes(protocol)) {
    return forwardSpdy((await accept(protocol)).byteStream(), runtime, pod, deps.closing)
  }
  const ports = readPorts(url)
  return forwardChannels(await accept(protocol), runtime, pod, ports, deps.closing)
}

const spdyAnswer = [
  'HTTP/1.1 101 Switching Protocols',
  'Connection: Upgrade',
  'Upgrade: SPDY/3.1',
  'X-Stream-Protocol-Version: portforward.k8s.io'
]

const maxPorts = 32

function readPorts(url: URL): readonly number[] {
  const ports = url.searchParams
    .getAll('ports')
    .flatMap(text => text.split(','))
    .map(Number)
  const wrong = ports.some(port => !Number.isInteger(port) || port < 1 || port > 65535)
  if (ports.length === 0 || ports.length > maxPorts || wrong) {
    throw badRequest(
      `ports: expected 1 to ${maxPorts} port numbers, found ${JSON.stringify(url.searchParams.getAll('ports'))}`
    )
  }
  return ports
}

/** The first sub-protocol of ours that the client offers. */
function chooseProtocol(request: IncomingMessage, served: readonly string[]): string {
  if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
    throw badRequest(
      `unable to upgrade: only WebSocket is served, the request asks for ${request.headers.upgrade ?? 'nothing'}`
    )
  }
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map(text => text.trim())
  const chosen = served.find(protocol => offered.includes(protocol))
  if (chosen === undefined) {
    throw badRequest(
      `unable to upgrade: none of the sub-protocols ${offered.join(', ')} is served, only ${served.join(', ')}`
    )
  }
  return chosen
}

function refuse(socket: Duplex, error: ApiError): void {
  if (socket.destroyed || !socket.writable) return
  const body = JSON.stringify(error.toStatus())
  const lines = [
    `HTTP/1.1 ${error.code} ${error.reason}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close'
  ]
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`)
}
