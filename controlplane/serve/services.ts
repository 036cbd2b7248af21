/** What the gRPC port serves: streams and certificates, for callers who say who they are. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { tokenReviews } from '../../shared/kube/review-api.ts'
import { steadyClock, type Clock } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { packageVersion } from '../../shared/runtime/package-version.ts'
import type { LogOutput } from '../../shared/telemetry/logger.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import { authenticate } from '../access/authenticate.ts'
import type { CertificateAuthority } from '../ca/authority.ts'
import { caServer } from '../ca/certificate-service.ts'
import type { Config } from '../config.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import type { MessageStream, Refusal, Services, StreamHandler } from './grpc-server.ts'
import type { metricFamilies } from '../metrics.ts'
import { NodeAuthorizer } from '../access/node-authorizer.ts'
import { TokenAuthenticator } from '../access/token.ts'
import { debugStream, type DebugStreamOptions } from '../xds/debug-stream.ts'
import type { ClientStream, XdsServer } from '../xds/server.ts'
import { pageText, type DebugPage } from './debug.ts'

export interface ServicesOptions {
  readonly config: Config
  readonly desired: DesiredState
  readonly xds: XdsServer
  readonly debug: ReadonlyMap<string, DebugPage>
  readonly authority: CertificateAuthority
  readonly tokens: TokenAuthenticator
  /** Calls wait for it: before, the trust domain, the pods of a node and half the mesh are not known. */
  readonly ready: Promise<void>
  readonly metrics: Metrics<typeof metricFamilies>
  readonly logs: LogOutput
  readonly clock: Clock
  readonly signal: AbortSignal
}

export function tokenAuthenticator(
  client: Pick<KubeClient, 'create'>,
  options: Pick<ServicesOptions, 'config' | 'clock' | 'signal'>
): TokenAuthenticator {
  const { config, clock, signal } = options
  return new TokenAuthenticator({
    audiences: config.audiences,
    clock,
    review: async (token, audiences) => {
      const body = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        metadata: { name: '' },
        spec: { token, audiences }
      }
      return (await client.create(tokenReviews, body, { signal })).status
    }
  })
}

export function services(
  options: ServicesOptions
): Services & Required<Pick<Services, 'deltaStream' | 'wholeStream'>> {
  const { config, desired, xds, authority, tokens, ready, metrics, logs, signal } = options
  const streams = {
    deltaStream: async (stream: MessageStream) => openStream(options, stream, client => xds.connect(client)),
    wholeStream: async (stream: MessageStream) =>
      openStream(options, stream, client => debugStream(debugOptions(options), client))
  }
  if (!config.caEnabled) return streams
  const issue = caServer({
    authority,
    tokens,
    authorizer: new NodeAuthorizer({
      view: desired.view,
      trusted: config.trustedNodeAccounts,
      clock: steadyClock
    }),
    trustDomain: () => desired.view.settings.trustDomain,
    log: logs.logger('ca'),
    metrics,
    signal
  })
  return {
    ...streams,
    createCertificate: async (info, request) => {
      await ready
      return issue(info, request)
    }
  }
}

async function openStream(
  options: ServicesOptions,
  stream: MessageStream,
  connect: (client: ClientStream) => StreamHandler
): Promise<StreamHandler | Refusal> {
  const { config, desired, tokens, ready, logs } = options
  const { info } = stream
  await ready
  const authentication = config.authenticate
    ? await authenticate(info, tokens, desired.view.settings.trustDomain)
    : ({ kind: 'caller', caller: undefined } as const)
  if (authentication.kind !== 'caller') {
    const { reason } = authentication
    logs.logger('xds').warn('refused an xDS client', { remote: info.remote, reason })
    const status = authentication.kind === 'unavailable' ? 'UNAVAILABLE' : 'UNAUTHENTICATED'
    return { kind: 'refused', status, message: reason }
  }
  const handler = connect({
    remote: info.remote,
    caller: authentication.caller,
    send: response => stream.send(response),
    close: (status, reason) => stream.close(status, reason)
  })
  return {
    ended: () => handler.ended(),
    request: message => {
      try {
        handler.request(message)
      } catch (error) {
        logs.logger('xds').error('a request failed', { remote: info.remote, error: messageOf(error) })
        stream.close('INTERNAL', 'the control plane failed; see its log')
      }
    }
  }
}

function debugOptions({ config, debug, xds }: ServicesOptions): DebugStreamOptions {
  return {
    clients: () => xds.clients(),
    page: name => pageText(debug, name),
    systemNamespace: config.mesh.systemNamespace,
    authenticate: config.debugAuthentication,
    podName: config.podName,
    version: packageVersion()
  }
}
