/**
 * An API server with pods whose ports lead to HTTP handlers of the test: enough of Kubernetes for the
 * command line to find agents and reach them by port-forward.
 */
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { WebSocketServer } from 'ws'
import type { Pod } from '../../shared/kube/core-api.ts'
import type { KubeObject } from '../../shared/kube/object.ts'
import { answerJson, answerStatus, scriptedServer } from '../shared/kube/scripted-server.ts'

export type PodHandler = (
  request: IncomingMessage & { readonly content: string },
  response: ServerResponse
) => void

export interface FakePod {
  readonly pod: Pod
  /** What answers on each port. */
  readonly ports?: Readonly<Record<number, PodHandler>>
}

export interface FakeCluster {
  readonly kubeconfig: string
  /** Pods and ports that were forwarded, `pod:port`. */
  readonly forwarded: string[]
  /** The most port-forwards that were open at once. */
  readonly mostAtOnce: () => number
}

interface Options {
  readonly pods: readonly FakePod[]
  /** Other objects, by plural. */
  readonly objects?: Readonly<Record<string, readonly KubeObject[]>>
  /** Requests that are refused: method and path start like this. */
  readonly forbid?: readonly string[]
  /** What pods wrote, by their name. */
  readonly logs?: Readonly<Record<string, string>>
}

interface Test {
  teardown(fn: () => void): unknown
  testdir(content: Record<string, string>): string
}

export async function fakeCluster(
  t: Test,
  { pods, objects = {}, forbid = [], logs = {} }: Options
): Promise<FakeCluster> {
  const forwarded: string[] = []
  let open = 0
  let most = 0
  const server = await scriptedServer(t, (asked, response) => {
    if (forbid.some(prefix => `${asked.method} ${asked.url}`.startsWith(prefix))) {
      return answerStatus(
        response,
        403,
        'Forbidden',
        `user "test" cannot ${asked.method} ${asked.url.split('?')[0]}`
      )
    }
    const url = new URL(asked.url, 'https://x')
    const [, version] = /^\/(?:api|apis)\/((?:[^/]+\/)?v1)$/.exec(url.pathname) ?? []
    if (version !== undefined) return answerJson(response, { resources: served(objects, version) })
    const [, logged] = /\/pods\/([^/]+)\/log$/.exec(url.pathname) ?? []
    if (logged !== undefined) {
      const text = url.searchParams.get('previous') === 'true' ? undefined : logs[logged]
      if (text === undefined) return answerStatus(response, 400, 'BadRequest', `no log of ${logged}`)
      response.writeHead(200, { 'content-type': 'text/plain' })
      response.end(text)
      return undefined
    }
    const [, namespace, plural = '', name] =
      /^\/(?:api|apis\/[^/]+)\/v1(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+))?$/.exec(url.pathname) ?? []
    const all: readonly KubeObject[] =
      plural === 'pods' ? pods.map(({ pod }) => pod) : (objects[plural] ?? [])
    const labels = (url.searchParams.get('labelSelector') ?? '').split(',').filter(Boolean)
    const found = all.filter(
      ({ metadata }) =>
        (namespace === undefined || metadata.namespace === namespace) &&
        (name === undefined || metadata.name === name) &&
        labels.every(pair => `${pair.split('=')[0]}=${metadata.labels?.[pair.split('=')[0] ?? '']}` === pair)
    )
    if (name === undefined) return answerJson(response, { metadata: { resourceVersion: '1' }, items: found })
    const [only] = found
    if (only === undefined) return answerStatus(response, 404, 'NotFound', `${plural} "${name}" not found`)
    return answerJson(response, only)
  })

  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: offered => (offered.has('v4.channel.k8s.io') ? 'v4.channel.k8s.io' : false)
  })
  server.https.on('upgrade', (request, socket, head) => {
    const url = new URL(request.url ?? '', 'https://x')
    const name = url.pathname.split('/')[6] ?? ''
    const port = Number(url.searchParams.get('ports'))
    if (forbid.some(prefix => `CONNECT ${url.pathname}`.startsWith(prefix))) {
      const body = JSON.stringify({
        kind: 'Status',
        reason: 'Forbidden',
        message: `pods "${name}" is forbidden`,
        code: 403
      })
      return socket.end(
        `HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`
      )
    }
    forwarded.push(`${name}:${port}`)
    return sockets.handleUpgrade(request, socket, head, webSocket => {
      open += 1
      most = Math.max(most, open)
      const portBytes = [port & 0xff, port >> 8]
      webSocket.send(Buffer.from([0, ...portBytes]))
      webSocket.send(Buffer.from([1, ...portBytes]))
      webSocket.on('close', () => (open -= 1))
      webSocket.on('error', () => undefined)
      const handler = pods.find(({ pod }) => pod.metadata.name === name)?.ports?.[port]
      if (handler === undefined) {
        webSocket.send(
          Buffer.concat([
            Buffer.from([1]),
            Buffer.from(`dial tcp4 127.0.0.1:${port}: connect: connection refused`)
          ])
        )
        return webSocket.close(1000)
      }
      return serve(t, handler, upstream => {
        webSocket.on('message', (data: Buffer) => upstream.write(data.subarray(1)))
        webSocket.on('close', () => upstream.destroy())
        upstream.on('data', (data: Buffer) => webSocket.send(Buffer.concat([Buffer.from([0]), data])))
        upstream.on('close', () => webSocket.close(1000))
        upstream.on('error', () => undefined)
      })
    })
  })

  const folder = t.testdir({
    kubeconfig: JSON.stringify({
      clusters: [
        {
          name: 'c',
          cluster: {
            server: server.url,
            'certificate-authority-data': Buffer.from(server.caPem).toString('base64')
          }
        }
      ],
      users: [{ name: 'u', user: { token: 'test-token' } }],
      contexts: [{ name: 'fake', context: { cluster: 'c', user: 'u', namespace: 'shop' } }],
      'current-context': 'fake'
    })
  })
  return { kubeconfig: path.join(folder, 'kubeconfig'), forwarded, mostAtOnce: () => most }
}

