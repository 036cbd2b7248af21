/** One rule of a policy as tests. Source: Istio's published AuthorizationPolicy. */
import { described, Fields, type Problems } from '../../shared/mesh/yaml-fields.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { limitedList } from '../limited-list.ts'
import { conditionOf, operationFields, sourceFields, type Attribute, type Place } from './attributes.ts'
import type { Test } from './facts.ts'
import type { Action, PolicyRule } from './policy.ts'

export interface RuleContext {
  readonly id: string
  readonly action: Action
  readonly place: Place
  /** Takes what of the rule does not count; problems of the fields are for what nobody could mean. */
  readonly ignored: Problems
}

/** The most that a list may have: of rules, and of each part of a rule. */
export const longestList = 512
const mostAccounts = 16

interface Condition {
  /** `nothing`: an attribute that we do not know. */
  readonly of: Attribute['of'] | 'nothing'
  readonly test: Test
}

interface Parts {
  readonly from: readonly (readonly Condition[])[]
  readonly to: readonly (readonly Condition[])[]
  readonly when: readonly Condition[]
}

export function readRule(fields: Fields, { id, action, place, ignored }: RuleContext): PolicyRule {
  const parts = {
    from: readSources(fields, place),
    to: readOperations(fields, place),
    when: readConditions(fields, place, ignored)
  }
  fields.end()
  // External authorizers are asked before tokens are looked at.
  const ofRequests = action === 'CUSTOM' ? ['connection', 'request'] : ['connection', 'request', 'token']
  if (action === 'CUSTOM' && [...parts.from.flat(), ...parts.when].some(({ of }) => of === 'token')) {
    ignored.add(
      fields.path,
      'tokens are not known yet when CUSTOM is decided; conditions on them do not count'
    )
  }
  return {
    id,
    request: ruleTest(parts, action, ofRequests),
    connection: ruleTest(parts, action, ['connection'])
  }
}

/**
 * One of `from`, one of `to`, all of `when`. Where an attribute is not known, a rule that allows matches nothing, and
 * one that refuses matches whatever it would without that condition: either way less passes.
 */
function ruleTest({ from, to, when }: Parts, action: Action, known: readonly string[]): Test | undefined {
  const counts = ({ of }: Condition): boolean => known.includes(of)
  if (action === 'ALLOW' && ![...from.flat(), ...to.flat(), ...when].every(counts)) return undefined
  const joined = (conditions: readonly Condition[]): Test =>
    allOf(conditions.filter(counts).map(({ test }) => test))
  return allOf([anyOf(from.map(joined)), anyOf(to.map(joined)), joined(when)])
}

function readSources(rule: Fields, place: Place): Parts['from'] {
  return limitedList(rule, ['from', longestList], (value, path) => {
    const source = inside(new Fields(value, path, rule.problems), 'source')
    if (source === undefined) return undefined
    const conditions = readFields(source, sourceFields, place)
    const uses = (name: string): boolean => conditions.has(name)
    if (uses('serviceAccounts') && (uses('principals') || uses('namespaces'))) {
      source.problems.add(
        source.path,
        'serviceAccounts stand beside principals or namespaces: use one of the two'
      )
    }
    return [...conditions.values()].flat()
  })
}

function readOperations(rule: Fields, place: Place): Parts['to'] {
  return limitedList(rule, ['to', longestList], (value, path) => {
    const operation = inside(new Fields(value, path, rule.problems), 'operation')
    return operation && [...readFields(operation, operationFields, place).values()].flat()
  })
}

/** The only field of an entry. */
function inside(entry: Fields, name: string): Fields | undefined {
  const fields = entry.inner(name)
  entry.end()
  if (fields === undefined)
    entry.problems.add(`${entry.path}.${name}`, 'is required; leave the entry out for all')
  return fields
}

/** What each field asks for, by the name that it has without `not`. */
function readFields(
  fields: Fields,
  attributes: ReadonlyMap<string, Attribute>,
  place: Place
): ReadonlyMap<string, readonly Condition[]> {
  const found = new Map<string, readonly Condition[]>()
  for (const [name, attribute] of attributes) {
    const notName = `not${name.charAt(0).toUpperCase()}${name.slice(1)}`
    const conditions = readValues(fields, [name, notName], attribute, place)
    if (conditions.length > 0) found.set(name, conditions)
  }
  fields.end()
  if (found.size === 0) fields.problems.add(fields.path, 'is empty; leave the entry out for all')
  return found
}

function readConditions(rule: Fields, place: Place, ignored: Problems): readonly Condition[] {
  return limitedList(rule, ['when', longestList], (value, path): readonly Condition[] => {
    const fields = new Fields(value, path, rule.problems)
    const key = fields.text('key')
    const known = conditionOf(key)
    if (typeof known === 'string') ignored.add(`${path}.key`, known)
    const attribute = typeof known === 'string' ? { test: () => always } : known
    const conditions = readValues(fields, ['values', 'notValues'], attribute, place)
    fields.end()
    if (conditions.length === 0) fields.problems.add(path, `${key} needs values or notValues`)
    return conditions
  }).flat()
}

/** One of the first field's values, and none of the second's. */
function readValues(
  fields: Fields,
  [name, notName]: readonly [string, string],
  attribute: Pick<Attribute, 'test'> & Partial<Attribute>,
  place: Place
): readonly Condition[] {
  const { of = 'nothing', test } = attribute
  const testsOf = (list: string): readonly Test[] => {
    const tests = fields.list(list, (value, path) => {
      if (typeof value !== 'string' || value === '') {
        fields.problems.add(path, `expected text, found ${described(value)}`)
        return undefined
      }
      try {
        return test(value, place)
      } catch (error) {
        fields.problems.add(path, messageOf(error))
        return undefined
      }
    })
    if (/accounts$/i.test(list) && tests.length > mostAccounts) {
      fields.problems.add(`${fields.path}.${list}`, `has more than ${mostAccounts} entries: split the rule`)
    }
    return tests
  }
  const [values, notValues] = [testsOf(name), testsOf(notName)]
  const conditions: Condition[] = []
  if (values.length > 0) conditions.push({ of, test: anyOf(values) })
  if (notValues.length > 0) {
    const none = anyOf(notValues)
    conditions.push({ of, test: facts => !none(facts) })
  }
  return conditions
}

const always: Test = () => true

/** No tests: nothing was asked for. */
function anyOf(tests: readonly Test[]): Test {
  const [only = always] = tests
  if (tests.length <= 1) return only
  return facts => {
    for (const test of tests) if (test(facts)) return true
    return false
  }
}

function allOf(tests: readonly Test[]): Test {
  const asking = tests.filter(test => test !== always)
  const [only = always] = asking
  if (asking.length <= 1) return only
  return facts => {
    for (const test of asking) if (!test(facts)) return false
    return true
  }
}
