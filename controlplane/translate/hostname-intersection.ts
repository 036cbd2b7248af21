/** Hostnames of listeners and routes. Source: Gateway API v1, `hostname` of a listener and `hostnames` of a route. */

/**
 * The hostnames that both a listener and a route are for, in lower case, sorted; none when there are none. A
 * listener's '' is any, as is a route without hostnames: `['']` when neither says.
 */
export function intersection(listener: string, route: readonly string[]): readonly string[] {
  if (route.length === 0) return [listener]
  const common = route.flatMap(hostname => {
    if (listener === '' || hostname === listener || covers(listener, hostname)) return [hostname]
    return covers(hostname, listener) ? [listener] : []
  })
  return [...new Set(common)].toSorted()
}

/** Whether some host is for both; '' is any host. */
export function haveCommonHost(these: readonly string[], those: readonly string[]): boolean {
  return these.some(one =>
    those.some(
      other => one === '' || other === '' || one === other || covers(one, other) || covers(other, one)
    )
  )
}

/** Whether `*.b` covers `a.b`, `c.a.b` and `*.a.b`, but not `b`. */
function covers(wildcard: string, hostname: string): boolean {
  return wildcard.startsWith('*.') && hostname !== wildcard && hostname.endsWith(wildcard.slice(1))
}
