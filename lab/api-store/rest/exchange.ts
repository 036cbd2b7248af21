/** One request and its answer. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError, badRequest } from '../api-error.ts'
import type { User } from '../auth/tokens.ts'
import { isObject, type JsonObject } from '../json.ts'

/** Longest body that is read, in bytes, as the API server's. */
const maxBodyBytes = 3 << 20

export class Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly url: URL
  readonly user: User
  readonly #warnings = new Set<string>()

  constructor(request: IncomingMessage, response: ServerResponse, url: URL, user: User) {
    this.request = request
    this.response = response
    this.url = url
    this.user = user
  }

  get method(): string {
    return this.request.method ?? 'GET'
  }

  query(name: string): string | undefined {
    const value = this.url.searchParams.get(name)
    return value === null || value === '' ? undefined : value
  }

  flag(name: string): boolean {
    const value = this.query(name)
    return value === 'true' || value === '1'
  }

  /** A number of the query; undefined when it is not given. Throws 400. */
  number(name: string): number | undefined {
    const value = this.query(name)
    if (value === undefined) return undefined
    if (!/^\d{1,15}$/.test(value))
      throw badRequest(`invalid value for ${name}: ${JSON.stringify(value)} is not a number`)
    return Number(value)
  }

  warn(text: string): void {
    this.#warnings.add(text)
  }

  /** Media type of the body without its parameters. */
  get contentType(): string {
    return (this.request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
  }

  get #hasBody(): boolean {
    const { 'content-length': length = '0', 'transfer-encoding': encoding } = this.request.headers
    return encoding !== undefined || length !== '0'
  }

  async readBody(): Promise<Buffer> {
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of this.request as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > maxBodyBytes)
        throw new ApiError('RequestEntityTooLarge', `the body is longer than ${maxBodyBytes} bytes`)
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  }

  send(status: number, body: unknown, contentType = 'application/json'): void {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    for (const warning of this.#warnings) {
      this.response.appendHeader('warning', `299 - ${JSON.stringify(warning).replaceAll('\\n', ' ')}`)
    }
    this.response.writeHead(status, {
      'content-type': contentType,
      'content-length': Buffer.byteLength(text),
      'cache-control': 'no-cache, private'
    })
    this.response.end(text)
  }

  fail(error: ApiError): void {
    if (this.response.headersSent) {
      this.response.destroy()
      return
    }
    if (error.code === 401) this.response.setHeader('www-authenticate', 'Bearer realm="kubernetes"')
    // what is left of a body is not read, so the connection cannot be used again
    if (this.#hasBody && !this.request.complete) this.response.setHeader('connection', 'close')
    this.send(error.code, error.toStatus())
  }
}

export function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown
  } catch (error) {
    throw badRequest(`the body is not JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
}

export function expectObject(value: unknown): JsonObject {
  if (!isObject(value)) throw badRequest('the body is not an object')
  return value
}
