/**
 * AuthorizationPolicies as layer-4 authorizations. What ztunnel cannot decide (HTTP attributes) and what
 * nobody can (a port that is no port) never opens anything: in an ALLOW rule it takes the rule out, in a
 * DENY rule it counts as matching. The object's status says so.
 * Source: Istio's published AuthorizationPolicy reference; `docs/compatibility/control-plane.md` for the choice.
 */
import { parseCidr } from '../../shared/net/address.ts'
import type { AuthorizationPolicyObject, PolicyRule } from '../cluster/objects.ts'
import type { MeshSettings } from '../cluster/settings.ts'
import type {
  AuthorizationMessage,
  BlockMessage,
  ClauseMessage,
  MatchMessage,
  RuleMessage,
  ServiceAccountMatchMessage,
  StringMatchMessage
} from './messages.ts'
import { isEmpty } from './selector.ts'

/** What becomes of a policy at ztunnel. */
export type PolicyTranslation =
  /** It names targets, so waypoints enforce it and ztunnel never sees it. */
  | { readonly kind: 'not-for-ztunnel' }
  | {
      readonly kind: 'sent'
      readonly message: AuthorizationMessage
      /** What was left out or widened, for the status; empty when the policy is enforced as written. */
      readonly notes: readonly string[]
    }
  | { readonly kind: 'refused'; readonly message: string }

/** Why ztunnel gets nothing of a policy; undefined when it gets it. */
function withheld(
  policy: AuthorizationPolicyObject,
  settings: MeshSettings
): Exclude<PolicyTranslation, { kind: 'sent' }> | undefined {
  if (policy.targets.length > 0) return { kind: 'not-for-ztunnel' }
  if (isDryRun(policy) && !settings.sendDryRun) {
    const message =
      'annotation istio.io/dry-run: dry run at ztunnel is off (AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY), so the policy is not sent'
    return { kind: 'refused', message }
  }
  if (policy.action !== 'ALLOW' && policy.action !== 'DENY') {
    return { kind: 'refused', message: `spec.action: ztunnel does not support the ${policy.action} action` }
  }
  return undefined
}

/** Whether workloads may list the policy. */
export function isSent(policy: AuthorizationPolicyObject, settings: MeshSettings): boolean {
  return withheld(policy, settings) === undefined
}

export function translatePolicy(
  policy: AuthorizationPolicyObject,
  settings: MeshSettings
): PolicyTranslation {
  const reason = withheld(policy, settings)
  if (reason !== undefined) return reason
  const translate = policy.action === 'ALLOW' ? allowRule : denyRule
  const notes: string[] = []
  const rules: RuleMessage[] = []
  for (const [index, rule] of policy.rules.entries()) {
    const translated = translate(clausesOf(rule, policy.meta.namespace, `spec.rules[${index}]`), notes)
    if (translated !== undefined) rules.push(translated)
  }
  const scope = scopeOf(policy, settings)
  const message = {
    name: policy.meta.name,
    namespace: policy.meta.namespace,
    ...(scope === 'GLOBAL' ? {} : { scope }),
    ...(policy.action === 'DENY' ? { action: 'DENY' as const } : {}),
    rules,
    ...(isDryRun(policy) ? { dryRun: true } : {})
  }
  return { kind: 'sent', message, notes }
}

/** The labels that a workload needs to be selected; undefined when the policy is for a namespace or the whole mesh. */
export function policySelector(policy: {
  readonly selector: AuthorizationPolicyObject['selector']
}): AuthorizationPolicyObject['selector'] {
  return policy.selector === undefined || isEmpty(policy.selector) ? undefined : policy.selector
}

function scopeOf(
  policy: AuthorizationPolicyObject,
  settings: MeshSettings
): 'GLOBAL' | 'NAMESPACE' | 'WORKLOAD_SELECTOR' {
  if (policySelector(policy) !== undefined) return 'WORKLOAD_SELECTOR'
  return policy.meta.namespace === settings.rootNamespace ? 'GLOBAL' : 'NAMESPACE'
}

/** One alternative of a clause, with the parts of it that cannot be enforced. */
interface Alternative {
  readonly match: MatchMessage
  readonly unenforced: readonly string[]
}

/** All alternatives of each clause: `to`, `from`, then one clause per `when`. */
type Clauses = readonly (readonly Alternative[])[]

/** An ALLOW rule with a part that cannot be enforced would allow more without it, so the whole rule goes. */
function allowRule(clauses: Clauses, notes: string[]): RuleMessage | undefined {
  const unenforced = clauses.flat().flatMap(alternative => alternative.unenforced)
  if (unenforced.length > 0) {
    notes.push(`${unenforced.join(', ')}: this ALLOW rule is left out`)
    return undefined
  }
  return ruleOf(clauses.map(alternatives => alternatives.map(({ match }) => match)))
}

/**
 * A DENY rule without the part denies more. An alternative of which nothing is left matches every
 * connection, so its clause says nothing any more and goes; ztunnel would take an empty match as never true.
 */
function denyRule(clauses: Clauses, notes: string[]): RuleMessage {
  const unenforced = clauses.flat().flatMap(alternative => alternative.unenforced)
  if (unenforced.length > 0) {
    notes.push(`${unenforced.join(', ')}: this DENY rule is enforced without it and denies more`)
  }
  return ruleOf(
    clauses
      .filter(
        alternatives => !alternatives.some(({ match, unenforced }) => unenforced.length > 0 && isBlank(match))
      )
      .map(alternatives => alternatives.map(({ match }) => match))
  )
}

