/** Names of gRPC's statuses, by their number, and what they are in HTTP. Source: gRPC's published status codes; Envoy's published mapping. */

const statuses = [
  ['OK', 200],
  ['CANCELLED', 499],
  ['UNKNOWN', 500],
  ['INVALID_ARGUMENT', 400],
  ['DEADLINE_EXCEEDED', 504],
  ['NOT_FOUND', 404],
  ['ALREADY_EXISTS', 409],
  ['PERMISSION_DENIED', 403],
  ['RESOURCE_EXHAUSTED', 429],
  ['FAILED_PRECONDITION', 400],
  ['ABORTED', 409],
  ['OUT_OF_RANGE', 400],
  ['UNIMPLEMENTED', 501],
  ['INTERNAL', 500],
  ['UNAVAILABLE', 503],
  ['DATA_LOSS', 500],
  ['UNAUTHENTICATED', 401]
] as const

/** From its name, whatever its case, or its number; undefined: it is none. */
export function readGrpcStatus(text: string): number | undefined {
  const at = statuses.findIndex(([name], number) => name === text.toUpperCase() || String(number) === text)
  return at < 0 ? undefined : at
}

export function httpStatusOf(grpcStatus: number): number {
  return statuses[grpcStatus]?.[1] ?? 500
}
