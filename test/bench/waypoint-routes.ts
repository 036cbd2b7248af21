/** The routes that the waypoints under test choose from, said once and written for each in its own form. */

export interface PrefixRoute {
  readonly prefix: string
  /** A request header that must have this value. */
  readonly header?: { readonly name: string; readonly value: string }
  /** Of the whole request, like `15s`. */
  readonly timeout?: string
}

/** The first that matches has precedence; the last takes everything. */
export type RouteSet = readonly PrefixRoute[]

const everything: PrefixRoute = { prefix: '/', timeout: '15s' }

export const twoRoutes: RouteSet = [{ prefix: '/v2', header: { name: 'x-canary', value: '1' } }, everything]

/** All alike but for their path, so that only the choice differs. */
export const thousandRoutes: RouteSet = [
  ...Array.from({ length: 999 }, (_, number) => ({ ...everything, prefix: `/app-${number}` })),
  everything
]

/** A path that one of the thousand in the middle takes. */
export const pathAmongThousand = '/app-500'

/** HTTPRoutes of namespace `bench`, one for each, with the service as parent and backend, as YAML. */
export function httpRoutes(service: string, routes: RouteSet): string {
  const backendRefs = [{ name: service, port: 80 }]
  return routes
    .map(({ prefix, header, timeout }, number) =>
      JSON.stringify({
        apiVersion: 'gateway.networking.k8s.io/v1',
        kind: 'HTTPRoute',
        metadata: { namespace: 'bench', name: `${service}-${number}` },
        spec: {
          parentRefs: [{ group: '', kind: 'Service', name: service }],
          rules: [
            {
              matches: [{ path: { type: 'PathPrefix', value: prefix }, headers: header ? [header] : [] }],
              backendRefs,
              ...(timeout && { timeouts: { request: timeout } })
            }
          ]
        }
      })
    )
    .join('\n---\n')
}
