/** What a route is for: services, or listeners of Gateways, as the control plane accepted them. Source: Gateway API v1. */
import { Fields } from '../../shared/mesh/yaml-fields.ts'
import { hostnameIn } from '../gateway/hostname.ts'
import type { Place } from './backend-reference.ts'
import type { ListenerParent, Route, RouteParent } from './route.ts'

/** Of `parentRefs`. */
export function readParents(fields: Fields, place: Place): Pick<Route, 'parents' | 'listeners'> {
  const parents: RouteParent[] = []
  const listeners: ListenerParent[] = []
  fields.list('parentRefs', (value, path) => {
    const parent = new Fields(value, path, fields.problems)
    const kind = parent.choice('kind', ['Service', 'ServiceEntry', 'Hostname', 'Gateway'], 'Service')
    parent.text('group', '')
    const namespace = parent.text('namespace', place.namespace)
    const name = parent.text('name')
    parent.text('sectionName', '')
    const port = parent.integer('port', 0, 65_535)
    if (kind === 'Gateway') {
      listeners.push(...listenersOf(parent, { namespace, gateway: name }))
    } else {
      const hostname = kind === 'Service' ? `${name}.${namespace}.svc.${place.domain}` : name
      parents.push({
        namespace,
        hostname: parent.text('hostname', hostname),
        port: port === 0 ? undefined : port
      })
    }
    parent.end()
    return undefined
  })
  return { parents, listeners }
}

function listenersOf(
  parent: Fields,
  gateway: Pick<ListenerParent, 'namespace' | 'gateway'>
): readonly ListenerParent[] {
  return parent.list('listeners', (value, path) => {
    const listener = new Fields(value, path, parent.problems)
    const made = {
      ...gateway,
      listener: listener.text('name'),
      hostnames: listener.list('hostnames', (text, at) => {
        if (typeof text === 'string') return hostnameIn(listener, text, at)
        parent.problems.add(at, 'expected a hostname')
        return undefined
      })
    }
    listener.end()
    return made
  })
}
