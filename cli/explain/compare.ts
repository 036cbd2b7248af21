/** Desired state against what agents hold: the parts of an explanation that must agree, and where they do not. */
import type { Explanation, ExplainResult } from '../../shared/mesh/explain.ts'

/** `source`: this agent decides the route. `destination`: this agent decides by the policies. */
export type Role = 'source' | 'destination'

/** What differs, one line each; empty when the agent would do what is desired. */
export function differences(desired: ExplainResult, held: ExplainResult, role: Role, node: string): string[] {
  if (held.kind === 'unknown') {
    return desired.kind === 'unknown' ? [] : [`the agent on ${node} does not know it: ${held.message}`]
  }
  if (desired.kind === 'unknown')
    return [`the agent on ${node} knows what the control plane does not: ${desired.message}`]
  if (role === 'source' && letsOnlyRegisteredPass(desired, held)) {
    return [`route on ${node}: this agent lets only registered destinations pass (REGISTRY_ONLY)`]
  }
  const [wanted, found] =
    role === 'source'
      ? [routeLines(desired), routeLines(held)]
      : [policyLines(desired, node), policyLines(held, node)]
  const what = role === 'source' ? 'route' : 'policies'
  return [
    ...wanted
      .filter(line => !found.includes(line))
      .map(line => `${what} on ${node}: desired but not held: ${line}`),
    ...found
      .filter(line => !wanted.includes(line))
      .map(line => `${what} on ${node}: held but not desired: ${line}`)
  ]
}

/** A setting of the agent, which the control plane does not know. */
function letsOnlyRegisteredPass(desired: Explanation, held: Explanation): boolean {
  const [hop] = held.legs.map(leg => leg.hop)
  return (
    hop?.kind === 'refused' && hop.reason === 'not-registered' && desired.legs[0]?.hop.kind === 'passthrough'
  )
}

/** Endpoints are told by their number: which one a connection takes is chance. */
function routeLines(explanation: Explanation): string[] {
  return explanation.legs.map(({ hop, arrivals }) => {
    const count = arrivals.reduce((sum, { alike }) => sum + 1 + alike, 0)
    switch (hop.kind) {
      case 'refused':
        return `refused: ${hop.message}`
      case 'hbone':
        return `HBONE to ${hop.through === 'destination' ? `one of ${count} endpoints` : `the ${hop.through}`}`
      case 'double-hbone':
        return `HBONE in HBONE to ${hop.to}`
      case 'plaintext':
      case 'passthrough':
        return `in the clear to ${count === 0 ? hop.to : `one of ${count} endpoints`}`
      default:
        return hop satisfies never
    }
  })
}

function policyLines(explanation: Explanation, node: string): string[] {
  return explanation.legs
    .flatMap(({ arrivals }) => arrivals)
    .filter(({ enforcedBy, nodes }) => enforcedBy === 'agent' && nodes.includes(node))
    .flatMap(({ verdict, policies, identity }) => [
      `${verdict?.kind ?? 'no verdict'}: ${verdict?.reason ?? ''} (for ${identity ?? 'clients without identity'})`,
      ...policies.map(
        ({ policy, action, matched, dryRun }) =>
          `${action}${dryRun ? ' (dry run)' : ''} ${policy} ${matched ? 'matches' : 'does not match'}`
      )
    ])
}
