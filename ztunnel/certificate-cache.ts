/** A worker's certificates: asked of the main thread once, kept current by it. */
import type { Certificates } from '../shared/identity/certificate-store.ts'
import type { WorkloadCertificate } from '../shared/identity/certificate.ts'
import type { SpiffeId } from '../shared/identity/spiffe-id.ts'

interface Waiting {
  readonly identity: SpiffeId
  readonly resolve: (certificate: WorkloadCertificate) => void
  readonly reject: (error: Error) => void
}

export class CertificateCache implements Certificates {
  readonly #held = new Map<SpiffeId, WorkloadCertificate>()
  /** One question an identity, however many connections wait for it. */
  readonly #asked = new Map<SpiffeId, Promise<WorkloadCertificate>>()
  readonly #waiting = new Map<number, Waiting>()
  readonly #ask: (id: number, identity: SpiffeId) => void
  readonly #now: () => number
  #lastId = 0

  constructor(ask: (id: number, identity: SpiffeId) => void, now: () => number) {
    this.#ask = ask
    this.#now = now
  }

  /** A failure is the main thread's last one, told at once; it is not kept here. */
  async get(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    const held = this.#held.get(identity)
    if (held !== undefined && held.notAfter > this.#now()) return held
    let asked = this.#asked.get(identity)
    if (asked === undefined) {
      asked = this.#question(identity)
      this.#asked.set(identity, asked)
    }
    return abortable(asked, signal)
  }

  answered(id: number, certificate: WorkloadCertificate): void {
    this.#held.set(certificate.identity, certificate)
    this.#take(id)?.resolve(certificate)
  }

  failed(id: number, error: string): void {
    this.#take(id)?.reject(new Error(error))
  }

  renewed(certificate: WorkloadCertificate): void {
    if (this.#held.has(certificate.identity)) this.#held.set(certificate.identity, certificate)
  }

  forget(identity: SpiffeId): void {
    this.#held.delete(identity)
  }

  #question(identity: SpiffeId): Promise<WorkloadCertificate> {
    const id = ++this.#lastId
    const answer = new Promise<WorkloadCertificate>((resolve, reject) => {
      this.#waiting.set(id, { identity, resolve, reject })
    })
    answer.catch(() => undefined) // everybody who waits may have given up
    this.#ask(id, identity)
    return answer
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (waiting !== undefined) this.#asked.delete(waiting.identity)
    return waiting
  }
}

function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error)
    if (signal.aborted) {
      onAbort()
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    const off = (): void => signal.removeEventListener('abort', onAbort)
    work.then(resolve, reject).finally(off)
  })
}
