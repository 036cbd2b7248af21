/** Reads a RateLimitPolicy (ratelimits.underpass.dev). */
import { Fields, Problems } from '../../shared/mesh/yaml-fields.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import { parseDuration } from '../../shared/runtime/env.ts'
import type { ConfigResource } from '../../shared/xds/config-resource.ts'
import {
  conditionOf,
  operationFields,
  sourceFields,
  type Attribute,
  type Place
} from '../authorization/attributes.ts'
import type { Test } from '../authorization/facts.ts'
import { isToken } from '../http1/characters.ts'
import { limitedList } from '../limited-list.ts'
import { readTargets } from '../policy-target.ts'
import { readKeyPart } from './key.ts'
import { scopes, type Rate, type RateLimit, type RateLimitPolicy } from './rate-limit.ts'

const mostLimits = 16
const mostKeyParts = 8
const mostValues = 64
const mostRequests = 1_000_000_000
const shortestMs = 50
const longestMs = 24 * 3_600_000
/** Units in which services that count are told a limit. */
export const globalUnitsMs: readonly number[] = [1000, 60_000, 3_600_000, longestMs]

/** Throws an Error that names every field that is wrong. */
export function readRateLimitPolicy(resource: ConfigResource, rootNamespace: string): RateLimitPolicy {
  const { namespace, name } = resource
  const problems = new Problems()
  const ignored = new Problems()
  const fields = new Fields(resource.spec, 'spec', problems)
  const targets = readTargets(fields, { namespace, rootNamespace, ignored })
  const place = { namespace, trustDomains: [] }
  const limits = limitedList(fields, ['limits', mostLimits], (value, path) =>
    readLimit(new Fields(value, path, problems), place)
  )
  const names = new Set(limits.map(({ name }) => name))
  if (names.size < limits.length) problems.add('spec.limits', 'has two limits of one name')
  const provider = fields.text('provider', '')
  if (provider === '' && limits.some(({ scope }) => scope === 'Global')) {
    problems.add('spec.provider', 'is required where a limit is Global: name an extension provider')
  }
  const policy: RateLimitPolicy = {
    ...{ namespace, name, targets, limits, provider },
    shadow: fields.flag('shadow', false),
    failOpen: fields.choice('onFailure', ['Allow', 'Deny'], 'Allow') === 'Allow',
    headers: fields.flag('headers', false),
    problems: ignored.found
  }
  fields.end()
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return policy
}

function readLimit(fields: Fields, place: Place): RateLimit {
  const index = /\d+(?=\]$)/.exec(fields.path)?.[0] ?? '0'
  const scope = fields.choice('scope', scopes, 'Local')
  const limit: RateLimit = {
    name: fields.text('name', index),
    rate: readRate(fields, scope === 'Global'),
    scope,
    key: limitedList(fields, ['key', mostKeyParts], (value, path) =>
      readKeyPart(new Fields(value, path, fields.problems))
    ),
    match: readMatch(fields.inner('match'), place)
  }
  fields.end()
  return limit
}

function readRate(fields: Fields, global: boolean): Rate {
  const { path, problems } = fields
  const requests = fields.integer('requests', 0, mostRequests)
  if (requests === 0) problems.add(`${path}.requests`, `expected a number from 1 to ${mostRequests}`)
  const per = fields.text('per')
  const perMs = parseDuration(per) ?? 0
  if (perMs < shortestMs || perMs > longestMs) {
    problems.add(`${path}.per`, `expected a duration from 50ms to 24h, found ${JSON.stringify(per)}`)
  } else if (global && !globalUnitsMs.includes(perMs)) {
    problems.add(`${path}.per`, `expected 1s, 1m, 1h or 24h for a Global limit, found ${JSON.stringify(per)}`)
  }
  const burst = fields.integer('burst', 0, mostRequests)
  if (global && burst > 0) problems.add(`${path}.burst`, 'is for Local limits only: leave it out')
  return { requests, perMs, burst: burst === 0 ? requests : burst }
}

const listed = new Map([
  ...(['paths', 'methods', 'hosts'] as const).map(name => [name, operationFields.get(name)] as const),
  ...(['namespaces', 'serviceAccounts'] as const).map(name => [name, sourceFields.get(name)] as const)
])

/** One test for each field that is there; of several values one has to fit. */
function readMatch(fields: Fields | undefined, place: Place): readonly Test[] {
  if (fields === undefined) return []
  const tests: Test[] = []
  for (const [name, attribute] of listed) {
    if (attribute !== undefined) tests.push(...anyOf(readValues(fields, name, { attribute, place })))
  }
  const headers = limitedList(fields, ['headers', mostValues], (value, path) =>
    readHeader(new Fields(value, path, fields.problems), place)
  )
  fields.end()
  return [...tests, ...headers]
}

function readHeader(fields: Fields, place: Place): Test | undefined {
  const name = fields.text('name').toLowerCase()
  const attribute = isToken(name) ? conditionOf(`request.headers[${name}]`) : 'is no name of a header'
  if (typeof attribute === 'string') {
    fields.problems.add(`${fields.path}.name`, attribute)
    return undefined
  }
  const [test] = anyOf(readValues(fields, 'values', { attribute, place }))
  fields.end()
  return test ?? attribute.test('*', place)
}

interface Meaning {
  readonly attribute: Attribute
  readonly place: Place
}

function readValues(fields: Fields, name: string, { attribute, place }: Meaning): readonly Test[] {
  return limitedList(fields, [name, mostValues], (value, path) => {
    try {
      if (typeof value === 'string' && value !== '') return attribute.test(value, place)
      fields.problems.add(path, 'expected a text that is not empty')
    } catch (error) {
      fields.problems.add(path, messageOf(error))
    }
    return undefined
  })
}

function anyOf(tests: readonly Test[]): readonly Test[] {
  return tests.length === 0 ? [] : [facts => tests.some(test => test(facts))]
}
