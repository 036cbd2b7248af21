/**
 * Certificates that were taken back (`CRL_PATH`), on one worker: their holders are refused before one byte of
 * HTTP/2, and when the lists change, live sessions with them end with all their connections.
 */
import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { WorkloadCertificate } from '../shared/identity/certificate.ts'
import { chainOf, checkRevoked, type RevocationList } from '../shared/identity/revocation.ts'
import { MeshError } from '../shared/runtime/errors.ts'
import type { Metrics } from '../shared/telemetry/metrics.ts'
import type { workerFamilies } from './families.ts'

/** Which end of the session is ours: `source` dialled. */
type Reporter = 'source' | 'destination'

/** A server's or a client's session. */
export interface RevocableSession {
  /** Aborts when the session is over. */
  readonly closed: AbortSignal
  /** Cuts every connection of it; they report this reason. */
  destroy(reason: Error): void
}

interface Live {
  readonly reporter: Reporter
  /** The peer's chain. */
  readonly shown: readonly X509Certificate[]
  /** What we showed the peer; names the issuers that both trust. */
  readonly own: WorkloadCertificate
  readonly session: RevocableSession
}

export class Revocations {
  readonly #metrics: Metrics<typeof workerFamilies>
  /** Undefined: no lists are configured, so there is nothing to look up, now or later. */
  #list: RevocationList | undefined
  readonly #live = new Set<Live>()

  constructor(metrics: Metrics<typeof workerFamilies>) {
    this.#metrics = metrics
  }

  get configured(): boolean {
    return this.#list !== undefined
  }

  /**
   * Makes the session of a handshake that was just done, if no certificate of the peer's chain was taken back.
   * Throws MeshError PEER_REVOKED otherwise, TLS_FAILED when there is no telling; the socket is gone then.
   */
  admit<S extends RevocableSession>(
    reporter: Reporter,
    socket: TLSSocket,
    own: WorkloadCertificate,
    make: () => S
  ): S {
    if (this.#list === undefined) return make()
    const shown = chainOf(socket)
    try {
      this.#requireChain(reporter, shown)
      checkRevoked(this.#list, shown, own)
    } catch (error) {
      socket.destroy()
      this.#count(reporter, error)
      throw error
    }
    const session = make()
    this.#watch({ reporter, shown, own, session })
    return session
  }

  /** Ends the sessions whose peers these lists take back; returns how many. */
  replace(list: RevocationList): number {
    this.#list = list
    let ended = 0
    for (const { reporter, shown, own, session } of this.#live) {
      try {
        checkRevoked(list, shown, own)
      } catch (error) {
        // Whatever kept us from checking, too: who cannot be checked is not let through.
        session.destroy(error instanceof Error ? error : new Error(String(error)))
        this.#count(reporter, error)
        ended += 1
      }
    }
    return ended
  }

  #watch(live: Live): void {
    const { closed } = live.session
    if (closed.aborted) return
    this.#live.add(live)
    closed.addEventListener('abort', () => this.#live.delete(live), { once: true })
  }

  /** A socket that broke meanwhile has forgotten who its peer was. */
  #requireChain(reporter: Reporter, shown: readonly X509Certificate[]): void {
    if (shown.length > 0) return
    this.#metrics.series('istio_crl_untracked_connections_total', reporter).add()
    throw new MeshError(
      'TLS_FAILED',
      'tls error: the peer certificate cannot be looked up in revocation lists'
    )
  }

  #count(reporter: Reporter, error: unknown): void {
    const revoked = error instanceof MeshError && error.code === 'PEER_REVOKED'
    if (revoked) this.#metrics.series('istio_crl_policy_rejections_total', reporter).add()
  }
}