function ruleOf(clauses: readonly (readonly MatchMessage[])[]): RuleMessage {
  const kept: ClauseMessage[] = clauses.map(matches => ({ matches }))
  return kept.length === 0 ? {} : { clauses: kept }
}

function isBlank(match: MatchMessage): boolean {
  return Object.keys(match).length === 0
}

function clausesOf(rule: PolicyRule, namespace: string, path: string): Clauses {
  const clauses: (readonly Alternative[])[] = []
  if (rule.to.length > 0) {
    clauses.push(
      rule.to.map((operation, index) => {
        const reader = new MatchReader(`${path}.to[${index}].operation`)
        reader.layer7(operation.layer7)
        reader.list('destinationPorts', 'ports', operation.ports, readPort)
        reader.list('notDestinationPorts', 'notPorts', operation.notPorts, readPort)
        return reader.alternative()
      })
    )
  }
  if (rule.from.length > 0) {
    const account = (text: string): ServiceAccountMatchMessage | undefined => readAccount(text, namespace)
    clauses.push(
      rule.from.map((source, index) => {
        const reader = new MatchReader(`${path}.from[${index}].source`)
        reader.layer7(source.layer7)
        reader.list('sourceIps', 'ipBlocks', source.ipBlocks, readBlock)
        reader.list('notSourceIps', 'notIpBlocks', source.notIpBlocks, readBlock)
        reader.list('namespaces', 'namespaces', source.namespaces, readString)
        reader.list('notNamespaces', 'notNamespaces', source.notNamespaces, readString)
        reader.list('serviceAccounts', 'serviceAccounts', source.serviceAccounts, account)
        reader.list('notServiceAccounts', 'notServiceAccounts', source.notServiceAccounts, account)
        reader.list('principals', 'principals', source.principals, readString)
        reader.list('notPrincipals', 'notPrincipals', source.notPrincipals, readString)
        return reader.alternative()
      })
    )
  }
  for (const [index, { key, values, notValues }] of rule.when.entries()) {
    const reader = new MatchReader(`${path}.when[${index}]`)
    const known = conditionKeys.get(key)
    if (known === undefined) reader.layer7([`key ${key}`])
    else {
      reader.list(known.values, 'values', values, known.read)
      reader.list(known.notValues, 'notValues', notValues, known.read)
    }
    clauses.push([reader.alternative()])
  }
  return clauses
}

/** Reads one value; undefined when it is not valid. */
type ReadValue = (text: string) => unknown

/** The keys of conditions that ztunnel can decide. */
const conditionKeys = new Map<
  string,
  { readonly values: keyof MatchMessage; readonly notValues: keyof MatchMessage; readonly read: ReadValue }
>([
  ['source.ip', { values: 'sourceIps', notValues: 'notSourceIps', read: readBlock }],
  ['source.namespace', { values: 'namespaces', notValues: 'notNamespaces', read: readString }],
  ['source.principal', { values: 'principals', notValues: 'notPrincipals', read: readString }],
  ['destination.ip', { values: 'destinationIps', notValues: 'notDestinationIps', read: readBlock }],
  ['destination.port', { values: 'destinationPorts', notValues: 'notDestinationPorts', read: readPort }]
])

class MatchReader {
  readonly #path: string
  readonly #match: Partial<Record<keyof MatchMessage, readonly unknown[]>> = {}
  readonly #unenforced: string[] = []

  constructor(path: string) {
    this.#path = path
  }

  layer7(names: readonly string[]): void {
    for (const name of names) this.#unenforced.push(`${this.#path}.${name} (HTTP; needs a waypoint)`)
  }

  /** A list with a value that cannot be read is not enforced at all: half of it would be another rule. */
  list(field: keyof MatchMessage, name: string, texts: readonly string[], read: ReadValue): void {
    const values = texts.map(read)
    const wrong = texts.find((_, index) => values[index] === undefined)
    if (wrong !== undefined)
      this.#unenforced.push(`${this.#path}.${name} (${JSON.stringify(wrong)} is not valid)`)
    else if (values.length > 0) this.#match[field] = values
  }

  /** What says nothing at all is not enforced either: ztunnel would take it as never true. */
  alternative(): Alternative {
    const match = this.#match as MatchMessage
    const empty = isBlank(match) && this.#unenforced.length === 0
    return { match, unenforced: empty ? [`${this.#path} (empty)`] : this.#unenforced }
  }
}

function readString(text: string): StringMatchMessage | undefined {
  if (text === '') return undefined
  if (text === '*') return { presence: {} }
  if (text.startsWith('*')) return { suffix: text.slice(1) }
  if (text.endsWith('*')) return { prefix: text.slice(0, -1) }
  return { exact: text }
}

function readPort(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined
  const port = Number(text)
  return port <= 65535 ? port : undefined
}

function readBlock(text: string): BlockMessage | undefined {
  const block = parseCidr(text)
  return block === undefined ? undefined : { address: block.bytes, length: block.length }
}

/** `namespace/account`, or `account` in the policy's own namespace. */
function readAccount(text: string, namespace: string): ServiceAccountMatchMessage | undefined {
  const cut = text.indexOf('/')
  const match =
    cut < 0
      ? { namespace, serviceAccount: text }
      : { namespace: text.slice(0, cut), serviceAccount: text.slice(cut + 1) }
  return match.namespace === '' || match.serviceAccount === '' ? undefined : match
}

function isDryRun({ meta }: AuthorizationPolicyObject): boolean {
  return ['1', 't', 'true'].includes((meta.annotations['istio.io/dry-run'] ?? '').toLowerCase())
}
