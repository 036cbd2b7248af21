/** DestinationRule as the control plane sends it. Source: Istio's published networking/v1alpha3/destination_rule.proto. */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import type { DestinationRule, Subset } from './destination-rule.ts'
import { readText } from './read-part.ts'
import { readTrafficPolicy } from './read-traffic-policy.ts'

/** `domain`: of the cluster, for short names of Services. Throws an Error that names every field that is wrong. */
export function readDestinationRule(
  { namespace, name, createdMs, spec }: ConfigResource,
  domain: string
): DestinationRule {
  const rule = `DestinationRule ${namespace}/${name}`
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const made: DestinationRule = {
    namespace,
    name,
    createdMs,
    ...readScope(fields, { namespace, domain }),
    policy: readTrafficPolicy({ fields, rule }),
    subsets: readSubsets(fields, rule)
  }
  fields.end()
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return made
}

/**
 * In place of a rule that cannot be read and is not known from before: requests to its host are answered 500 rather than
 * sent without what it may have said. Undefined where nobody can tell the host, or where the rule is not for waypoints.
 */
export function unreadableRule(
  { namespace, name, createdMs, spec }: ConfigResource,
  domain: string
): DestinationRule | undefined {
  const problems = new Problems() // they are told already
  const scope = readScope(new Fields(spec, 'spec', problems), { namespace, domain })
  if (!isHost(spec['host']) || !scope.applies) return undefined
  const reason = `DestinationRule ${namespace}/${name} was not understood; the log of the waypoint says why`
  return {
    ...{ namespace, name, createdMs },
    ...scope,
    exportTo: problems.found.length > 0 ? [] : scope.exportTo,
    policy: { parts: { unreadable: { unsupported: [reason] } }, ports: new Map() },
    subsets: new Map()
  }
}

interface Place {
  readonly namespace: string
  readonly domain: string
}

/** For which destinations, as whose clients. */
function readScope(fields: Fields, place: Place): Pick<DestinationRule, 'hostname' | 'exportTo' | 'applies'> {
  const selector = fields.inner('workloadSelector')
  selector?.map('matchLabels', (_key, value, path) => readText(value, path, fields.problems))
  selector?.end()
  return {
    hostname: readHostname(fields, place),
    exportTo: fields.list('exportTo', (value, path) => {
      if (typeof value === 'string' && (value === '.' || value === '*' || label.test(value))) return value
      fields.problems.add(path, 'expected ".", "*" or the name of a namespace')
      return undefined
    }),
    applies: selector === undefined
  }
}

const label = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$/i
/** The first part may be or begin with `*`. */
const host = /^(?:\*|(?:\*-?)?[a-z0-9](?:[-\w]*\w)?)(?:\.[a-z0-9](?:[-\w]*\w)?)*$/i

function isHost(value: unknown): boolean {
  return typeof value === 'string' && host.test(value)
}

function readHostname(fields: Fields, { namespace, domain }: Place): string {
  const text = fields.text('host')
  if (!isHost(text)) fields.problems.add(`${fields.path}.host`, `${JSON.stringify(text)} is no hostname`)
  return /[.*]/.test(text) ? text : `${text}.${namespace}.svc.${domain}`
}

function readSubsets(holder: Fields, rule: string): ReadonlyMap<string, Subset> {
  const { problems } = holder
  const subsets = new Map<string, Subset>()
  holder.list('subsets', (value, path) => {
    const fields = new Fields(value, path, problems)
    const name = fields.text('name')
    const labels = fields.map('labels', (key, text, at) => {
      const read = readText(text, at, problems)
      return read === undefined ? undefined : ([key, read] as const)
    })
    const subset = { labels: new Map(labels), policy: readTrafficPolicy({ fields, rule }) }
    fields.end()
    if (name === '') problems.add(`${path}.name`, 'must not be empty')
    else if (subsets.has(name)) problems.add(`${path}.name`, `${name} is said twice`)
    subsets.set(name, subset)
    return name
  })
  return subsets
}
