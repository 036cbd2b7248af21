/** The lists of a policy match: what each is compared with, and how. One row a list, for deciding and for explaining. */
import { formatCidr, ipToBytes, type Cidr, type Ip } from '../net/address.ts'
import { principalOf, spiffeParts, type SpiffeId } from '../identity/spiffe-id.ts'
import type { PolicyMatch, ServiceAccountMatch, StringMatch } from '../mesh/model.ts'

/** What policies see of a connection. */
export interface PolicyConnection {
  /** TCP peer. */
  readonly sourceIp: Ip
  /** Identity that mutual TLS proved; undefined for plaintext. */
  readonly identity: SpiffeId | undefined
  /** The application's address and port: the pod IP, never the VIP or 15008. */
  readonly destinationIp: Ip
  readonly destinationPort: number
}

export type Test = (connection: PolicyConnection) => boolean

/** One list of a match: what it lists, and whether the connection is any of it. */
export interface Condition {
  readonly field: keyof PolicyMatch
  readonly wanted: readonly string[]
  /** Before a `not…` list turns it round. */
  readonly any: Test
  readonly negated: boolean
  readonly seen: (connection: PolicyConnection) => string | undefined
}

/** The conditions of a match: its lists that are not empty. None at all matches nothing. */
export function conditionsOf(match: PolicyMatch): readonly Condition[] {
  const conditions: Condition[] = []
  const add = <T>(
    field: keyof PolicyMatch,
    values: readonly T[],
    format: (value: T) => string,
    any: (values: readonly T[]) => Test,
    seen: Condition['seen']
  ): void => {
    if (values.length === 0) return
    const negated = field.startsWith('not')
    conditions.push({ field, wanted: values.map(format), any: any(values), negated, seen })
  }
  for (const field of ['principals', 'notPrincipals'] as const) {
    add(field, match[field], formatStringMatch, anyString(principal), principal)
  }
  for (const field of ['namespaces', 'notNamespaces'] as const) {
    add(field, match[field], formatStringMatch, anyString(namespace), namespace)
  }
  for (const field of ['serviceAccounts', 'notServiceAccounts'] as const) {
    add(field, match[field], formatServiceAccount, anyServiceAccount, serviceAccount)
  }
  for (const field of ['sourceIps', 'notSourceIps'] as const) {
    add(field, match[field], formatCidr, anyBlock(sourceIp), sourceIp)
  }
  for (const field of ['destinationIps', 'notDestinationIps'] as const) {
    add(field, match[field], formatCidr, anyBlock(destinationIp), destinationIp)
  }
  for (const field of ['destinationPorts', 'notDestinationPorts'] as const) {
    add(field, match[field], String, anyPort, ({ destinationPort }) => String(destinationPort))
  }
  return conditions
}

const principal = ({ identity }: PolicyConnection): string | undefined =>
  identity === undefined ? undefined : principalOf(identity)
/** Plaintext has the empty namespace, which an exact or prefix match of '' takes and `presence` does not. */
const namespace = ({ identity }: PolicyConnection): string =>
  identity === undefined ? '' : spiffeParts(identity).namespace
const serviceAccount = ({ identity }: PolicyConnection): string | undefined =>
  identity === undefined ? undefined : formatServiceAccount(spiffeParts(identity))
const sourceIp = ({ sourceIp }: PolicyConnection): Ip => sourceIp
const destinationIp = ({ destinationIp }: PolicyConnection): Ip => destinationIp

function anyString(seen: (connection: PolicyConnection) => string | undefined) {
  return (values: readonly StringMatch[]): Test =>
    connection => {
      const text = seen(connection)
      return text !== undefined && values.some(value => matchesString(value, text))
    }
}

function matchesString(match: StringMatch, text: string): boolean {
  switch (match.kind) {
    case 'exact':
      return text === match.value
    case 'prefix':
      return text.startsWith(match.value)
    case 'suffix':
      return text.endsWith(match.value)
    case 'presence':
      return text !== ''
    default:
      return match satisfies never
  }
}

function anyServiceAccount(values: readonly ServiceAccountMatch[]): Test {
  return ({ identity }) => {
    if (identity === undefined) return false
    const { namespace, serviceAccount } = spiffeParts(identity)
    return values.some(value => value.namespace === namespace && value.serviceAccount === serviceAccount)
  }
}

function anyBlock(address: (connection: PolicyConnection) => Ip) {
  return (blocks: readonly Cidr[]): Test =>
    connection => {
      const bytes = ipToBytes(address(connection))
      return blocks.some(block => contains(block, bytes))
    }
}

function contains(block: Cidr, bytes: Uint8Array): boolean {
  if (block.bytes.length !== bytes.length) return false
  const whole = block.length >> 3
  for (let index = 0; index < whole; index += 1) if (block.bytes[index] !== bytes[index]) return false
  const rest = block.length & 7
  if (rest === 0) return true
  return (((block.bytes[whole] ?? 0) ^ (bytes[whole] ?? 0)) & (0xff << (8 - rest)) & 0xff) === 0
}

function anyPort(ports: readonly number[]): Test {
  const set = new Set(ports)
  return ({ destinationPort }) => set.has(destinationPort)
}

function formatStringMatch(match: StringMatch): string {
  switch (match.kind) {
    case 'exact':
      return match.value
    case 'prefix':
      return `${match.value}*`
    case 'suffix':
      return `*${match.value}`
    case 'presence':
      return '*'
    default:
      return match satisfies never
  }
}

function formatServiceAccount({ namespace, serviceAccount }: ServiceAccountMatch): string {
  return `${namespace}/${serviceAccount}`
}
