/** Which names a client may mean by the one that it asks for: Kubernetes' short forms and its search domains. Pure. */

export interface NameContext {
  /** The client's namespace. */
  readonly namespace: string
  /** The cluster's domain. */
  readonly domain: string
  readonly searchDomains: readonly string[]
}

export interface Alias {
  /** Without the final dot. */
  readonly name: string
  /** What was left of the name that was asked for when a search domain was taken off; undefined when none was. */
  readonly stripped: string | undefined
}

/**
 * In the order in which they are tried: the name itself, what it is short for, then the same for what is left of it
 * without each search domain. Source: Istio ztunnel.
 */
export function aliasesOf(name: string, context: NameContext): readonly Alias[] {
  const found = new Map<string, Alias>()
  const add = (alias: string, stripped: string | undefined): void => {
    if (!found.has(alias)) found.set(alias, { name: alias, stripped })
  }
  for (const full of [name, ...fullNames(name, context)]) add(full, undefined)
  for (const domain of context.searchDomains) {
    const rest = withoutDomain(name, domain)
    if (rest === undefined) continue
    for (const full of [rest, ...fullNames(rest, context)]) add(full, rest)
  }
  return [...found.values()]
}

/** Names of Services and pods in full that a short form may stand for. Source: Kubernetes DNS specification 1.1. */
function fullNames(name: string, { namespace, domain }: NameContext): readonly string[] {
  const labels = name.split('.')
  const endsInSvc = labels.at(-1) === 'svc'
  switch (labels.length) {
    case 1:
      return [`${name}.${namespace}.svc.${domain}`]
    case 2: // service.namespace, or pod.service
      return [`${name}.svc.${domain}`, `${name}.${namespace}.svc.${domain}`]
    case 3: // service.namespace.svc, or pod.service.namespace
      return [...(endsInSvc ? [`${name}.${domain}`] : []), `${name}.svc.${domain}`]
    case 4: // pod.service.namespace.svc
      return endsInSvc ? [`${name}.${domain}`] : []
    default:
      return []
  }
}

/** The name, then the wildcards that cover it, the most specific first: `a.b.c`, `*.b.c`, `*.c`. */
export function patternsOf(name: string): readonly string[] {
  const labels = name.split('.')
  const wildcards = labels.slice(1).map((_, index) => `*.${labels.slice(index + 1).join('.')}`)
  return [name, ...wildcards]
}

/** What stands before a domain; undefined when nothing does. */
export function withoutDomain(name: string, domain: string): string | undefined {
  const suffix = `.${domain}`
  return name.endsWith(suffix) && name.length > suffix.length ? name.slice(0, -suffix.length) : undefined
}
