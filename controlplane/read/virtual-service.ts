/**
 * Reads VirtualServices. Waypoints read the rest of them: here is what decides whom one is for, and where it leads.
 * What is for Gateways only is not read. Source: Istio's published `hosts`, `gateways` and `Destination`.
 */
import type {
  VirtualDestination,
  VirtualRoute,
  VirtualServiceObject,
  VirtualShare
} from '../cluster/objects.ts'
import type { Fields } from './fields.ts'
import { readMeta } from './meta.ts'

export function readVirtualService(object: Fields): VirtualServiceObject {
  const spec = object.at('spec')
  const isForMesh = namesMesh(spec)
  const routesIn = (kind: string): readonly VirtualRoute[] =>
    isForMesh ? spec.list(kind).flatMap(readRoute) : []
  return {
    kind: 'VirtualService',
    meta: readMeta(object),
    // Without hosts it is a part of another one, for Gateways.
    hosts: isForMesh ? spec.texts('hosts') : [],
    exportTo: spec.texts('exportTo'),
    routes: { http: routesIn('http'), tls: routesIn('tls'), tcp: routesIn('tcp') }
  }
}

/** All that is bound to nothing else is for the mesh. */
function namesMesh(holder: Fields): boolean {
  const gateways = holder.texts('gateways')
  return gateways.length === 0 || gateways.includes('mesh')
}

/** None when each of its matches is for Gateways. */
function readRoute(route: Fields): readonly VirtualRoute[] {
  const { route: _, mirror: __, mirrors: ___, match: ____, ...fields } = route.json()
  const matches = route.list('match')
  const forMesh = matches.filter(namesMesh).map(match => {
    const { gateways: _, ...rest } = match.json()
    return rest
  })
  if (matches.length > 0 && forMesh.length === 0) return []
  return [
    {
      fields: matches.length === 0 ? fields : { match: forMesh, ...fields },
      route: route.list('route').map(readShare),
      mirror: route.has('mirror') ? readDestination(route.at('mirror')) : undefined,
      mirrors: route.list('mirrors').map(readShare)
    }
  ]
}

function readShare(share: Fields): VirtualShare {
  const { destination: _, ...fields } = share.json()
  return { destination: readDestination(share.at('destination')), fields }
}

function readDestination(destination: Fields): VirtualDestination {
  const host = destination.text('host')
  if (host === '') destination.fail('host', 'is missing: name the service that it leads to')
  const number = destination.at('port').port('number')
  return { host, subset: destination.text('subset'), port: number === 0 ? undefined : number }
}
