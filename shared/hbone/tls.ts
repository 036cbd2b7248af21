/**
 * Mutual TLS between workloads: TLS 1.3, ALPN `h2`, no SNI, no resumption, SPIFFE identities on both sides.
 *
 * The client checks the peer inside the handshake. The server finishes the handshake with any client
 * (`rejectUnauthorized: false`, since otherwise Node tells nobody why it hung up) and then lets
 * {@link verifyPeer} decide before it reads or writes one byte of HTTP/2.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { constants } from 'node:crypto'
import net from 'node:net'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'
import { uriNames, type WorkloadCertificate } from '../identity/certificate.ts'
import { keepChain } from '../identity/revocation.ts'
import { parseSpiffeId, spiffeParts, type SpiffeId } from '../identity/spiffe-id.ts'
import { messageOf, MeshError } from '../runtime/errors.ts'

export type PeerVerdict =
  | { readonly kind: 'trusted'; readonly identity: SpiffeId; readonly notAfter: number }
  | { readonly kind: 'refused'; readonly reason: string }

export interface SecurePeer {
  /** Nothing has been read from it. */
  readonly socket: tls.TLSSocket
  readonly peer: SpiffeId
  /** End of the peer certificate's validity, ms since the epoch. */
  readonly notAfter: number
}

/** What may differ from TLS 1.3 with the usual groups. */
export interface TlsParameters {
  /** Take TLS 1.2, too, with ECDHE and AES-GCM only; default false. */
  readonly tls12?: boolean
  /** `pqc`: only the key exchange X25519MLKEM768, which resists quantum computers; default `none`. */
  readonly compliance?: 'none' | 'pqc'
  /** A server keeps each client's whole chain for revocation lists; default false: the leaf only. */
  readonly wholeChain?: boolean
}

export interface HandshakeOptions extends TlsParameters {
  /** Milliseconds for the whole handshake; default 10 s. */
  readonly timeoutMs?: number
}

const defaultTimeoutMs = 10_000
const clientAuth = '1.3.6.1.5.5.7.3.2'

/**
 * What both sides agree on. AES-256 first, as ztunnels have it. No tickets that hold a session: one that is
 * resumed would not be checked against today's roots and clock. HTTP/2 forbids renegotiation.
 */
function parametersOf({ tls12 = false, compliance = 'none' }: TlsParameters): tls.SecureContextOptions {
  const suites13 = ['TLS_AES_256_GCM_SHA384', 'TLS_AES_128_GCM_SHA256']
  const suites12 = [
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES128-GCM-SHA256'
  ]
  return {
    minVersion: tls12 ? 'TLSv1.2' : 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    ciphers: (tls12 ? [...suites13, ...suites12] : suites13).join(':'),
    ...(compliance === 'pqc' && { ecdhCurve: 'X25519MLKEM768' })
  }
}

/** Parsed once per certificate; a pure function's memory. Parameters are one set in a process, two in a test. */
const contexts = new WeakMap<WorkloadCertificate, Map<string, tls.SecureContext>>()
const servers = new WeakMap<WorkloadCertificate, Map<string, tls.Server>>()

/** Options for `tls.connect`. Throws MeshError when the certificate cannot be used. */
export function clientTls(
  certificate: WorkloadCertificate,
  expected: readonly SpiffeId[],
  parameters: TlsParameters = {}
): tls.ConnectionOptions {
  return {
    secureContext: contextOf(certificate, parameters),
    ALPNProtocols: ['h2'],
    rejectUnauthorized: true,
    checkServerIdentity: (_host, peer) => checkExpected(peer, expected)
  }
}

/** Options for `tls.createServer`; whoever uses them must call {@link verifyPeer}. */
export function serverTls(certificate: WorkloadCertificate, parameters: TlsParameters = {}): tls.TlsOptions {
  return {
    ...parametersOf(parameters),
    ...credentials(certificate),
    ALPNProtocols: ['h2'],
    requestCert: true,
    rejectUnauthorized: false
  }
}

/** The client's handshake on a connected stream. Throws MeshError TLS_FAILED or the signal's reason; the socket is gone then. */
export async function connectTls(
  socket: net.Socket | Duplex,
  certificate: WorkloadCertificate,
  expected: readonly SpiffeId[],
  signal: AbortSignal,
  options: HandshakeOptions = {}
): Promise<SecurePeer> {
  signal.throwIfAborted()
  const secure = tls.connect({
    ...clientTls(certificate, expected, options),
    socket
  })
  await handshake(socket, options, signal, (done, fail) => {
    secure.once('secureConnect', done)
    secure.once('error', error => fail(explainClientFailure(error)))
    secure.once('close', () =>
      fail(new MeshError('TLS_FAILED', 'tls error: the peer closed the connection during the handshake'))
    )
  })
  if (secure.alpnProtocol !== 'h2') {
    secure.destroy()
    throw new MeshError(
      'TLS_FAILED',
      'tls error: the peer does not speak HTTP/2 (it chose no ALPN protocol "h2")'
    )
  }
  // Not getPeerX509Certificate: on a client's socket it takes the leaf away, and nobody could look it up any more.
  const leaf: tls.PeerCertificate | null = secure.getPeerCertificate() // null once the socket is gone
  const names = uriNames(leaf?.subjectaltname)
  const peer = expected.find(identity => names.includes(identity))
  if (leaf === null || peer === undefined) {
    secure.destroy()
    throw new MeshError('TLS_FAILED', 'tls error: the peer showed no expected identity')
  }
  return { socket: secure, peer, notAfter: Date.parse(leaf.valid_to) }
}

