/** An explanation as people read it: numbered steps, every policy with the rule that decided. */
import type { Arrival, Explanation, HopDecision, Leg } from '../../shared/mesh/explain.ts'
import type { ConditionTrace, PolicyTrace, RuleTrace } from '../../shared/policy/evaluate.ts'
import type { Colour } from '../command.ts'

type Paint = (colour: Colour, text: string) => string

export function explanationText(explanation: Explanation, paint: Paint): string {
  const { source, legs } = explanation
  const steps: string[][] = [
    [
      `source: ${source.namespace}/${source.name} on ${source.node || 'no node'}, ${
        source.enrolled ? `enrolled, identity ${source.identity}` : 'not enrolled'
      }`
    ]
  ]
  for (const leg of legs) {
    steps.push(routeStep(leg))
    for (const arrival of leg.arrivals) steps.push(arrivalStep(arrival, paint))
  }
  const lines = steps.flatMap((step, index) =>
    step.map((line, row) => (row === 0 ? `${String(index + 1).padStart(2)}  ${line}` : `    ${line}`))
  )
  return `${[...lines, '', `result: ${outcomeText(explanation, paint)}`].join('\n')}\n`
}

function routeStep(leg: Leg): string[] {
  return [
    `route from ${leg.from.namespace}/${leg.from.name}: ${hopText(leg.hop)}`,
    ...leg.because.map(reason => `  because ${reason}`)
  ]
}

function hopText(hop: HopDecision): string {
  switch (hop.kind) {
    case 'refused':
      return `none: ${hop.message}`
    case 'passthrough':
      return `plain TCP to ${hop.to}, as if there were no mesh`
    case 'plaintext':
      return `plain TCP to ${hop.to}`
    case 'hbone': {
      const via = hop.through === 'destination' ? '' : ` (${hop.through.replace('-', ' ')})`
      return `HBONE to ${hop.to}${via}, CONNECT ${hop.authority}, peer must be ${hop.expected.join(' or ')}`
    }
    case 'double-hbone':
      return `HBONE in HBONE through the network gateway ${hop.to}, CONNECT ${hop.authority}`
    default:
      return hop satisfies never
  }
}

function arrivalStep(arrival: Arrival, paint: Paint): string[] {
  const { destination, alike, target, identity, enforcedBy, verdict, policies } = arrival
  const others = alike === 0 ? '' : ` (and ${alike} more like it)`
  const where = `${destination.namespace}/${destination.name} on ${destination.node || 'no node'}`
  const how = identity === undefined ? 'in the clear, without identity' : `as ${identity}`
  const head = `arrives at ${where}${others}, ${target}, ${how}`
  if (enforcedBy === 'waypoint')
    return [head, '  the waypoint decides by its layer-7 policies, which are not looked at here']
  if (verdict === undefined)
    return [head, '  nothing decides there: it is not enrolled, or no agent captures it']
  const verdictText = verdict.kind === 'allow' ? paint('green', 'ALLOWED') : paint('red', 'REFUSED')
  return [
    head,
    ...policies.flatMap(policy => policyLines(policy)),
    ...verdict.notes.map(note => `  ${note}`),
    `  ${verdictText}: ${verdict.reason}`
  ]
}

function policyLines(policy: PolicyTrace): string[] {
  const kind = `${policy.action.toUpperCase()}${policy.dryRun ? ' (dry run)' : ''}`
  const head = `  ${kind.padEnd(5)} ${policy.policy}:`
  if (policy.rules.length === 0) return [`${head} has no rules, so nothing matches`]
  if (policy.rule !== undefined) {
    const rule = policy.rules[policy.rule]
    return [`${head} rule ${policy.rule + 1} matches${rule === undefined ? '' : proof(rule)}`]
  }
  return [
    `${head} no rule matches`,
    ...policy.rules.map((rule, index) => `    rule ${index + 1}: ${obstacle(rule)}`)
  ]
}

/** The conditions that held. */
function proof(rule: RuleTrace): string {
  const held = rule.clauses.flatMap(({ matches }) => matches.find(({ matched }) => matched)?.conditions ?? [])
  return held.length === 0 ? ' (it has no conditions)' : `: ${held.map(conditionText).join(', ')}`
}

/** The first condition that failed, in the clause that failed. */
function obstacle(rule: RuleTrace): string {
  const failed = rule.clauses.find(({ matched }) => !matched)
  const conditions = (failed?.matches ?? []).flatMap(match =>
    match.conditions.filter(({ matched }) => !matched).slice(0, 1)
  )
  return conditions.length === 0
    ? 'an empty match, which nothing satisfies'
    : conditions.map(conditionText).join('; ')
}

function conditionText({ field, wanted, seen, matched }: ConditionTrace): string {
  const values = wanted.length > 4 ? `${wanted.slice(0, 4).join(', ')}, …` : wanted.join(', ')
  return `${field} [${values}] ${matched ? '✓' : '✗'} saw ${seen === undefined ? 'none' : seen === '' ? '""' : seen}`
}

function outcomeText({ outcome }: Explanation, paint: Paint): string {
  switch (outcome) {
    case 'allowed':
      return paint('green', 'allowed')
    case 'refused':
      return paint('red', 'refused')
    case 'depends':
      return paint('yellow', 'depends on the parts named above')
    default:
      return outcome satisfies never
  }
}
