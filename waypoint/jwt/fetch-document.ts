/** A small document by HTTP or HTTPS, from a server that a policy's author chose: whatever it does is bounded. */
import dns from 'node:dns'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import { cidrContains, parseCidr, parseIp, type Cidr } from '../../shared/net/address.ts'

export interface FetchOptions {
  /** For the whole of it, redirects included. */
  readonly timeoutMs: number
  /** Addresses that are not asked, whatever name leads there. */
  readonly blocked: readonly Cidr[]
  /** Certificates to trust, PEM; undefined: the system's. */
  readonly roots?: readonly string[] | undefined
  readonly signal: AbortSignal
}

const maxBytes = 1024 * 1024
const maxRedirects = 3

/** What is only reachable from here: this host, and the clouds' metadata services. */
export const nearAddresses: readonly Cidr[] = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '::/128',
  '::1/128',
  'fe80::/10',
  'fd00:ec2::/32'
].flatMap(text => parseCidr(text) ?? [])

/** The text of an answer 200; every other end is an Error that names the URL. */
export async function fetchDocument(url: string, options: FetchOptions): Promise<string> {
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutMs)])
  try {
    return await follow(new URL(url), maxRedirects, { ...options, signal })
  } catch (cause) {
    const reason = signal.aborted && !options.signal.aborted ? `no answer in ${options.timeoutMs} ms` : cause
    throw new Error(`${url}: ${reason instanceof Error ? reason.message : String(reason)}`, { cause })
  }
}

async function follow(url: URL, redirects: number, options: FetchOptions): Promise<string> {
  const answer = await ask(url, options)
  const { statusCode = 0, headers } = answer
  if (statusCode === 200) return readText(answer)
  answer.destroy()
  const { location } = headers
  if (![301, 302, 303, 307, 308].includes(statusCode) || location === undefined) {
    throw new Error(`answered ${statusCode}`)
  }
  if (redirects === 0) throw new Error(`more than ${maxRedirects} redirects`)
  const next = new URL(location, url)
  if (next.protocol !== url.protocol) throw new Error(`redirects to ${next.origin}, which has another scheme`)
  return follow(next, redirects - 1, options)
}

async function ask(url: URL, { blocked, roots, signal }: FetchOptions): Promise<http.IncomingMessage> {
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new Error(`${url.protocol} is no scheme to fetch by`)
  const hostname = url.hostname.replace(/^\[|\]$/g, '')
  const refusal = blockedBy(hostname, blocked)
  if (net.isIP(hostname) !== 0 && refusal !== undefined) throw refusal
  const lookup: net.LookupFunction = (name, how, done) => lookUp(name, how, blocked, done)
  // A connection of its own: answers come minutes apart.
  const common = { lookup, signal, agent: false, headers: { accept: 'application/json' } } as const
  return new Promise((resolve, reject) => {
    const request =
      url.protocol === 'https:'
        ? https.request(url, roots === undefined ? common : { ...common, ca: [...roots] })
        : http.request(url, common)
    request.once('response', resolve)
    request.on('error', reject)
    request.end()
  })
}

async function readText(answer: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBytes) throw new Error(`its answer is longer than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** Checks what a name leads to where the connection is made, so that it cannot lead elsewhere afterwards. */
function lookUp(
  name: string,
  how: dns.LookupOptions,
  blocked: readonly Cidr[],
  done: Parameters<net.LookupFunction>[2]
): void {
  dns.lookup(name, { ...how, all: true }, (error, found) => {
    if (error !== null) return done(error, '')
    const refusal = found.map(({ address }) => blockedBy(address, blocked)).find(Boolean)
    if (refusal !== undefined) return done(refusal, '')
    const [first] = found
    if (how.all === true || first === undefined) return done(null, found)
    done(null, first.address, first.family)
  })
}

function blockedBy(text: string, blocked: readonly Cidr[]): Error | undefined {
  const address = parseIp(text)
  if (address !== undefined && !blocked.some(block => cidrContains(block, address))) return undefined
  return new Error(`${text} is not an address that keys may be fetched from`)
}