/** The server's handshake and every check of the peer. Throws MeshError TLS_FAILED or the signal's reason; the socket is gone then. */
export async function acceptTls(
  socket: net.Socket | Duplex,
  certificate: WorkloadCertificate,
  signal: AbortSignal,
  options: HandshakeOptions = {}
): Promise<SecurePeer> {
  signal.throwIfAborted()
  const secure = await handshake<tls.TLSSocket>(socket, options, signal, (done, fail) => {
    socket.once('close', () =>
      fail(new MeshError('TLS_FAILED', 'tls error: the peer closed the connection during the handshake'))
    )
    arrivals.run({ done, fail }, () => serverOf(certificate, options).emit('connection', socket))
  })
  const verdict = verifyPeer(secure, spiffeParts(certificate.identity).trustDomain)
  if (verdict.kind === 'refused') {
    secure.destroy()
    throw new MeshError('TLS_FAILED', `tls error: ${verdict.reason}`)
  }
  return { socket: secure, peer: verdict.identity, notAfter: verdict.notAfter }
}

/**
 * Every check of a client's certificate: its chain, what it may be used for, a workload's identity, and that
 * one such identity is of our trust domain. Each refusal has its own text.
 */
export function verifyPeer(socket: tls.TLSSocket, trustDomain: string): PeerVerdict {
  const refuse = (reason: string): PeerVerdict => ({ kind: 'refused', reason })
  const leaf = socket.getPeerX509Certificate()
  if (leaf === undefined) return refuse('the peer showed no certificate')
  // Typed as an Error, but on a server's sockets it is OpenSSL's code.
  if (!socket.authorized) return refuse(explainChain(String(socket.authorizationError)))
  // Absent means any use (RFC 5280 section 4.2.1.12). OpenSSL has checked it too; this does not depend on it.
  const uses = leaf.keyUsage as readonly string[] | undefined
  if (uses !== undefined && !uses.includes(clientAuth)) return refuse(explainChain('INVALID_PURPOSE'))
  const names = uriNames(leaf.subjectAltName)
  if (names.length === 0) return refuse('the peer certificate has no URI SAN, so it names no workload')
  const identities = names.map(parseSpiffeId).filter(id => id !== undefined)
  const [identity] = identities
  if (identity === undefined)
    return refuse(`the peer certificate has no SPIFFE identity of a workload: ${names.join(', ')}`)
  if (!identities.some(id => spiffeParts(id).trustDomain === trustDomain)) {
    return refuse(`wrong trust domain: the peer is ${identity}, our trust domain is ${trustDomain}`)
  }
  return { kind: 'trusted', identity, notAfter: Date.parse(leaf.validTo) }
}

// ---- inside

interface Arrival {
  done(socket: tls.TLSSocket): void
  fail(error: Error): void
}

/** Leads from a socket that a tls.Server made back to the call that handed it the raw one. */
const arrivals = new AsyncLocalStorage<Arrival>()

function serverOf(certificate: WorkloadCertificate, parameters: TlsParameters): tls.Server {
  return remembered(servers, certificate, parameters, () => {
    const server = tls.createServer(serverTls(certificate, parameters))
    if (parameters.wholeChain === true) server.on('keylog', keepChainInTime())
    server.on('secureConnection', socket => arrivals.getStore()?.done(socket))
    server.on('tlsClientError', error => {
      arrivals
        .getStore()
        ?.fail(new MeshError('TLS_FAILED', `tls error: ${explainAlert(error)}`, { cause: error }))
    })
    return server
  })
}

/** No other event tells of a server's socket before Node authorizes it. The keys are not looked at. */
function keepChainInTime(): (keys: Buffer, socket: tls.TLSSocket) => void {
  const seen = new WeakSet<tls.TLSSocket>()
  return (_keys, socket) => {
    if (seen.has(socket)) return
    seen.add(socket)
    socket.prependOnceListener('secure', () => keepChain(socket))
  }
}

function contextOf(certificate: WorkloadCertificate, parameters: TlsParameters): tls.SecureContext {
  return remembered(contexts, certificate, parameters, () =>
    tls.createSecureContext({ ...parametersOf(parameters), ...credentials(certificate) })
  )
}

