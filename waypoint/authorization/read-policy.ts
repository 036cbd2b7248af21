/** Reads an AuthorizationPolicy that names its targets. Source: Istio's published definition (security.istio.io). */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import { limitedList } from '../limited-list.ts'
import { readTargets } from '../policy-target.ts'
import { actions, type Action, type L7Policy, type PolicyRule } from './policy.ts'
import { longestList, readRule } from './read-rule.ts'

export interface PolicyMesh {
  /** The mesh's own first, then its aliases. */
  readonly trustDomains: readonly string[]
  /** Where policies for all waypoints of a class stand. */
  readonly rootNamespace: string
}

/** Throws an Error that names every field that is wrong; what is right but does not count is among its problems. */
export function readAuthorizationPolicy(resource: ConfigResource, mesh: PolicyMesh): L7Policy {
  const { namespace, name, createdMs } = resource
  const { rootNamespace } = mesh
  const problems = new Problems()
  const ignored = new Problems()
  const fields = new Fields(resource.spec, 'spec', problems)
  const action = fields.choice('action', actions, 'ALLOW')
  const provider = fields.inner('provider')
  const providerName = provider?.text('name', '') ?? ''
  provider?.end()
  fields.inner('selector') // whoever has targets has no selector: the API server sees to it
  const targets = readTargets(fields, { namespace, rootNamespace, ignored })
  const place = { namespace, trustDomains: mesh.trustDomains }
  const rules = limitedList(fields, ['rules', longestList], (value, path) =>
    readRule(new Fields(value, path, problems), {
      id: ruleId(resource, { action, providerName, index: Number(/\d+/.exec(path)?.[0] ?? 0) }),
      action,
      place,
      ignored
    })
  )
  fields.end()
  const dryRun = isDryRun(resource, ignored)
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return {
    namespace,
    name,
    createdMs,
    action,
    provider: providerName,
    dryRun,
    targets,
    rules,
    problems: ignored.found
  }
}

/**
 * In place of a policy that cannot be read and is not known from before: where it may refuse, it refuses everything;
 * where it allows, it allows nothing.
 */
export function unreadablePolicy(resource: ConfigResource, mesh: PolicyMesh, reason: string): L7Policy {
  const { namespace, name, createdMs } = resource
  const { rootNamespace } = mesh
  const problems = new Problems()
  const fields = new Fields(resource.spec, 'spec', problems)
  const targets = readTargets(fields, { namespace, rootNamespace, ignored: new Problems() })
  const readable = problems.found.length === 0
  const action = fields.choice('action', actions, 'ALLOW') // of what is none of them it makes a DENY
  const id = ruleId(resource, { action, providerName: '', index: 0 })
  const everything: PolicyRule = { id, request: () => true, connection: () => true }
  return {
    namespace,
    name,
    createdMs,
    action,
    provider: '',
    dryRun: isDryRun(resource, new Problems()),
    targets: readable ? targets : [{ kind: 'everything' }],
    rules: action === 'DENY' || action === 'CUSTOM' ? [everything] : [],
    problems: [reason]
  }
}

interface RuleName {
  readonly action: Action
  readonly providerName: string
  readonly index: number
}

/** What Istio calls a rule, in its logs and in those of Envoy. */
function ruleId({ namespace, name }: ConfigResource, { action, providerName, index }: RuleName): string {
  const id = `ns[${namespace}]-policy[${name}]-rule[${index}]`
  if (action !== 'CUSTOM') return id
  const asked = providerName === '' ? '' : `${providerName}-`
  return `istio-ext-authz-${asked}${id}`
}

/** Source: Istio's published annotation. What is neither true nor false leaves the policy in force. */
function isDryRun({ annotations = {} }: ConfigResource, ignored: Problems): boolean {
  const text = annotations['istio.io/dry-run'] ?? 'false'
  if (/^(?:1|t|T|TRUE|true|True)$/.test(text)) return true
  if (!/^(?:0|f|F|FALSE|false|False)$/.test(text)) {
    ignored.add('istio.io/dry-run', `expected true or false, found ${JSON.stringify(text)}`)
  }
  return false
}