/** A real HTTP server for one connection. */
function serve(t: Test, handler: PodHandler, connected: (upstream: net.Socket) => void): void {
  const server = http.createServer((request, response) => {
    let content = ''
    request.setEncoding('utf8').on('data', (text: string) => (content += text))
    request.on('end', () => handler(Object.assign(request, { content }), response))
  })
  server.listen(0, '127.0.0.1', () => {
    const { port } = server.address() as net.AddressInfo
    const upstream = net.connect(port, '127.0.0.1', () => connected(upstream))
    upstream.on('close', () => server.close())
  })
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
}

export function fakePod(
  name: string,
  node: string,
  labels: Readonly<Record<string, string>> = {},
  more: {
    namespace?: string
    annotations?: Record<string, string>
    phase?: 'Running' | 'Pending'
    serviceAccount?: string
    hostNetwork?: boolean
  } = {}
): Pod {
  const {
    namespace = 'istio-system',
    annotations = {},
    phase = 'Running',
    serviceAccount = 'default',
    hostNetwork = false
  } = more
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, uid: `uid-${name}`, labels, annotations },
    spec: { ...(node === '' ? {} : { nodeName: node }), serviceAccountName: serviceAccount, hostNetwork },
    status: { phase, conditions: [{ type: 'Ready', status: phase === 'Running' ? 'True' : 'False' }] }
  }
}

/** A ztunnel on a node that answers these paths, such as `GET /config_dump`, with text or JSON. */
/** What discovery says: the kinds of which there are objects. */
function served(objects: Readonly<Record<string, readonly KubeObject[]>>, apiVersion: string): object[] {
  return Object.entries(objects).flatMap(([name, [first]]) =>
    first?.apiVersion === apiVersion
      ? [{ name, kind: first.kind, namespaced: first.metadata.namespace !== undefined }]
      : []
  )
}

export function ztunnelPod(node: string, answers: Readonly<Record<string, unknown>>): FakePod {
  return { pod: fakePod(`ztunnel-${node}`, node, { app: 'ztunnel' }), ports: { 15000: answering(answers) } }
}

export function nodeAgentPod(node: string, answers: Readonly<Record<string, unknown>>): FakePod {
  return {
    pod: fakePod(`istio-cni-node-${node}`, node, { 'k8s-app': 'istio-cni-node' }),
    ports: { 15016: answering(answers) }
  }
}

export function controlPlanePod(answers: Readonly<Record<string, unknown>>): FakePod {
  return { pod: fakePod('istiod-0', 'node-1', { app: 'istiod' }), ports: { 15014: answering(answers) } }
}

/** A function is called with the request's body; anything else is the answer. */
export function answering(answers: Readonly<Record<string, unknown>>): PodHandler {
  return (request, response) => {
    const found = answers[`${request.method} ${request.url}`]
    if (found === undefined) return void response.writeHead(404).end('no such path\n')
    const value: unknown =
      typeof found === 'function' ? (found as (content: string) => unknown)(request.content) : found
    if (typeof value === 'string') return void response.end(value)
    return answerJson(response, value)
  }
}
