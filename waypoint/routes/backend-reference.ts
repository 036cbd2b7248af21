/** Where a route leads, as the control plane tells it: a port of a service, or why there is none. */
import type { Fields } from '../../shared/mesh/yaml-fields.ts'
import type { BackendReference } from './route.ts'

/** What names inside of a route are relative to. */
export interface Place {
  readonly namespace: string
  readonly name: string
  readonly domain: string
}

/** Reads what is the reference's; other fields, and their end, are the caller's. */
export function readBackendReference(fields: Fields, place: Place): BackendReference {
  const unresolved = fields.text('unresolved', '')
  const namespace = fields.text('namespace', place.namespace)
  const name = fields.text('name', '')
  const hostname = fields.text('hostname', name === '' ? '' : `${name}.${namespace}.svc.${place.domain}`)
  const port = fields.integer('port', 0, 65_535)
  fields.text('group', '')
  fields.text('kind', '')
  if (unresolved !== '') return { kind: 'unresolved', reason: unresolved }
  if (hostname === '' || port === 0) {
    return { kind: 'unresolved', reason: 'the backend has no hostname or no port' }
  }
  return { kind: 'service', hostname, namespace, port }
}
