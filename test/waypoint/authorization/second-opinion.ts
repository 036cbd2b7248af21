/**
 * AuthorizationPolicy once more, from the spec for each request and by regular expressions as Istio publishes them for
 * Envoy. Slow and simple: what it says of a request is compared with what the compiled policies say.
 */
import { cidrContains, parseCidr, type Ip } from '../../../shared/net/address.ts'
import type { RequestFacts } from '../../../waypoint/authorization/facts.ts'
import type { Claims } from '../../../waypoint/jwt/claims.ts'

export interface PlainRule {
  readonly from?: readonly { readonly source: Lists }[]
  readonly to?: readonly { readonly operation: Lists }[]
  readonly when?: readonly ({ readonly key: string } & Partial<
    Record<'values' | 'notValues', readonly string[]>
  >)[]
}
export type Lists = Readonly<Record<string, readonly string[]>>

export interface PlainPolicy {
  readonly namespace: string
  readonly name: string
  readonly action: 'ALLOW' | 'DENY' | 'AUDIT'
  readonly rules: readonly PlainRule[]
}

/** The id of who refuses; undefined where it passes. */
export function refusedBy(
  policies: readonly PlainPolicy[],
  facts: RequestFacts,
  trustDomains: readonly string[]
): string | undefined {
  const matching = (action: PlainPolicy['action']): readonly string[] =>
    policies
      .filter(policy => policy.action === action)
      .flatMap(({ namespace, name, rules }) =>
        rules.flatMap((rule, at) =>
          ruleMatches(rule, { facts, namespace, trustDomains, action })
            ? [`ns[${namespace}]-policy[${name}]-rule[${at}]`]
            : []
        )
      )
      .toSorted()
  const [denied] = matching('DENY')
  if (denied !== undefined) return denied
  if (!policies.some(({ action }) => action === 'ALLOW')) return undefined
  return matching('ALLOW').length > 0 ? undefined : 'none'
}

interface Looking {
  readonly facts: RequestFacts
  readonly namespace: string
  readonly trustDomains: readonly string[]
  readonly action: PlainPolicy['action']
}

function ruleMatches({ from = [], to = [], when = [] }: PlainRule, looking: Looking): boolean {
  const sources = from.map(({ source }) => source)
  const operations = to.map(({ operation }) => operation)
  const conditions = when.map(({ key, values = [], notValues = [] }) => ({
    [key]: values,
    [`not ${key}`]: notValues
  }))
  const names = [...sources, ...operations, ...conditions].flatMap(lists => Object.keys(lists)).map(positive)
  if (looking.facts.http === undefined && looking.action === 'ALLOW' && names.some(isHttp)) return false
  const fit = (lists: Lists): boolean => listsMatch(lists, looking)
  return (
    (sources.length === 0 || sources.some(fit)) &&
    (operations.length === 0 || operations.some(fit)) &&
    conditions.every(fit)
  )
}

function listsMatch(lists: Lists, looking: Looking): boolean {
  return Object.entries(lists).every(([name, values]) => {
    if (values.length === 0) return true
    if (looking.facts.http === undefined && isHttp(positive(name))) return true
    const any = values.some(value => valueMatches(positive(name), value, looking))
    return name === positive(name) ? any : !any
  })
}

function positive(name: string): string {
  if (name.startsWith('not ')) return name.slice(4)
  return /^not[A-Z]/.test(name) ? name.charAt(3).toLowerCase() + name.slice(4) : name
}

function isHttp(name: string): boolean {
  return /^(?:requestPrincipals|hosts|methods|paths|request\..*)$/.test(name)
}

