/** What is done with each message of a pod's applications, and what is counted and logged of it. */
import type { Workload } from '../../shared/mesh/model.ts'
import type { SocketAddress } from '../../shared/net/address.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { Pod } from '../pod.ts'
import { answerFor, type DnsAnswer, type DnsClient } from './answer.ts'
import type { DnsConfig } from './config.ts'
import {
  answerCount,
  largestMessage,
  Rcode,
  readMessage,
  udpLimit,
  writeAnswer,
  writeFailure,
  type Query
} from './message.ts'

export type DnsProtocol = 'udp' | 'tcp'

/** A message for the resolver; exactly one of its ends is to be called. */
export interface Forwarding {
  readonly kind: 'forward'
  answered(reply: Buffer): void
  /** Returns what to tell the client; undefined when the message was too short to have an answer. */
  failed(reason: string): Buffer | undefined
}

export type Verdict =
  | Forwarding
  | { readonly kind: 'reply'; readonly reply: Buffer }
  | { readonly kind: 'drop' }

/** Seconds that clients may keep our answers. */
const ttlSeconds = 30
const types: Readonly<Record<number, string>> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  6: 'SOA',
  12: 'PTR',
  15: 'MX',
  16: 'TXT',
  28: 'AAAA',
  33: 'SRV',
  35: 'NAPTR',
  43: 'DS',
  48: 'DNSKEY',
  64: 'SVCB',
  65: 'HTTPS',
  252: 'AXFR',
  255: 'ANY',
  257: 'CAA'
}

export class DnsDesk {
  readonly resolvers: readonly SocketAddress[]
  readonly #pod: Pod
  readonly #client: DnsClient
  readonly #settings: Parameters<typeof answerFor>[4]
  readonly #log: Logger
  readonly #now: () => number

  /** `now` in milliseconds, only going forward. */
  constructor(pod: Pod, config: DnsConfig, log: Logger, now: () => number) {
    const { namespace } = pod.description.info
    const { domain, searchDomains } = config
    this.resolvers = config.resolvers
    this.#pod = pod
    this.#log = log
    this.#now = now
    this.#client = {
      namespace,
      domain,
      searchDomains: searchDomains ?? [`${namespace}.svc.${domain}`, `svc.${domain}`, domain],
      network: pod.config.network,
      clusterId: pod.config.clusterId
    }
    this.#settings = {
      ipv6: pod.config.ipv6,
      preferredNamespace: config.preferredNamespace,
      random: pod.random
    }
  }

  /** Answers what the mesh knows. What it does not understand is not its own, and so for the resolver. */
  judge(bytes: Buffer, protocol: DnsProtocol): Verdict {
    const message = readMessage(bytes)
    if (message.kind === 'response') {
      const reply = writeFailure(bytes, Rcode.formatError)
      return reply === undefined ? { kind: 'drop' } : { kind: 'reply', reply }
    }
    const query = message.kind === 'query' ? message : undefined
    const { source, answer } = this.#pod.mesh.read(view => ({
      source: this.#source(view),
      answer: query === undefined ? unknown : this.#answer(view, query)
    }))
    const labels = labelsOf(query, protocol, source)
    this.#pod.metrics.series('istio_dns_requests_total', ...labels).add()
    if (answer.result === 'forwarded' || query === undefined) {
      return this.#forwarding(Buffer.from(bytes), query, labels)
    }
    const known = answer.result === 'success' ? answer : { alias: undefined, addresses: [] }
    this.#note(query, answer.result, known.addresses.length)
    const limit = protocol === 'udp' ? udpLimit(query) : largestMessage
    return { kind: 'reply', reply: writeAnswer(query, { ...known, ttl: ttlSeconds }, limit) }
  }

  #answer(view: Parameters<typeof answerFor>[0], { name, type }: Query): DnsAnswer {
    if (type !== 1 && type !== 28) return unknown
    return answerFor(view, name, type === 1 ? 4 : 6, this.#client, this.#settings)
  }

  #source(view: Parameters<typeof answerFor>[0]): Workload | undefined {
    const { namespace, name, serviceAccount } = this.#pod.description.info
    return view.workloadByName(namespace, name, serviceAccount)
  }

  #forwarding(message: Buffer, query: Query | undefined, labels: readonly string[]): Forwarding {
    const { metrics } = this.#pod
    const started = this.#now()
    metrics.series('istio_dns_upstream_requests_total', ...labels).add()
    const observe = (): void =>
      metrics
        .series('istio_dns_upstream_request_duration_seconds', ...labels)
        .observe((this.#now() - started) / 1000)
    return {
      kind: 'forward',
      answered: reply => {
        observe()
        this.#note(query, 'forwarded', answerCount(reply))
      },
      failed: reason => {
        observe()
        metrics.series('istio_dns_upstream_failures_total', ...labels).add()
        this.#note(query, `forwarding failed (${reason})`, 0)
        return writeFailure(message, Rcode.serverFailure)
      }
    }
  }

  #note(query: Query | undefined, result: string, endpoints: number): void {
    if (!this.#log.enabled('debug')) return
    const { name, namespace } = this.#pod.description.info
    this.#log.debug('', {
      'src.workload': name,
      'src.namespace': namespace,
      query: query === undefined ? undefined : typeOf(query),
      domain: query === undefined ? undefined : `${query.name}.`,
      result,
      endpoints
    })
  }
}

const unknown: DnsAnswer = { result: 'forwarded' }

/** Types that nobody uses share a series, or an application could make as many as there are numbers. */
function typeOf({ type }: Query): string {
  return types[type] ?? 'UNKNOWN'
}

function labelsOf(
  query: Query | undefined,
  protocol: DnsProtocol,
  source: Workload | undefined
): readonly string[] {
  return [
    (query === undefined ? 'UNKNOWN' : typeOf(query)).toLowerCase(),
    protocol,
    source?.canonicalName ?? 'unknown',
    source?.canonicalRevision ?? 'unknown'
  ]
}
