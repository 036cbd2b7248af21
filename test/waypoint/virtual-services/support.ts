/** VirtualServices of tests, read from what their YAML would say. */
import type { ConfigResource } from '../../../shared/xds/config-resource.ts'
import type { RouteRule } from '../../../waypoint/routes/route.ts'
import { readVirtualService } from '../../../waypoint/virtual-services/read-virtual-service.ts'
import type { HttpMatch, VirtualService } from '../../../waypoint/virtual-services/virtual-service.ts'

export const domain = 'cluster.local'

/** Of namespace shop, for the Service web. */
export function resource(spec: object, about: Partial<ConfigResource> = {}): ConfigResource {
  return { namespace: 'shop', name: 'web', createdMs: 5, spec: { hosts: ['web'], ...spec }, ...about }
}

export function read(spec: object, about: Partial<ConfigResource> = {}): VirtualService {
  return readVirtualService(resource(spec, about), domain)
}

export const route = [{ destination: { host: 'web' } }]

/** A rule with these fields, and a way if they have none. */
export function rule(fields: object): RouteRule {
  const [first] = read({
    http: [{ ...('redirect' in fields || 'directResponse' in fields ? {} : { route }), ...fields }]
  }).http
  if (first === undefined) throw new Error('there is no rule')
  return first.rule
}

/** Of one rule with these matches. */
export function matches(...match: readonly object[]): readonly HttpMatch[] {
  return read({ http: [{ match, route }] }).http.flatMap(each => each.matches)
}
