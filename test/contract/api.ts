/** Plain requests to a Kubernetes API server, ours or the real one, for suites that run against both. */
import type { IncomingMessage } from 'node:http'
import https from 'node:https'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'

export interface ApiAccess {
  /** `https://127.0.0.1:PORT`. */
  readonly server: string
  readonly token: string
  readonly caPem: string
}

// What a server answers is looked at, not relied upon: every level is a record of anything.
export interface Body {
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly [field: string]: any
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Body
  readonly text: string
}

export interface RequestOptions {
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  /** Replaces the administrator's token; '' sends none. */
  readonly token?: string
}

export interface WatchEvent {
  readonly type: string
  readonly object: Body
}

export const patchType = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml'
} as const

/** Longest wait for something that has to come. */
const patienceMs = 20_000

export class Api {
  readonly #access: ApiAccess
  readonly #agent: https.Agent

  constructor(access: ApiAccess) {
    this.#access = access
    this.#agent = new https.Agent({ keepAlive: true, ca: access.caPem })
  }

  async get(path: string, options: RequestOptions = {}): Promise<Answer> {
    return this.request('GET', path, undefined, options)
  }

  async post(path: string, body: unknown, options: RequestOptions = {}): Promise<Answer> {
    return this.request('POST', path, body, options)
  }

  async put(path: string, body: unknown, options: RequestOptions = {}): Promise<Answer> {
    return this.request('PUT', path, body, options)
  }

  async patch(
    path: string,
    kind: keyof typeof patchType,
    body: unknown,
    options: RequestOptions = {}
  ): Promise<Answer> {
    const headers = { 'content-type': patchType[kind], ...options.headers }
    return this.request('PATCH', path, body, { ...options, headers })
  }

  async delete(path: string, body?: unknown, options: RequestOptions = {}): Promise<Answer> {
    return this.request('DELETE', path, body, options)
  }

  async request(method: string, path: string, body: unknown, options: RequestOptions = {}): Promise<Answer> {
    const response = await this.#send(method, path, body, options)
    let text = ''
    for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) text += chunk
    const json = /json/.test(response.headers['content-type'] ?? '') || text.startsWith('{')
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      text,
      body: json ? (JSON.parse(text) as Body) : {}
    }
  }

  /** Opens a watch; throws when it is refused. */
  async watch(
    path: string,
    query: Readonly<Record<string, string>> = {},
    headers: Readonly<Record<string, string>> = {}
  ): Promise<Watch> {
    const response = await this.#send('GET', path, undefined, { query: { ...query, watch: 'true' }, headers })
    if (response.statusCode !== 200) throw new Error(`the watch was answered with ${response.statusCode}`)
    return new Watch(response)
  }

  close(): void {
    this.#agent.destroy()
  }

  async #send(
    method: string,
    path: string,
    body: unknown,
    options: RequestOptions
  ): Promise<IncomingMessage> {
    const url = new URL(path, this.#access.server)
    for (const [name, value] of Object.entries(options.query ?? {})) url.searchParams.append(name, value)
    const token = options.token ?? this.#access.token
    const text = body === undefined ? undefined : Buffer.isBuffer(body) ? body : JSON.stringify(body)
    const request = https.request(url, {
      method,
      agent: this.#agent,
      headers: {
        'user-agent': 'contract/1',
        accept: 'application/json',
        ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
        ...(text === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
        ...options.headers
      }
    })
    request.end(text)
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    return response
  }
}

/** The events of a watch, in order, each with a bounded wait. */
export class Watch {
  readonly #events: WatchEvent[] = []
  readonly #response: IncomingMessage
  #wake: (() => void) | undefined
  #rest = ''
  #ended = false

  constructor(response: IncomingMessage) {
    this.#response = response
    response.setEncoding('utf8')
    response.on('data', (text: string) => this.#read(text))
    response.on('error', () => undefined) // closed by the test
    response.on('close', () => {
      this.#ended = true
      this.#wake?.()
    })
  }

  /** The next event that is not a bookmark. */
  async next(): Promise<WatchEvent> {
    const event = await this.nextOfAny()
    return event.type === 'BOOKMARK' ? this.next() : event
  }

  async nextOfAny(): Promise<WatchEvent> {
    const deadline = Date.now() + patienceMs
    for (;;) {
      const event = this.#events.shift()
      if (event !== undefined) return event
      if (this.#ended) throw new Error('the watch has ended')
      const left = deadline - Date.now()
      if (left <= 0) throw new Error('no event came')
      await Promise.race([
        new Promise<void>(resolve => (this.#wake = resolve)),
        delay(left, undefined, { ref: false })
      ])
    }
  }

  /** Resolves when the server has ended the watch. */
  async ended(): Promise<void> {
    if (!this.#ended) await once(this.#response, 'close', { signal: AbortSignal.timeout(patienceMs) })
  }

  close(): void {
    this.#response.destroy()
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) if (line !== '') this.#events.push(JSON.parse(line) as WatchEvent)
    this.#wake?.()
  }
}
