/** Names and values of HTTP headers (RFC 9110 section 5) that a proxy sets, and the variables in them. */
import type { Fields } from '../read/fields.ts'
import type { Findings, Problem } from './finding.ts'

const token = /^[!#$%&'*+\-.^_`|~A-Za-z0-9]+$/
const pseudo = new Set([':method', ':scheme', ':authority', ':path', ':status'])

const isAuthority = (name: string): boolean => /^(?::authority|host)$/i.test(name)

export function headerName(name: string): Problem | undefined {
  if (token.test(name)) return undefined
  return { message: `${JSON.stringify(name)} is no header name`, remedy: 'use letters, digits and dashes' }
}

/** A header to match: one of a request, a pseudo-header of HTTP/2, or a claim of a token. */
export function matchedHeader(name: string): Problem | undefined {
  return isClaim(name) || pseudo.has(name) ? undefined : headerName(name)
}

/** `@request.auth.claims.name` or `@request.auth.claims[name]`. */
export function isClaim(name: string): boolean {
  return /^@request\.auth\.claims(?:\..+|\[.+\])$/is.test(name)
}

/** `headers` of a route or of one of its destinations. */
export function checkHeaderOperations(holder: Fields, findings: Findings): void {
  for (const side of ['request', 'response'] as const) {
    const operations = holder.at('headers').at(side)
    for (const way of ['set', 'add']) {
      for (const [name, value] of Object.entries(operations.labels(way))) {
        const field = `${operations.pathOf(way)}.${name}`
        findings.check(field, changedHeader(name, side === 'request'))
        findings.check(field, headerValue(value))
      }
    }
    for (const [index, name] of operations.texts('remove').entries()) {
      findings.check(`${operations.pathOf('remove')}[${index}]`, changedHeader(name, false))
    }
  }
}

function changedHeader(name: string, mayBeAuthority: boolean): Problem | undefined {
  if (name === '') return { message: 'a header has no name', remedy: 'name it' }
  if (
    mayBeAuthority ? isAuthority(name) || !name.startsWith(':') : !name.startsWith(':') && !isAuthority(name)
  ) {
    return undefined
  }
  return {
    message: `${JSON.stringify(name)} cannot be changed here`,
    remedy: 'set the authority by request.set or by rewrite; other pseudo-headers belong to the proxy'
  }
}

/** A request has one authority: it may be written in one place only. */
export function checkAuthority(route: Fields, findings: Findings): void {
  const request = route.at('headers').at('request')
  const places = [
    ...(route.at('rewrite').text('authority') === '' ? [] : [route.at('rewrite').pathOf('authority')]),
    ...['set', 'add'].flatMap(way =>
      Object.keys(request.labels(way))
        .filter(isAuthority)
        .map(name => `${request.pathOf(way)}.${name}`)
    )
  ]
  const [, second] = places
  if (second !== undefined) {
    findings.error(second, `the authority is written by ${places[0]} already`, 'keep one of them')
  }
}

/**
 * Text with variables, as Envoy reads it: `%NAME%`, `%NAME(argument)%` or `%NAME(["a", "b"])%`; `%%` is a
 * percent sign. Which names there are is for the proxy to know.
 */
export function headerValue(value: string): Problem | undefined {
  // eslint-disable-next-line no-control-regex -- which are just what a header may not hold
  if (/[\u0000-\u0008\u000a-\u001f\u007f]/.test(value)) {
    return { message: 'holds control characters', remedy: 'leave them out' }
  }
  const list = String.raw`\[ *(?:"(?:\\.|[^"\\)])*" *(?:, *"(?:\\.|[^"\\)])*" *)*)?\] *`
  const argument = String.raw`\( *(?:${list}|[^[ )](?:\\.|[^\\)])*)\) *`
  const variable = new RegExp(String.raw`^(?:%%|[^%]|%[^%(]+(?:${argument})?%)*$`, 's')
  if (variable.test(value)) return undefined
  return { message: `${JSON.stringify(value)} has an unfinished variable`, remedy: 'write % as %%' }
}
