/** Routes for connections that are carried as they are. Source: Istio's published TCPRoute and TLSRoute (networking.istio.io/v1). */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { readText } from '../destination-rules/read-part.ts'
import type { Place } from '../routes/backend-reference.ts'
import { readDestination, readWeighted } from './read-destination.ts'
import { readApplies, readPort } from './read-match.ts'
import type { ConnectionMatch, ConnectionRule } from './virtual-service.ts'

const anyConnection: ConnectionMatch = { port: undefined, serverNames: undefined }

export function readConnectionRules(
  holder: Fields,
  list: 'tcp' | 'tls',
  place: Place
): readonly ConnectionRule[] {
  return holder.list(list, (value, path) => {
    const fields = new Fields(value, path, holder.problems)
    const unsupported = new Problems()
    let written = 0
    const matches = fields.list(
      'match',
      (entry, at) => {
        written += 1
        return readMatch(new Fields(entry, at, holder.problems), list, unsupported)
      },
      list === 'tls'
    )
    const backends = readWeighted(fields, 'route', (entry, weight) => ({
      ...readDestination(entry, place),
      weight
    }))
    fields.end()
    return {
      matches: written === 0 ? [anyConnection] : matches,
      backends,
      unsupported: unsupported.found.length === 0 ? undefined : unsupported.found.join('; ')
    }
  })
}

function readMatch(fields: Fields, list: 'tcp' | 'tls', unsupported: Problems): ConnectionMatch | undefined {
  const { problems } = fields
  const names =
    list === 'tls'
      ? fields.list('sniHosts', (value, path) => readText(value, path, problems), true)
      : undefined
  const port = readPort(fields)
  const subnets = fields.list('destinationSubnets', (value, path) => readText(value, path, problems))
  const others = [
    ...(subnets.length > 0 ? ['destinationSubnets'] : []),
    ...(fields.text('sourceSubnet', '') === '' ? [] : ['sourceSubnet']),
    ...(fields.text('sourceNamespace', '') === '' ? [] : ['sourceNamespace'])
  ]
  for (const name of others) {
    unsupported.add(`${fields.path}.${name}`, 'is not looked at by a waypoint; match the port alone')
  }
  const applies = readApplies(fields)
  fields.end()
  return applies ? { port, serverNames: names } : undefined
}
