/** How long a request may take. Source: the gRPC protocol over HTTP/2, `grpc-timeout`. */
import type { HeaderList } from './http/header-list.ts'
import type { RouteRule } from './routes/route.ts'
import { timerMs } from './virtual-services/reading.ts'

const unitMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6
}

/** Milliseconds; undefined is no limit. A client cannot make the rule's longer. */
export function requestTimeoutOf(
  { requestTimeoutMs, heedsGrpcTimeout }: Pick<RouteRule, 'requestTimeoutMs' | 'heedsGrpcTimeout'>,
  headers: HeaderList
): number | undefined {
  const asked = heedsGrpcTimeout === true ? grpcTimeoutMs(headers.get('grpc-timeout')) : undefined
  if (asked === undefined) return requestTimeoutMs
  return timerMs(Math.min(asked, requestTimeoutMs ?? Infinity))
}

function grpcTimeoutMs(text = ''): number | undefined {
  const [, amount, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(text) ?? []
  return amount === undefined ? undefined : Math.ceil(Number(amount) * (unitMs[unit] ?? 0))
}
