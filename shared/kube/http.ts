/**
 * HTTP/1.1 to one API server over kept connections. Node's own client: `docs/decisions/0003-kubernetes-client.md`
 * has the comparison.
 */
import http from 'node:http'
import https from 'node:https'
import { messageOf } from '../runtime/errors.ts'
import type { ClusterAccess } from './config.ts'
import { KubeUnreachableError } from './errors.ts'

export interface HttpRequest {
  readonly method: string
  /** Path and query, added to the server's address. */
  readonly path: string
  readonly body?: string
  readonly contentType?: string
  readonly accept?: string
  /** Ends the request, also while its answer is being read. */
  readonly signal?: AbortSignal | undefined
}

/** An answer whose body has not been read yet. Read it to its end or destroy it. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: http.IncomingMessage
}

/** Longest time until the head of an answer arrives; lists of large clusters take seconds. */
const headTimeoutMs = 60_000

export class HttpClient {
  readonly #access: ClusterAccess
  readonly #base: URL
  readonly #agent: http.Agent
  readonly #userAgent: string

  constructor(access: ClusterAccess, userAgent: string) {
    this.#access = access
    this.#base = new URL(access.server)
    this.#userAgent = userAgent
    this.#agent =
      this.#base.protocol === 'https:'
        ? new https.Agent({ keepAlive: true, maxFreeSockets: 4, timeout: 0, ...access.tls })
        : new http.Agent({ keepAlive: true, maxFreeSockets: 4, timeout: 0 })
  }

  /** Sends a request; refused credentials are renewed and tried once more. Throws {@link KubeUnreachableError}. */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    const answer = await this.#sendOnce(request, await this.#access.authorization(false))
    if (answer.status !== 401) return answer
    const renewed = await this.#access.authorization(true)
    if (renewed === undefined) return answer
    answer.body.resume()
    return this.#sendOnce(request, renewed)
  }

  close(): void {
    this.#agent.destroy()
  }

  async #sendOnce(
    request: HttpRequest,
    authorization: string | undefined,
    again = isIdempotent(request.method)
  ): Promise<HttpAnswer> {
    const { method, body, signal } = request
    signal?.throwIfAborted()
    const headers: Record<string, string> = {
      accept: request.accept ?? 'application/json',
      'user-agent': this.#userAgent
    }
    if (authorization !== undefined) headers['authorization'] = authorization
    if (body !== undefined) {
      headers['content-type'] = request.contentType ?? 'application/json'
      headers['content-length'] = String(Buffer.byteLength(body))
    }
    const client = this.#base.protocol === 'https:' ? https : http
    const prefix = this.#base.pathname === '/' ? '' : this.#base.pathname
    return new Promise((resolve, reject) => {
      const outgoing = client.request({
        host: this.#base.hostname.replace(/^\[|\]$/g, ''),
        port: this.#base.port || (this.#base.protocol === 'https:' ? 443 : 80),
        method,
        path: prefix + request.path,
        headers,
        agent: this.#agent,
        signal
      })
      const timer = setTimeout(
        () => outgoing.destroy(new Error(`no answer within ${headTimeoutMs / 1000} s`)),
        headTimeoutMs
      )
      timer.unref()
      outgoing.once('socket', socket => socket.setKeepAlive(true, 30_000))
      outgoing.once('response', incoming => {
        clearTimeout(timer)
        resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: incoming })
      })
      outgoing.on('error', error => {
        clearTimeout(timer)
        // the server closed a kept connection just when it was used again: nothing has happened there yet
        if (again && outgoing.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET') {
          resolve(this.#sendOnce(request, authorization, false))
        } else {
          reject(signal?.aborted ? error : this.#unreachable(error))
        }
      })
      outgoing.end(body)
    })
  }

  #unreachable(error: Error): KubeUnreachableError {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    const text = `cannot reach the API server ${this.#access.server}: ${messageOf(error) || code}${remedyOf(code)}`
    return new KubeUnreachableError(this.#access.server, text, { cause: error })
  }
}

/** The whole body as text; at most `maxBytes`. */
export async function readBody(body: http.IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBytes) {
      body.destroy()
      throw new Error(`an answer of more than ${maxBytes} bytes`)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, size).toString('utf8')
}

function isIdempotent(method: string): boolean {
  return method === 'GET' || method === 'PUT' || method === 'DELETE'
}

function remedyOf(code: string): string {
  switch (code) {
    case 'ECONNREFUSED':
      return ' (is it running, and is the context right?)'
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
      return ' (its certificate is not signed by certificate-authority of the kubeconfig)'
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return ' (its name does not resolve)'
    default:
      return ''
  }
}
