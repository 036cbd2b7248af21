/** What a request's path is about. Source: Kubernetes API reference, "API concepts", resource URIs. */

export type RequestTarget =
  | {
      readonly kind: 'resource'
      readonly group: string
      readonly version: string
      readonly path: ResourcePath
    }
  | { readonly kind: 'other'; readonly path: string }

export interface ResourcePath {
  readonly plural: string
  /** '' for all namespaces, and for resources of the cluster. */
  readonly namespace: string
  /** '' for the collection. */
  readonly name: string
  readonly subresource: string
}

/** Reads a decoded path; undefined when it holds an escape that is not one. */
export function readTarget(pathname: string): RequestTarget | undefined {
  const steps = decodeSteps(pathname.split('/').filter(step => step !== ''))
  if (steps === undefined) return undefined
  const [root, ...rest] = steps
  if (root === 'api' && rest.length > 1) return resource('', rest[0] ?? '', rest.slice(1))
  if (root === 'apis' && rest.length > 2) return resource(rest[0] ?? '', rest[1] ?? '', rest.slice(2))
  return { kind: 'other', path: `/${steps.join('/')}` }
}

function decodeSteps(steps: readonly string[]): string[] | undefined {
  try {
    return steps.map(decodeURIComponent)
  } catch {
    return undefined // the caller answers 400
  }
}

function resource(group: string, version: string, steps: readonly string[]): RequestTarget {
  const [first = '', second = '', third = ''] = steps
  // below a namespace stands a resource, unless it is a sub-resource of the namespace itself
  const nested = first === 'namespaces' && steps.length > 2 && !['status', 'finalize'].includes(third)
  if (nested) {
    const [, , plural = '', name = '', ...subresource] = steps
    return {
      kind: 'resource',
      group,
      version,
      path: { plural, namespace: second, name, subresource: subresource.join('/') }
    }
  }
  const path = { plural: first, namespace: '', name: second, subresource: steps.slice(2).join('/') }
  return { kind: 'resource', group, version, path }
}
