/** Tests of the claims of a verified token; without one none holds. Source: Istio's published AuthorizationPolicy conditions. */
import { claimAt } from '../jwt/claims.ts'
import type { Test } from './facts.ts'
import { textPattern, type TextTest } from './text-pattern.ts'

const anything = textPattern('*')
const issuerClaim = ['iss']
const subjectClaim = ['sub']

/** Patterns of `<issuer>/<subject>`; issuers are URLs, so that the last slash parts them. */
export function requestPrincipalTest(value: string): Test {
  const { issuer, subject } = principalParts(value)
  return ({ http }) =>
    matchesText(claimAt(http?.claims, issuerClaim), issuer) &&
    matchesText(claimAt(http?.claims, subjectClaim), subject)
}

/** A claim below these names: a text, or a list where one text suffices. Numbers and booleans never match. */
export function claimTest(names: readonly string[], value: string): Test {
  const matches = textPattern(value)
  return ({ http }) => {
    const found = claimAt(http?.claims, names)
    return Array.isArray(found) ? found.some(one => matchesText(one, matches)) : matchesText(found, matches)
  }
}

/** The names in `[a][b]`; brackets that do not pair are part of one name. Undefined when there is none. */
export function namesInBrackets(text: string): readonly string[] | undefined {
  if (/^(?:\[[^[\]]+\])+$/.test(text)) return text.slice(1, -1).split('][')
  return /^\[.+\]$/s.test(text) ? [text.slice(1, -1)] : undefined
}

function principalParts(value: string): { readonly issuer: TextTest; readonly subject: TextTest } {
  const slash = value.lastIndexOf('/')
  if (value === '*') return { issuer: anything, subject: anything }
  if (slash >= 0) {
    const [issuer, subject] = [value.slice(0, slash), value.slice(slash + 1)]
    // One wildcard counts: that of the issuer, if it has one.
    if (issuer.startsWith('*')) return { issuer: textPattern(issuer), subject: exactly(subject) }
    return {
      issuer: exactly(issuer),
      subject: subject.endsWith('*') ? startingLike(subject) : exactly(subject)
    }
  }
  if (value.startsWith('*')) return { issuer: anything, subject: textPattern(value) }
  if (value.endsWith('*')) return { issuer: textPattern(value), subject: anything }
  return { issuer: exactly(value), subject: exactly('') }
}

function startingLike(value: string): TextTest {
  if (value === '*') return anything
  const prefix = value.slice(0, -1)
  return text => text.startsWith(prefix)
}

function exactly(value: string): TextTest {
  return text => text === value
}

function matchesText(value: unknown, matches: TextTest): boolean {
  return typeof value === 'string' && matches(value)
}
