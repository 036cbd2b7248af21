/**
 * Whether a request, or a connection that is carried as it is, may pass. Source: Istio's published AuthorizationPolicy:
 * CUSTOM that matches asks an authorizer, before anything else; DENY that matches refuses; without ALLOW the rest
 * passes; else one ALLOW has to match. AUDIT and dry runs decide nothing.
 */
import type { Provider, UsableProvider } from '../external-authorization/providers.ts'
import type { RequestFacts, Test } from './facts.ts'
import type { Action, L7Policy } from './policy.ts'

export type Verdict =
  | { readonly allowed: true; readonly audit: readonly string[]; readonly dryRun: readonly DryRun[] }
  | {
      readonly allowed: false
      /** Id of the rule that refused; `none` where nothing allowed it. */
      readonly policyId: string
      readonly audit: readonly string[]
      readonly dryRun: readonly DryRun[]
    }

/** What the policies of an action that run dry would have decided. */
export interface DryRun {
  readonly action: 'ALLOW' | 'DENY'
  readonly result: 'allowed' | 'denied'
  /** Id of the rule that matched, if one did. */
  readonly policyId: string | undefined
}

/** What policies with action CUSTOM want. */
export type Asking =
  | {
      readonly kind: 'ask'
      readonly provider: UsableProvider
      /** Id of the rule that wants it. */
      readonly policyId: string
      /** Its answer decides nothing. */
      readonly dryRun: boolean
    }
  /** There is nobody to ask. */
  | { readonly kind: 'refused'; readonly policyId: string }

/** The policies of one target, ready to be asked. */
export interface PolicySet {
  readonly requests: Plan
  readonly connections: Plan
}

interface Plan {
  /** Nothing to decide but CUSTOM. */
  readonly empty: boolean
  readonly custom: Questions | undefined
  readonly dryCustom: Questions | undefined
  readonly audit: readonly Rule[]
  readonly deny: readonly Rule[]
  /** Undefined: there is no such policy. Empty: there is, and it never matches. */
  readonly allow: readonly Rule[] | undefined
  readonly dryDeny: readonly Rule[] | undefined
  readonly dryAllow: readonly Rule[] | undefined
}

interface Questions {
  /** Undefined: the policies name several, and one cannot be asked in place of the others. */
  readonly provider: string | undefined
  readonly rules: readonly Rule[]
}

interface Rule {
  readonly id: string
  readonly test: Test
}

const nothing: readonly never[] = []
const passes: Verdict = { allowed: true, audit: nothing, dryRun: nothing }

export function policySet(policies: readonly L7Policy[]): PolicySet {
  return { requests: planOf(policies, 'request'), connections: planOf(policies, 'connection') }
}

export const noPolicies: PolicySet = policySet([])

/**
 * Whom to ask before tokens are looked at; undefined: nobody. `providers`: those of the mesh, by name. A connection can
 * be asked about by gRPC only; authorizers by HTTP are left out there, as Istio does it.
 */
export function askWhom(
  policies: PolicySet,
  facts: RequestFacts,
  providers: ReadonlyMap<string, Provider>
): Asking | undefined {
  const { custom, dryCustom } = facts.http === undefined ? policies.connections : policies.requests
  if (custom === undefined && dryCustom === undefined) return undefined
  const asking = custom && question(custom, facts, { providers, dryRun: false })
  if (asking !== undefined || dryCustom === undefined) return asking
  const trial = question(dryCustom, facts, { providers, dryRun: true })
  return trial?.kind === 'ask' ? trial : undefined
}

interface AskContext {
  readonly providers: ReadonlyMap<string, Provider>
  readonly dryRun: boolean
}

function question(
  { provider: name, rules }: Questions,
  facts: RequestFacts,
  { providers, dryRun }: AskContext
): Asking | undefined {
  const provider = name === undefined ? undefined : providers.get(name)
  if (provider?.kind === 'http' && facts.http === undefined) return undefined
  const policyId = firstMatch(rules, facts)
  if (policyId === undefined) return undefined
  if (provider === undefined || provider.kind === 'invalid') {
    return { kind: 'refused', policyId: `${policyId}-deny-due-to-bad-CUSTOM-action` }
  }
  return { kind: 'ask', provider, policyId, dryRun }
}

/** Without CUSTOM, for which {@link askWhom} comes first. */
export function authorize(policies: PolicySet, facts: RequestFacts): Verdict {
  const plan = facts.http === undefined ? policies.connections : policies.requests
  if (plan.empty) return passes

  const audit = plan.audit.length === 0 ? nothing : allMatches(plan.audit, facts)

  let dryRun: readonly DryRun[] = nothing
  if (plan.dryDeny !== undefined) dryRun = [dryDeny(firstMatch(plan.dryDeny, facts))]
  const denied = firstMatch(plan.deny, facts)
  if (denied !== undefined) return { allowed: false, policyId: denied, audit, dryRun }

  if (plan.dryAllow !== undefined) dryRun = [...dryRun, dryAllow(firstMatch(plan.dryAllow, facts))]
  if (plan.allow !== undefined && firstMatch(plan.allow, facts) === undefined) {
    return { allowed: false, policyId: 'none', audit, dryRun }
  }
  return audit.length === 0 && dryRun.length === 0 ? passes : { allowed: true, audit, dryRun }
}

function dryDeny(policyId: string | undefined): DryRun {
  return { action: 'DENY', result: policyId === undefined ? 'allowed' : 'denied', policyId }
}

function dryAllow(policyId: string | undefined): DryRun {
  return { action: 'ALLOW', result: policyId === undefined ? 'denied' : 'allowed', policyId }
}

function firstMatch(rules: readonly Rule[], facts: RequestFacts): string | undefined {
  for (const { id, test } of rules) if (test(facts)) return id
  return undefined
}

function allMatches(rules: readonly Rule[], facts: RequestFacts): readonly string[] {
  return rules.filter(({ test }) => test(facts)).map(({ id }) => id)
}

function planOf(policies: readonly L7Policy[], form: 'request' | 'connection'): Plan {
  const select = (action: Action, dryRun: boolean): readonly Rule[] | undefined => {
    const selected = policies.filter(policy => policy.action === action && policy.dryRun === dryRun)
    return selected.length === 0 ? undefined : rulesOf(selected, form)
  }
  const plan = {
    audit: select('AUDIT', false) ?? nothing,
    deny: select('DENY', false) ?? nothing,
    allow: select('ALLOW', false),
    dryDeny: select('DENY', true),
    dryAllow: select('ALLOW', true)
  }
  const empty = Object.values(plan).every(rules => rules === undefined || rules === nothing)
  return {
    ...plan,
    empty,
    custom: questions(policies, form, false),
    dryCustom: questions(policies, form, true)
  }
}

function questions(
  policies: readonly L7Policy[],
  form: 'request' | 'connection',
  dryRun: boolean
): Questions | undefined {
  const asking = policies.filter(policy => policy.action === 'CUSTOM' && policy.dryRun === dryRun)
  const [first] = asking
  if (first === undefined) return undefined
  const same = asking.every(({ provider }) => provider === first.provider)
  return { provider: same ? first.provider : undefined, rules: rulesOf(asking, form) }
}

/** In the order of their ids as texts, which is the order in which Envoy looks for the one that it reports. */
function rulesOf(policies: readonly L7Policy[], form: 'request' | 'connection'): readonly Rule[] {
  return policies
    .flatMap(({ rules }) => rules)
    .flatMap(({ id, [form]: test }) => (test === undefined ? [] : [{ id, test }]))
    .toSorted((one, other) => (one.id < other.id ? -1 : 1))
}
