/** RateLimitPolicy: what its definition in the API server cannot say. */
import type { Fields } from '../read/fields.ts'
import { durationOf } from './duration.ts'
import type { Findings } from './finding.ts'
import { checkSelection } from './selection.ts'

const shortest = 50e6
const longest = 24 * 3600e9
const globalUnits = [1e9, 60e9, 3600e9, longest]
const kinds = [
  'Principal',
  'Namespace',
  'ServiceAccount',
  'SourceIp',
  'Service',
  'Path',
  'Method',
  'Host',
  'Header',
  'Claim',
  'Constant'
] as const

export function validateRateLimitPolicy(object: Fields, findings: Findings): void {
  const spec = object.at('spec')
  checkSelection(spec, findings)
  if (spec.list('targetRefs').length === 0) {
    findings.error(spec.pathOf('targetRefs'), 'is empty', 'name a Service, a ServiceEntry or a Gateway')
  }
  const limits = spec.list('limits')
  if (limits.length === 0) {
    findings.error(
      spec.pathOf('limits'),
      'is empty',
      'say how many requests may come, such as requests and per'
    )
  }
  const names = new Map<string, number>()
  for (const [index, limit] of limits.entries()) {
    const name = limit.text('name', String(index))
    if (names.has(name)) {
      findings.error(limit.pathOf('name'), `${name} is the name of two limits`, 'give each a name of its own')
    }
    names.set(name, index)
    checkLimit(limit, findings)
  }
  const global = limits.some(limit => limit.text('scope') === 'Global')
  if (global && spec.text('provider') === '') {
    findings.error(
      spec.pathOf('provider'),
      'is missing, and a limit is Global',
      'name an extension provider of the mesh configuration'
    )
  }
}

function checkLimit(limit: Fields, findings: Findings): void {
  const global = limit.oneOf('scope', ['Local', 'Global'], 'Local') === 'Global'
  if (limit.whole('requests') === 0) {
    findings.error(
      limit.pathOf('requests'),
      'is missing or none',
      'write how many requests may come, 1 or more'
    )
  }
  const per = limit.text('per')
  const length = durationOf(per) ?? 0
  if (length < shortest || length > longest) {
    findings.error(
      limit.pathOf('per'),
      `${JSON.stringify(per)} is no time from 50ms to 24h`,
      'write it as 1s or 1m'
    )
  } else if (global && !globalUnits.includes(length)) {
    findings.error(limit.pathOf('per'), `a Global limit cannot be per ${per}`, 'use 1s, 1m, 1h or 24h')
  }
  if (global && limit.has('burst')) {
    findings.error(limit.pathOf('burst'), 'is for Local limits only', 'leave it out')
  }
  for (const part of limit.list('key')) checkKeyPart(part, findings)
  checkMatch(limit.at('match'), findings)
}

function checkKeyPart(part: Fields, findings: Findings): void {
  const type = part.oneOf('type', kinds, 'Principal')
  const [name, value] = [part.text('name'), part.text('value')]
  if (type === 'Header' && !isHeaderName(name)) {
    findings.error(
      part.pathOf('name'),
      `${JSON.stringify(name)} is no header name`,
      'use letters, digits, - and _'
    )
  }
  if (type === 'Claim' && name.split('.').includes('')) {
    findings.error(
      part.pathOf('name'),
      `${JSON.stringify(name)} names no claim`,
      'write it as sub or realm.role'
    )
  }
  if (type === 'Constant' && value === '') {
    findings.error(part.pathOf('value'), 'is missing', 'write the constant')
  }
}

function checkMatch(match: Fields, findings: Findings): void {
  for (const name of ['paths', 'methods', 'hosts', 'namespaces', 'serviceAccounts']) {
    checkValues(match, name, findings)
  }
  for (const header of match.list('headers')) {
    const name = header.text('name')
    if (!isHeaderName(name)) {
      findings.error(
        header.pathOf('name'),
        `${JSON.stringify(name)} is no header name`,
        'use letters, digits, - and _'
      )
    }
    checkValues(header, 'values', findings)
  }
}

function checkValues(holder: Fields, name: string, findings: Findings): void {
  for (const [index, text] of holder.texts(name).entries()) {
    if (text !== '') continue
    findings.error(`${holder.pathOf(name)}[${index}]`, 'is empty', 'write a value or leave it out')
  }
}

function isHeaderName(text: string): boolean {
  return /^[-\w!#$%&'*+.^`|~]+$/.test(text)
}
