/** Where routes of a VirtualService lead. Source: Istio's published Destination, as the control plane looked it up. */
import { Fields } from '../../shared/mesh/yaml-fields.ts'
import { readInner } from '../destination-rules/read-part.ts'
import type { Place } from '../routes/backend-reference.ts'
import type { BackendReference } from '../routes/route.ts'

/** Of `destination` in a holder. Port 0: the one that the client asked for. */
export function readDestination(holder: Fields, place: Place): BackendReference {
  const fields = holder.inner('destination')
  if (fields === undefined) {
    holder.problems.add(`${holder.path}.destination`, 'is required')
    return { kind: 'unresolved', reason: 'no destination is named' }
  }
  return readDestinationFields(fields, place)
}

export function readDestinationFields(fields: Fields, place: Place): BackendReference {
  const unresolved = fields.text('unresolved', '')
  const written = fields.text('host', unresolved === '' ? undefined : '')
  const hostname = fullHost(written, place)
  const namespace = fields.text('namespace', namespaceOf(hostname, place))
  const subset = fields.text('subset', '')
  const port = readInner(fields, 'port', inner => inner.integer('number', 0, 65_535)) ?? 0
  fields.end()
  if (unresolved !== '') return { kind: 'unresolved', reason: unresolved }
  return { kind: 'service', hostname, namespace, port, ...(subset === '' ? {} : { subset }) }
}

/** A name without dots is a Service's of the same namespace. */
export function fullHost(host: string, { namespace, domain }: Place): string {
  return /[.*]/.test(host) || host === '' ? host : `${host}.${namespace}.svc.${domain}`
}

function namespaceOf(hostname: string, { namespace, domain }: Place): string {
  const suffix = `.svc.${domain}`
  if (!hostname.endsWith(suffix)) return namespace
  return hostname.slice(0, -suffix.length).split('.')[1] ?? namespace
}

interface Weighted {
  readonly weight: number
}

const maxWeight = 2 ** 31 - 1

/** Of a list of destinations; one that is alone takes everything, and others without a weight nothing. */
export function readWeighted<T extends Weighted>(
  fields: Fields,
  name: string,
  read: (entry: Fields, weight: number) => T
): readonly T[] {
  const list = fields.list(name, (value, path) => {
    const entry = new Fields(value, path, fields.problems)
    const made = read(entry, entry.integer('weight', 0, maxWeight))
    entry.end()
    return made
  })
  const [only] = list
  if (only !== undefined && list.length === 1) return [{ ...only, weight: 1 }]
  const taken = list.filter(({ weight }) => weight > 0)
  if (list.length > 0 && taken.length === 0) {
    fields.problems.add(`${fields.path}.${name}`, 'has no destination with a weight above 0')
  }
  return taken
}
