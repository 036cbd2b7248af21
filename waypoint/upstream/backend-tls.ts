/**
 * TLS towards pods and external hosts that speak it themselves, inside the tunnel where there is one.
 * Source: RFC 6066 section 3 (the name in the hello), RFC 9525 section 6 (names of certificates), RFC 7301 (ALPN).
 */
import { createHash, X509Certificate } from 'node:crypto'
import net from 'node:net'
import tls from 'node:tls'
import { explainAlert, explainChain } from '../../shared/hbone/tls.ts'
import { tunnelDuplex } from '../../shared/hbone/tunnel-duplex.ts'
import type { Tunnel } from '../../shared/hbone/tunnel.ts'
import { uriNames } from '../../shared/identity/certificate.ts'
import type { ByteStream } from '../../shared/net/byte-stream.ts'
import { streamOf } from '../../shared/net/socket-stream.ts'
import { MeshError } from '../../shared/runtime/errors.ts'
import type { BackendTls, ServerName } from '../traffic-policy.ts'

/** What is spoken inside; undefined: nothing that we know. */
export type Alpn = 'h2' | 'http/1.1' | undefined

export class TlsOrigination {
  /** Equal for equal settings: a connection made under others is never used. */
  readonly name: string
  readonly #settings: BackendTls
  #context: tls.SecureContext | undefined

  constructor(settings: BackendTls) {
    this.#settings = settings
    this.name = createHash('sha256').update(JSON.stringify(settings)).digest('base64')
  }

  /**
   * Nothing is sent before the server is known. Throws MeshError TLS_FAILED or the signal's reason; the stream is gone
   * then. `asked`: the name under a wildcard that it is for.
   */
  async secure(
    stream: net.Socket | Tunnel,
    alpn: Alpn,
    signal: AbortSignal,
    asked = ''
  ): Promise<ByteStream> {
    const serverName = this.#settings.serverName.startsWith('*') ? asked : this.#settings.serverName
    const inner = stream instanceof net.Socket ? stream : tunnelDuplex(stream)
    try {
      signal.throwIfAborted()
      const socket = tls.connect({
        socket: inner,
        secureContext: (this.#context ??= contextOf(this.#settings)),
        ...(net.isIP(serverName) === 0 ? { servername: serverName } : {}), // RFC 6066: no addresses
        ...(alpn === undefined ? {} : { ALPNProtocols: [alpn] }),
        // Node would say of a certificate that is refused only why, not which it was.
        rejectUnauthorized: false,
        checkServerIdentity: () => undefined
      })
      await shaken(socket, signal)
      const problem = this.#problemOf(socket, serverName)
      if (problem === undefined) return streamOf(socket)
      socket.destroy()
      throw failure(problem)
    } catch (error) {
      inner.on('error', () => undefined) // its failure is already being reported
      inner.destroy()
      throw error
    }
  }

  #problemOf(socket: tls.TLSSocket, serverName: string): string | undefined {
    const { verified, names } = this.#settings
    if (!verified) return undefined
    const { raw } = socket.getPeerCertificate() as Partial<tls.PeerCertificate>
    if (raw === undefined) return 'the server showed no certificate'
    const leaf = new X509Certificate(raw)
    const shown = `its certificate is for ${namesOf(leaf)}, signed by ${oneLine(leaf.issuer)}`
    // Typed as an Error, but it is OpenSSL's code.
    if (!socket.authorized) return `${explainChain(String(socket.authorizationError))}; ${shown}`
    const expected: readonly ServerName[] =
      names.length > 0 ? names : [{ kind: 'hostname', value: serverName }]
    if (expected.some(name => isFor(leaf, name))) return undefined
    return `the server is another one: ${shown}; expected ${expected.map(({ value }) => value).join(' or ')}`
  }
}

function contextOf({ roots, certificate }: BackendTls): tls.SecureContext {
  return tls.createSecureContext({ ca: roots ?? [...systemRoots()], minVersion: 'TLSv1.2', ...certificate })
}

/** Those of the operating system; those that come with Node where it has none, as in images without a package for them. */
function systemRoots(): readonly string[] {
  const system = tls.getCACertificates('system')
  return system.length > 0 ? system : tls.getCACertificates('default')
}

function shaken(socket: tls.TLSSocket, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      signal.removeEventListener('abort', onAbort)
      socket.off('secureConnect', onSecure)
      socket.off('close', onClose)
      if (error === undefined) resolve()
      else reject(error)
    }
    const onSecure = (): void => settle()
    const onClose = (): void => settle(failure('the server closed the connection during the handshake'))
    const onAbort = (): void => settle(signal.reason as Error)
    socket.once('secureConnect', onSecure)
    socket.once('close', onClose)
    // Stays: whoever takes the socket may not listen yet when it fails.
    socket.on('error', cause => settle(failure(explainAlert(cause), cause)))
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

function failure(reason: string, cause?: Error): MeshError {
  return new MeshError('TLS_FAILED', `tls error: ${reason}`, cause === undefined ? {} : { cause })
}

/** The subject's common name does not count. Source: RFC 9525 section 6.3; wildcards are of the leftmost label alone. */
function isFor(leaf: X509Certificate, { kind, value }: ServerName): boolean {
  if (kind === 'uri') return uriNames(leaf.subjectAltName).includes(value)
  if (net.isIP(value) !== 0) return leaf.checkIP(value) !== undefined
  return leaf.checkHost(value, { subject: 'never', partialWildcards: false }) !== undefined
}

/** As much of it as a line of a log should have. */
function namesOf(leaf: X509Certificate): string {
  // Typed as text, but certificates may have neither.
  const { subjectAltName, subject } = leaf as Partial<X509Certificate>
  const text = subjectAltName ?? `no name at all (subject ${oneLine(subject ?? 'empty')})`
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}

function oneLine(distinguishedName: string): string {
  return distinguishedName.split('\n').join(', ')
}
