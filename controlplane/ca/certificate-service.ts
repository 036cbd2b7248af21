/**
 * The certificate service: who calls, which identity they may have, one certificate.
 * Source: Istio's published `IstioCertificateService`.
 */
import { parseSpiffeId, spiffeId, type SpiffeId } from '../../shared/identity/spiffe-id.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import { message, type Message } from '../../shared/xds/schema.ts'
import { authenticate } from '../access/authenticate.ts'
import type { CertificateAuthority } from './authority.ts'
import type { CallInfo, Refusal, Status } from '../serve/grpc-server.ts'
import type { metricFamilies } from '../metrics.ts'
import { callerPod, type NodeAuthorizer } from '../access/node-authorizer.ts'
import type { Caller, TokenAuthenticator } from '../access/token.ts'

interface CertificateRequest {
  readonly csr?: string
  readonly validityDuration?: number
  readonly metadata?: { readonly fields?: Readonly<Record<string, { readonly stringValue?: string }>> }
}

export interface CaServerOptions {
  readonly authority: CertificateAuthority
  readonly tokens: TokenAuthenticator
  readonly authorizer: NodeAuthorizer
  readonly trustDomain: () => string
  readonly log: Logger
  readonly metrics: Metrics<typeof metricFamilies>
  /** Aborts when the program ends. */
  readonly signal: AbortSignal
}

const certificateRequest: Message<CertificateRequest> = message('istio.v1.auth.IstioCertificateRequest')
const certificateResponse: Message<{ readonly certChain: readonly string[] }> = message(
  'istio.v1.auth.IstioCertificateResponse'
)

/** What a refused impersonation says to the one who asked; the reason is in the log. */
const opaqueDenial = 'request impersonation authentication failure'
/** Trailer with the code of a {@link NodeAuthorizer} denial, for callers that are node agents. */
export const denialTrailer = 'underpass-denial'

type Answer = { readonly kind: 'answer'; readonly message: Buffer } | Refusal

export function caServer(options: CaServerOptions): (info: CallInfo, request: Buffer) => Promise<Answer> {
  return async (info, bytes) => {
    try {
      return await createCertificate(options, info, bytes)
    } catch (error) {
      options.log.error('issuing a certificate failed', { remote: info.remote, error: messageOf(error) })
      throw error
    }
  }
}

async function createCertificate(options: CaServerOptions, info: CallInfo, bytes: Buffer): Promise<Answer> {
  const { metrics, log } = options
  metrics.series('citadel_server_csr_count').add()
  const authentication = await authenticate(info, options.tokens, options.trustDomain())
  if (authentication.kind !== 'caller') {
    metrics.series('citadel_server_authentication_failure_count').add()
    log.warn('refused a certificate', { remote: info.remote, reason: authentication.reason })
    const status = authentication.kind === 'unavailable' ? 'UNAVAILABLE' : 'UNAUTHENTICATED'
    return refused(status, authentication.reason)
  }
  const { caller } = authentication
  const request = decode(bytes)
  if (request === undefined) return refused('INVALID_ARGUMENT', 'the request is no IstioCertificateRequest')
  const identity = await identityFor(options, caller, request)
  if (typeof identity !== 'string') return identity
  const issued = options.authority.issue({
    csrPem: request.csr ?? '',
    identity,
    ttlSeconds: request.validityDuration ?? 0
  })
  if (issued.kind === 'refused') {
    metrics.series('citadel_server_csr_sign_error_count', 'CSR_ERROR').add()
    log.warn('refused a certificate', { identity, caller: callerPod(caller), reason: issued.problem })
    return refused('INVALID_ARGUMENT', issued.problem)
  }
  metrics.series('citadel_server_success_cert_issuance_count').add()
  log.debug('issued a certificate', { identity, caller: callerPod(caller) })
  return { kind: 'answer', message: certificateResponse.encode({ certChain: issued.certChain }) }
}

function decode(bytes: Buffer): CertificateRequest | undefined {
  try {
    return certificateRequest.decode(bytes)
  } catch {
    return undefined // the caller is told that it is none
  }
}

/** The caller's own identity, or that of a workload on its node. */
async function identityFor(
  options: CaServerOptions,
  caller: Caller,
  request: CertificateRequest
): Promise<SpiffeId | Refusal> {
  const { authorizer, log, metrics, signal } = options
  const wanted = request.metadata?.fields?.['ImpersonatedIdentity']?.stringValue ?? ''
  if (wanted === '') return spiffeId({ trustDomain: options.trustDomain(), ...caller })
  const identity = parseSpiffeId(wanted)
  if (identity === undefined) {
    return refused('INVALID_ARGUMENT', 'ImpersonatedIdentity is not spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT')
  }
  const decision = await authorizer.authorize(caller, identity, signal)
  if (decision.kind === 'allowed') return identity
  metrics.series('citadel_server_authentication_failure_count').add()
  const { denial, detail } = decision
  log.warn('refused an impersonated identity', { identity, caller: callerPod(caller), denial, detail })
  const details = authorizer.isTrusted(caller) ? { [denialTrailer]: denial } : {}
  return { kind: 'refused', status: 'UNAUTHENTICATED', message: opaqueDenial, details }
}

function refused(status: Status, text: string): Refusal {
  return { kind: 'refused', status, message: text }
}
