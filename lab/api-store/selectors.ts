/** Label and field selectors, as text in requests and as objects in specs. */
import { badRequest } from './api-error.ts'
import { at, isObject, listOf, objectOf, scalarText, textOf } from './json.ts'
import type { ApiObject } from './object.ts'

export type Match = (object: ApiObject) => boolean
export type Labels = Readonly<Record<string, string>>

type Requirement = (labels: Labels) => boolean

/** Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Throws 400. */
export function parseLabelSelector(text: string): (labels: Labels) => boolean {
  const requirements = splitOutsideParentheses(text)
    .map(part => part.trim())
    .filter(part => part !== '')
    .map(readRequirement)
  return labels => requirements.every(requirement => requirement(labels))
}

const labelKey = /^([a-zA-Z0-9.-]+\/)?[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?$/
const labelValue = /^([a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?)?$/

function readRequirement(text: string): Requirement {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text)
  if (set !== null) {
    const [, key = '', operator, list = ''] = set
    const values = new Set(list.split(',').map(value => checked(value.trim(), labelValue, text)))
    checked(key, labelKey, text)
    return operator === 'in'
      ? labels => Object.hasOwn(labels, key) && values.has(labels[key] ?? '')
      : labels => !Object.hasOwn(labels, key) || !values.has(labels[key] ?? '')
  }
  const equality = /^([^=!<>\s]+)\s*(==?|!=)\s*([^=!\s]*)$/.exec(text)
  if (equality !== null) {
    const [, key = '', operator, value = ''] = equality
    checked(key, labelKey, text)
    checked(value, labelValue, text)
    return operator === '!=' ? labels => labels[key] !== value : labels => labels[key] === value
  }
  const comparison = /^([^=!<>\s]+)\s*([<>])\s*(-?\d+)$/.exec(text)
  if (comparison !== null) {
    const [, key = '', operator, bound = ''] = comparison
    return labels => {
      const value = Number(labels[key] ?? 'none')
      return operator === '>' ? value > Number(bound) : value < Number(bound)
    }
  }
  const absent = text.startsWith('!')
  const key = checked(absent ? text.slice(1).trim() : text, labelKey, text)
  return labels => Object.hasOwn(labels, key) !== absent
}

function checked(part: string, form: RegExp, whole: string): string {
  if (!form.test(part)) throw badRequest(`unable to parse requirement: "${whole}" is not a label selector`)
  return part
}

function splitOutsideParentheses(text: string): string[] {
  return text.match(/(?:[^,(]|\([^)]*\)?)+/g) ?? []
}

/** Evaluates a LabelSelector object; an empty one matches everything. */
export function matchesSelector(selector: unknown, labels: Labels): boolean {
  const { matchLabels, matchExpressions } = objectOf(selector)
  return (
    Object.entries(objectOf(matchLabels)).every(([key, value]) => labels[key] === value) &&
    listOf(matchExpressions).every(expression => matchesExpression(objectOf(expression), labels))
  )
}

function matchesExpression(expression: Readonly<Record<string, unknown>>, labels: Labels): boolean {
  const key = textOf(expression['key'])
  const present = Object.hasOwn(labels, key)
  const listed = listOf(expression['values']).includes(labels[key])
  switch (expression['operator']) {
    case 'In':
      return present && listed
    case 'NotIn':
      return !present || !listed
    case 'Exists':
      return present
    case 'DoesNotExist':
      return !present
    default:
      return false
  }
}

/** A LabelSelector object, or a plain map of labels, as text. */
export function formatLabelSelector(selector: unknown): string {
  if (!isObject(selector)) return ''
  const { matchLabels, matchExpressions } = selector
  if (matchLabels === undefined && matchExpressions === undefined) return formatLabels(selector)
  const expressions = listOf(matchExpressions).map(expression => {
    const { key, operator, values } = objectOf(expression)
    if (operator === 'Exists') return textOf(key)
    if (operator === 'DoesNotExist') return `!${textOf(key)}`
    return `${textOf(key)} ${textOf(operator).toLowerCase()} (${listOf(values).join(',')})`
  })
  return [formatLabels(matchLabels), ...expressions].filter(part => part !== '').join(',')
}

function formatLabels(labels: unknown): string {
  return Object.entries(objectOf(labels))
    .map(([key, value]) => `${key}=${String(value)}`)
    .toSorted()
    .join(',')
}

/**
 * Reads `metadata.name=x,spec.nodeName!=y`. Throws 400 for a field that the resource does not offer.
 * A field that is absent equals the empty text.
 */
export function parseFieldSelector(text: string, fields: readonly string[]): Match {
  const terms = text
    .split(',')
    .filter(term => term.trim() !== '')
    .map(term => {
      const [, field = '', operator, value = ''] = /^([^=!]+)(==?|!=)(.*)$/.exec(term.trim()) ?? []
      if (operator === undefined) {
        throw badRequest(`invalid selector: '${text}'; can't understand '${term}'`)
      }
      if (!['metadata.name', 'metadata.namespace', ...fields].includes(field)) {
        throw badRequest(`field label not supported: ${field}`)
      }
      return { path: field.split('.'), value, wanted: operator !== '!=' }
    })
  return object => terms.every(({ path, value, wanted }) => (fieldText(object, path) === value) === wanted)
}

function fieldText(object: ApiObject, path: readonly string[]): string {
  // Events name their reporter in one of two places
  if (path[0] === 'source') {
    return textOf(at(object, 'source', 'component')) || textOf(object['reportingComponent'])
  }
  const value = at(object, ...path)
  return value === undefined || value === null
    ? path[0] === 'spec' && path[1] === 'unschedulable'
      ? 'false'
      : ''
    : scalarText(value)
}
