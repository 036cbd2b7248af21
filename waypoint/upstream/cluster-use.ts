/** What one request takes from the limits of its cluster, and tells it of its pods; without a cluster nothing. */
import type { ResponseHead } from '../http/exchange.ts'
import type { Cluster } from './cluster.ts'
import type { Target } from './tunnels.ts'

export class ClusterUse {
  readonly #cluster: Cluster | undefined
  #counted = false
  #retrying = false
  /** Where the latest attempt went. */
  #target: Target | undefined

  constructor(cluster: Cluster | undefined) {
    this.#cluster = cluster
  }

  /** False: as many requests are under way as there may be. */
  begin(): boolean {
    if (this.#cluster === undefined) return true
    return (this.#counted = this.#cluster.requestBegins())
  }

  attempt(target: Target): void {
    this.#target = target
  }

  /** By the pod of the latest attempt. */
  answered(head: ResponseHead): void {
    if (this.#target !== undefined) this.#cluster?.answered(this.#target, statusOf(head))
  }

  /** The latest attempt has no answer. */
  failed(error?: unknown): void {
    if (this.#target !== undefined) this.#cluster?.failed(this.#target, error)
  }

  /** Before another attempt. False: enough requests are being sent again. */
  retry(): boolean {
    if (this.#cluster === undefined) return true
    this.#retryOver()
    return (this.#retrying = this.#cluster.retryBegins())
  }

  /** Idempotent. */
  over(): void {
    this.#retryOver()
    if (this.#counted) this.#cluster?.requestEnded()
    this.#counted = false
  }

  #retryOver(): void {
    if (this.#retrying) this.#cluster?.retryEnded()
    this.#retrying = false
  }
}

/** gRPC tells in a header what HTTP tells by its status. Source: Envoy's published mapping; only errors of the server. */
const serverErrors: Readonly<Record<string, number>> = {
  '2': 500,
  '4': 504,
  '12': 501,
  '13': 500,
  '14': 503,
  '15': 500
}

function statusOf({ status, headers }: ResponseHead): number {
  return status === 200 ? (serverErrors[headers.get('grpc-status') ?? ''] ?? status) : status
}
