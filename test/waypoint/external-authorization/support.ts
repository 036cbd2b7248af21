/** Authorizers, requests and answers in few words. */
import { spiffeId } from '../../../shared/identity/spiffe-id.ts'
import { ip } from '../../../shared/net/address.ts'
import type { Outcome, Subject } from '../../../waypoint/external-authorization/check.ts'
import {
  readProviders,
  type GrpcProvider,
  type HttpProvider
} from '../../../waypoint/external-authorization/providers.ts'
import type { RequestHead } from '../../../waypoint/http/exchange.ts'
import { HeaderList } from '../../../waypoint/http/header-list.ts'

const service = 'shop/authz.example'

export type Json = Readonly<Record<string, unknown>>

export function httpProvider(more: Json = {}, port = 8000): HttpProvider {
  const provider = readProviders([{ name: 'a', envoyExtAuthzHttp: { service, port, ...more } }]).get('a')
  if (provider?.kind !== 'http') throw new Error(JSON.stringify(provider))
  return provider
}

export function grpcProvider(more: Json = {}, port = 9000): GrpcProvider {
  const provider = readProviders([{ name: 'a', envoyExtAuthzGrpc: { service, port, ...more } }]).get('a')
  if (provider?.kind !== 'grpc') throw new Error(JSON.stringify(provider))
  return provider
}

export const head: RequestHead = {
  method: 'POST',
  target: '/cart?item=7',
  authority: 'web.shop:80',
  version: 'HTTP/2',
  headers: HeaderList.of('x-request-id', 'id-1', 'authorization', 'Bearer t', 'x-user', 'ann'),
  framing: { kind: 'length', bytes: 12 }
}

export const connection: Subject = {
  peer: spiffeId({ trustDomain: 'cluster.local', namespace: 'front', serviceAccount: 'site' }),
  client: { ip: ip('10.1.2.3'), port: 40_000 },
  destination: { address: '10.96.0.7', port: 80 },
  receivedMs: 1_500_000_000_250
}

export function request(more: Partial<RequestHead> = {}): Subject {
  return { ...connection, http: { ...head, ...more } }
}

/** Headers as pairs: what is private to a list would not be compared. */
export function seen(outcome: Outcome): unknown {
  return outcome.kind === 'denied' ? { ...outcome, headers: [...outcome.headers] } : outcome
}