function remembered<T>(
  memory: WeakMap<WorkloadCertificate, Map<string, T>>,
  certificate: WorkloadCertificate,
  { tls12 = false, compliance = 'none', wholeChain = false }: TlsParameters,
  make: () => T
): T {
  const known = memory.get(certificate) ?? new Map<string, T>()
  const name = `${tls12} ${compliance} ${wholeChain}`
  let value = known.get(name)
  if (value === undefined) {
    try {
      value = make()
    } catch (cause) {
      throw new MeshError('IDENTITY_FAILED', 'our own certificate cannot be used for TLS', { cause })
    }
    memory.set(certificate, known.set(name, value))
  }
  return value
}

function credentials(certificate: WorkloadCertificate): tls.SecureContextOptions {
  return {
    cert: certificate.chainPem.join(''),
    key: certificate.keyPem,
    ca: [...certificate.rootsPem]
  }
}

/** One outcome out of success, failure, timeout and abort; the socket is destroyed unless it succeeds. */
async function handshake<T>(
  socket: net.Socket | Duplex,
  options: HandshakeOptions,
  signal: AbortSignal,
  begin: (done: (value: T) => void, fail: (error: Error) => void) => void
): Promise<T> {
  const { timeoutMs = defaultTimeoutMs } = options
  // Small frames must not wait for the peer's acknowledgement of earlier ones.
  if (socket instanceof net.Socket) socket.setNoDelay(true)
  let onAbort: (() => void) | undefined
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<T>((resolve, reject) => {
      onAbort = () => reject(signal.reason)
      signal.addEventListener('abort', onAbort)
      timer = setTimeout(() => {
        reject(new MeshError('TLS_FAILED', `tls error: no handshake within ${timeoutMs} ms`))
      }, timeoutMs)
      timer.unref()
      begin(resolve, reject)
    })
  } catch (error) {
    socket.on('error', () => undefined) // its failure is already being reported
    socket.destroy()
    throw error
  } finally {
    clearTimeout(timer)
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}

function checkExpected(peer: tls.PeerCertificate, expected: readonly SpiffeId[]): Error | undefined {
  const names = uriNames(peer.subjectaltname)
  if (names.some(name => expected.some(identity => identity === name))) return undefined
  if (names.length === 0)
    return new MeshError(
      'TLS_FAILED',
      'tls error: the peer certificate has no URI SAN, so it names no workload'
    )
  const wanted =
    expected.length === 0 ? 'nobody (no identity is known for this destination)' : expected.join(' or ')
  const domains = new Set(expected.map(identity => spiffeParts(identity).trustDomain))
  const sameDomain = names
    .map(parseSpiffeId)
    .some(id => id !== undefined && domains.has(spiffeParts(id).trustDomain))
  const what = sameDomain || domains.size === 0 ? 'wrong identity' : 'wrong trust domain'
  return new MeshError(
    'TLS_FAILED',
    `tls error: ${what}: the peer is ${names.join(', ')}, expected ${wanted}`
  )
}

function explainClientFailure(error: Error): MeshError {
  if (error instanceof MeshError) return error
  const code = 'code' in error ? String(error.code) : ''
  const text = code in chainProblems ? explainChain(code) : explainAlert(error)
  return new MeshError('TLS_FAILED', `tls error: ${text}`, { cause: error })
}

/** What OpenSSL's verification result means to an operator. */
const chainProblems: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'the peer certificate (or one of its chain) has expired',
  CERT_NOT_YET_VALID: 'the peer certificate (or one of its chain) is not yet valid; compare the clocks',
  INVALID_PURPOSE: 'wrong key usage: the peer certificate may not be used for this side of TLS',
  INVALID_CA: 'the peer certificate was signed by one that is no certificate authority',
  PATH_LENGTH_EXCEEDED: 'the chain of the peer certificate is longer than its authority allows',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'unknown root: the chain of the peer certificate ends at no root that we trust',
  UNABLE_TO_GET_ISSUER_CERT: 'unknown root: the chain of the peer certificate ends at no root that we trust',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    'unknown root: the chain of the peer certificate ends at no root that we trust',
  SELF_SIGNED_CERT_IN_CHAIN: 'unknown root: the peer sent a root that we do not trust',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'unknown root: the peer certificate is self-signed',
  CERT_SIGNATURE_FAILURE: 'unknown root: a root that we trust has this name but not this key',
  CERT_REJECTED: 'the peer certificate is rejected for this use'
}

/** A verification result of OpenSSL. */
export function explainChain(code: string): string {
  return chainProblems[code] ?? `the peer certificate is not valid (${code})`
}

/** TLS alerts and connection errors, with what OpenSSL calls them in plain words. */
export function explainAlert(error: Error): string {
  const code = 'code' in error ? String(error.code) : ''
  if (code === 'ECONNRESET') return 'the peer closed the connection during the handshake'
  if (/ALERT_/.test(code))
    return `the peer refused the handshake: ${code
      .replace(/^.*ALERT_/, '')
      .replaceAll('_', ' ')
      .toLowerCase()}`
  if (code === 'ERR_SSL_UNSUPPORTED_PROTOCOL') return 'the peer does not offer TLS 1.3'
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_HTTP_REQUEST')
    return 'the peer does not speak TLS on this port'
  return messageOf(error)
}