function valueMatches(name: string, value: string, { facts, namespace, trustDomains }: Looking): boolean {
  const { peer = '', clientIp, destination, sni, http } = facts
  switch (name) {
    case 'principals':
    case 'source.principal':
      return aliases(value, trustDomains).some(one =>
        one === '*'
          ? whole('.+', peer)
          : one.startsWith('*')
            ? whole(`spiffe://.*${escaped(one.slice(1))}`, peer)
            : text(`spiffe://${one}`, peer)
      )
    case 'namespaces':
    case 'source.namespace': {
      const [, found = ''] = /\/ns\/([^/]*)\//.exec(peer) ?? []
      return whole(
        value
          .split('*')
          .map(part => escaped(part))
          .join('.*'),
        found
      )
    }
    case 'serviceAccounts': {
      const [of, account] = value.includes('/') ? value.split('/') : [namespace, value]
      return whole(`spiffe://.+/ns/${of}/(.+/|)sa/${account}(/.+)?`, peer)
    }
    case 'ipBlocks':
    case 'remoteIpBlocks':
    case 'source.ip':
      return inBlock(value, clientIp)
    case 'destination.ip':
      return destination.ip !== undefined && inBlock(value, destination.ip)
    case 'ports':
    case 'destination.port':
      return String(destination.port) === value
    case 'connection.sni':
      return sni !== undefined && text(value, sni)
    case 'hosts':
      return (
        http?.authority !== '' && (value === '*' || text(value.toLowerCase(), http?.authority.toLowerCase()))
      )
    case 'methods':
      return text(value, http?.method)
    case 'paths':
      return /\{\*\*?\}/.test(value)
        ? whole(
            value
              .split(/(\{\*\*?\})/)
              .map(part => (part === '{*}' ? '[^/]+' : part === '{**}' ? '.*' : escaped(part)))
              .join(''),
            http?.path ?? ''
          )
        : text(value, http?.path)
    case 'request.headers[x-user]': {
      const found = [...(http?.headers ?? [])].filter(([name]) => name === 'x-user').map(([, value]) => value)
      return found.length > 0 && (value === '*' || text(value, found.join(',')))
    }
    case 'requestPrincipals':
      return requestPrincipal(value, http?.claims ?? {})
    case 'request.auth.claims[groups]': {
      const { groups } = http?.claims ?? {}
      return [groups].flat().some(one => typeof one === 'string' && text(value, one))
    }
    default:
      throw new Error(`nothing is said here of ${name}`)
  }
}

function requestPrincipal(value: string, { iss, sub }: Claims): boolean {
  if (typeof iss !== 'string' || typeof sub !== 'string') return false
  const [, issuer = value, subject = ''] = /^(.*)\/([^/]*)$/.exec(value) ?? []
  if (value === '*') return iss !== '' && sub !== ''
  if (value.startsWith('*')) {
    return value.includes('/') ? text(issuer, iss) && sub === subject : iss !== '' && text(value, sub)
  }
  if (value.endsWith('*')) {
    return value.includes('/') ? iss === issuer && text(subject, sub) : text(value, iss) && sub !== ''
  }
  return iss === issuer && sub === subject
}

function aliases(value: string, trustDomains: readonly string[]): readonly string[] {
  const parts = value.split('/')
  const [of = ''] = parts
  if (parts.length !== 5 || of === '*') return [value]
  const ours = of === 'cluster.local' || trustDomains.some(name => text(of, name))
  return ours
    ? trustDomains.map(name =>
        of.startsWith('*') && text(of, name) ? value : [name, ...parts.slice(1)].join('/')
      )
    : [value]
}

function text(pattern: string, found: string | undefined): boolean {
  if (pattern === '*') return whole('.+', found)
  if (pattern.startsWith('*')) return whole(`.*${escaped(pattern.slice(1))}`, found)
  if (pattern.endsWith('*')) return whole(`${escaped(pattern.slice(0, -1))}.*`, found)
  return whole(escaped(pattern), found)
}

function whole(source: string, found: string | undefined): boolean {
  return found !== undefined && new RegExp(`^(?:${source})$`, 's').test(found)
}

function escaped(literal: string): string {
  return literal.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`)
}

function inBlock(value: string, address: Ip): boolean {
  const block = parseCidr(value)
  return block !== undefined && cidrContains(block, address)
}
