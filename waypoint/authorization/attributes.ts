/** The fields and keys of policies, and what a value of each means. Source: Istio's published AuthorizationPolicy. */
import { addressTest, portOf } from './address-attributes.ts'
import type { HttpFacts, Test } from './facts.ts'
import { pathTest } from './path-template.ts'
import { namespaceTest, principalTest, serviceAccountTest, trustDomainTest } from './peer-attributes.ts'
import { textPattern } from './text-pattern.ts'
import { claimTest, namesInBrackets, requestPrincipalTest } from './token-attributes.ts'

/** Where a policy stands. */
export interface Place {
  readonly namespace: string
  /** The mesh's own and its aliases. */
  readonly trustDomains: readonly string[]
}

export interface Attribute {
  /** Whose attribute it is; a connection's are known of every request too. */
  readonly of: 'connection' | 'request' | 'token'
  /** Throws an Error with what is wrong with the value. */
  readonly test: (value: string, place: Place) => Test
}

const principal: Attribute = {
  of: 'connection',
  test: (value, place) => principalTest(value, place.trustDomains)
}
const namespace: Attribute = { of: 'connection', test: namespaceTest }
const serviceAccount: Attribute = {
  of: 'connection',
  test: (value, place) => serviceAccountTest(value, place.namespace)
}
const trustDomain: Attribute = {
  of: 'connection',
  test: (value, place) => trustDomainTest(value, place.trustDomains)
}
const requestPrincipal: Attribute = { of: 'token', test: requestPrincipalTest }

const clientAddress: Attribute = {
  of: 'connection',
  test: value => {
    const contains = addressTest(value)
    return ({ clientIp }) => contains(clientIp)
  }
}

const destinationAddress: Attribute = {
  of: 'connection',
  test: value => {
    const contains = addressTest(value)
    return ({ destination: { ip } }) => ip !== undefined && contains(ip)
  }
}

const destinationPort: Attribute = {
  of: 'connection',
  test: value => {
    const port = portOf(value)
    return ({ destination }) => destination.port === port
  }
}

const serverName: Attribute = {
  of: 'connection',
  test: value => {
    const matches = textPattern(value)
    return ({ sni }) => sni !== undefined && matches(sni)
  }
}

/** Hosts have no case. */
const host: Attribute = {
  of: 'request',
  test: value => {
    const matches = value === '*' ? isPresent : textPattern(value.toLowerCase())
    return ({ http }) => http !== undefined && http.authority !== '' && matches(http.authority.toLowerCase())
  }
}

const method = header(':method')

const path: Attribute = {
  of: 'request',
  test: value => {
    const matches = pathTest(value)
    return ({ http }) => http !== undefined && matches(http.path)
  }
}

/** Of `from[].source`. */
export const sourceFields: ReadonlyMap<string, Attribute> = new Map([
  ['principals', principal],
  ['requestPrincipals', requestPrincipal],
  ['namespaces', namespace],
  ['serviceAccounts', serviceAccount],
  ['trustDomains', trustDomain],
  ['ipBlocks', clientAddress],
  // The client of a tunnel is the one who made the connection: nobody stands between them whom we would trust.
  ['remoteIpBlocks', clientAddress]
])

/** Of `to[].operation`. */
export const operationFields: ReadonlyMap<string, Attribute> = new Map([
  ['hosts', host],
  ['methods', method],
  ['paths', path],
  ['ports', destinationPort]
])

const conditions: ReadonlyMap<string, Attribute> = new Map([
  ['source.ip', clientAddress],
  ['remote.ip', clientAddress],
  ['source.namespace', namespace],
  ['source.serviceAccount', serviceAccount],
  ['source.trustDomain', trustDomain],
  ['source.principal', principal],
  ['request.auth.principal', requestPrincipal],
  ['request.auth.audiences', claim(['aud'])],
  ['request.auth.presenter', claim(['azp'])],
  ['destination.ip', destinationAddress],
  ['destination.port', destinationPort],
  ['connection.sni', serverName]
])

/** Of `when[].key`; the reason where we know no such attribute. */
export function conditionOf(key: string): Attribute | string {
  const known = conditions.get(key)
  if (known !== undefined) return known
  const bracket = key.indexOf('[')
  const names = bracket < 0 ? undefined : namesInBrackets(key.slice(bracket))
  switch (bracket < 0 ? key : key.slice(0, bracket)) {
    case 'request.headers': {
      const name = bracket < 0 ? '' : key.slice(bracket + 1, -1).toLowerCase()
      if (names === undefined) return `${key} names no header: write request.headers[name]`
      if (!name.startsWith(':') || name === ':method' || name === ':authority') return header(name)
      return `${key} is not supported: use to[].operation for paths`
    }
    case 'request.auth.claims':
      return names === undefined ? `${key} names no claim: write request.auth.claims[name]` : claim(names)
    default:
      return key.startsWith('experimental.envoy.filters.')
        ? `${key} is not supported: there are no filters of Envoy here`
        : `${key} is no attribute: use one that Istio documents, such as source.ip or request.headers[name]`
  }
}

/** A star is for a header that is there, also an empty one. */
function header(name: string): Attribute {
  return {
    of: 'request',
    test: value => {
      const matches = value === '*' ? isPresent : textPattern(value)
      return ({ http }) => {
        const text = http === undefined ? undefined : headerText(http, name)
        return text !== undefined && matches(text)
      }
    }
  }
}

/** What is sent several times is one list (RFC 9110 section 5.3). */
function headerText({ headers, method, authority }: HttpFacts, name: string): string | undefined {
  if (name === ':method') return method
  if (name === ':authority' || name === 'host') return authority === '' ? undefined : authority
  if (!headers.has(name)) return undefined
  return headers.all(name).join(',')
}

function claim(names: readonly string[]): Attribute {
  return { of: 'token', test: value => claimTest(names, value) }
}

function isPresent(): boolean {
  return true
}
